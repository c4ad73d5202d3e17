"""What to start, retry, replace or quarantine next: a state machine without clock, I/O or Ray."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.executors.events import Action, Event


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may go on at once, and how often a thing may fail."""

    actors: int
    loads: int  # load tasks at once
    bytes_cap: int  # of images in the object store, loading ones included
    bytes_row: int  # that one row's images take, as planned; larger results raise the estimate
    in_flight_per_actor: int = 2  # one runs while the next one's images are fetched
    open_units: int = 64
    max_attempts: int = (
        3  # of a unit, before it is quarantined; of the quarantined commit, before the run gives up
    )
    max_actor_deaths: int = 3  # blamed on one unit before it is quarantined
    max_reloads: int = 3  # chunks of one attempt whose images were lost, before the attempt fails
    max_actor_starts: int = 3  # failed starts in a row before a slot is closed; all closed: the run gives up
    max_actor_timeouts: int = 2  # unit deadlines in a row that an actor lets pass before it is replaced


class Scheduler:
    """Events in, actions out. The caller carries out the actions in order and reports what becomes of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def start(self) -> list[Action]:
        """The first actions: the actors and the first units."""
        raise NotImplementedError

    def handle(self, event: Event) -> list[Action]:
        """What to do now that `event` has happened."""
        raise NotImplementedError
