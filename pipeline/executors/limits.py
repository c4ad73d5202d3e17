"""What a run may use, how often a thing in it may fail, and what has happened. Part of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

ROUNDS = 2  # of chunks that one of several drivers holds, for each that it can have under way
IN_FLIGHT = 2  # tasks an actor: one runs while the next one's images are fetched


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may go on at once, and how often a thing may fail. Raises ValueError for anything below 1."""

    actors: int
    loads: int  # load tasks at once
    bytes_cap: int  # of images in the object store, those under way included
    bytes_row: int  # that one row's images take, as planned; larger results raise the estimate
    in_flight_per_actor: int = IN_FLIGHT
    open_units: int = 64
    max_attempts: int = 3  # of a unit before its quarantine, and of the quarantining commit before GiveUp
    max_actor_deaths: int = 3  # blamed on one unit before it is quarantined
    max_reloads: int = 3  # chunks of one attempt whose images were lost, before the attempt fails
    max_actor_starts: int = 3  # failed starts in a row before a slot is closed
    max_actor_timeouts: int = 2  # unit deadlines in a row that an actor lets pass before it is replaced

    def __post_init__(self) -> None:
        wrong = [name for name in self.__slots__ if getattr(self, name) < 1]
        if wrong:
            raise ValueError(f"expected at least 1 for {', '.join(wrong)}, got {self}")


@dataclass(slots=True)
class Counts:
    """What has happened in the run so far, for the log and the summary."""

    committed: int = 0  # units, quarantined ones not included
    quarantined: int = 0  # units
    failed_attempts: int = 0
    reloads: int = 0
    actor_deaths: int = 0


def evenly(whole: int, number: int, of: int) -> int:
    """The part of `whole` that is number `number` of so many; the parts differ by one at most."""
    return whole * (number + 1) // of - whole * number // of
