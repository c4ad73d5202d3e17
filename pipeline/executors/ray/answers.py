"""What the engine waits for, and the scheduler's event for each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray import ObjectRef

from pipeline.executors import events as ev
from pipeline.executors.ray.actors import Life
from pipeline.executors.ray.failures import Blame, Failure
from pipeline.executors.ray.work import Loaded


@dataclass(frozen=True, slots=True)
class Loading:
    """A load task: its answer is the size of the chunk."""

    task: int
    chunk: ObjectRef[Loaded]

    def __str__(self) -> str:
        return f"load {self.task}"

    def done(self, nbytes: int) -> ev.Event:
        return ev.LoadDone(self.task, nbytes)

    def failed(self, failure: Failure) -> ev.Event:
        return ev.LoadFailed(self.task, failure.reason)


@dataclass(frozen=True, slots=True)
class Predicting:
    """A chunk at an actor: the answer says which process predicted how many rows."""

    task: int
    slot: int
    generation: int
    parts: ObjectRef[Any]

    def __str__(self) -> str:
        return f"predict {self.task} at actor {self.slot}"

    def done(self, life: Life) -> ev.Event:
        return ev.PredictDone(self.task)

    def failed(self, failure: Failure) -> ev.Event:
        if failure.blame is Blame.ACTOR:
            return ev.ActorLost(self.slot, self.generation, failure.reason)
        return ev.PredictFailed(self.task, failure.reason, input_lost=failure.blame is Blame.INPUT)


@dataclass(frozen=True, slots=True)
class Committing:
    """A commit or quarantine task: its answer is the report."""

    task: int
    unit_id: str

    def __str__(self) -> str:
        return f"commit of unit {self.unit_id}"

    def done(self, report: Any) -> ev.Event:
        return ev.CommitDone(self.task)

    def failed(self, failure: Failure) -> ev.Event:
        return ev.CommitFailed(self.task, failure.reason)


@dataclass(frozen=True, slots=True)
class Warming:
    """An actor that makes its networks."""

    slot: int
    generation: int

    def __str__(self) -> str:
        return f"actor {self.slot}"

    def done(self, life: Life) -> ev.Event:
        return ev.ActorUp(self.slot, self.generation)

    def failed(self, failure: Failure) -> ev.Event:
        return ev.ActorLost(self.slot, self.generation, failure.reason)


Awaited = Loading | Predicting | Committing | Warming


def event_of(awaited: Awaited, answer: Any) -> ev.Event:
    """The event for an answer: the value that the task returned, or a Failure."""
    return awaited.failed(answer) if isinstance(answer, Failure) else awaited.done(answer)


def stops_the_run(awaited: Awaited, failure: Failure) -> bool:
    """A RunError does, and a bug; but what fails the start of an actor may be one machine's fault."""
    if failure.blame is Blame.RUN:
        return True
    return failure.blame is Blame.BUG and not isinstance(awaited, Warming)
