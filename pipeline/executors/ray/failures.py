"""What an exception out of Ray means for the run: whom it stops, and why in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ray import exceptions as rex

from pipeline.errors import RunError, UnitError

REASON_LENGTH = 300  # characters; Ray's messages run to pages


class Blame(Enum):
    INPUT = auto()  # the images are gone: load them again
    ACTOR = auto()  # the actor is dead for good
    UNIT = auto()  # try the unit again
    BUG = auto()  # nothing that this code expects
    RUN = auto()  # a RunError


@dataclass(frozen=True)
class Failure:
    blame: Blame
    reason: str
    error: Exception  # to raise, where it stops the run


# The tree of errors.py, and what the machines under a task may do to it. Ray retries the latter by itself first.
_UNIT_ERRORS = (
    UnitError,
    OSError,
    MemoryError,
    rex.ActorUnavailableError,
    rex.LocalRayletDiedError,
    rex.NodeDiedError,
    rex.ObjectStoreFullError,
    rex.OutOfDiskError,
    rex.OutOfMemoryError,
    rex.TaskCancelledError,
    rex.WorkerCrashedError,
)
_BLAMES: tuple[tuple[Blame, tuple[type[Exception], ...]], ...] = (
    (Blame.RUN, (RunError,)),
    (Blame.INPUT, (rex.ObjectLostError,)),
    (Blame.ACTOR, (rex.ActorDiedError,)),
    (Blame.UNIT, _UNIT_ERRORS),
)


def failure(error: Exception) -> Failure:
    """The outermost error that has a known meaning decides."""
    for cause in _unwrapped(error):
        for blame, kinds in _BLAMES:
            if isinstance(cause, kinds):
                return Failure(blame, _reason(cause), _own(cause))
    return Failure(Blame.BUG, _reason(error), error)


def _unwrapped(error: Exception) -> Iterator[Exception]:
    """The error and what Ray wrapped in it: a task whose argument failed fails with that failure as its cause."""
    current: Any = error
    while isinstance(current, Exception):
        yield current
        current = current.cause if isinstance(current, rex.RayTaskError) else None


def _own(error: Exception) -> Exception:
    """The task's own exception, out of Ray's wrapper."""
    cause = error.cause if isinstance(error, rex.RayTaskError) else None
    return cause if isinstance(cause, Exception) else error


def _reason(error: Exception) -> str:
    own = _own(error)
    lines = " ".join(str(own).split())
    return f"{type(own).__name__}: {lines}"[:REASON_LENGTH].rstrip(": ")
