"""A scheduler together with its plan and all that it has asked for, to write examples with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from pipeline.executors.events import Action, Event
from pipeline.executors.schedule import Limits, Scheduler

A = TypeVar("A", bound=Action)


class Run:
    """The units u0, u1, ... have the given chunks; loads have room unless the limits say otherwise."""

    def __init__(self, *units: tuple[int, ...], up: bool = True, **limits: int) -> None:
        roomy = {"actors": 1, "loads": 99, "bytes_cap": 10_000, "bytes_row": 1} | limits
        self.plan = [WorkUnit(f"u{n}", "part", 0, sum(rows), rows) for n, rows in enumerate(units)]
        self.scheduler = Scheduler(Limits(**roomy))
        self.actions: list[Action] = []
        self._enter(self.scheduler.start())
        for slot in range(roomy["actors"] if up else 0):
            self.tell(ev.ActorUp(slot, 0))

    def tell(self, *events: Event) -> list[Action]:
        """All the actions that follow from these events; the plan answers for itself."""
        before = len(self.actions)
        for event in events:
            self._enter(self.scheduler.handle(event))
        return self.actions[before:]

    def _enter(self, actions: list[Action]) -> None:
        self.actions += actions
        for action in actions:
            if isinstance(action, ev.NeedUnits):
                given, self.plan = tuple(self.plan[: action.count]), self.plan[action.count :]
                self._enter(self.scheduler.handle(ev.UnitsPlanned(given) if given else ev.PlanExhausted()))

    def all(self, kind: type[A]) -> list[A]:
        return only(kind, self.actions)

    def load_all(self) -> None:
        """Answer every load so far that has no answer yet."""
        for load in self.all(ev.StartLoad):
            self.tell(ev.LoadDone(load.task, load.reserved))

    def predict_all(self) -> None:
        done = 0
        while len(predicts := self.all(ev.StartPredict)) > done:
            self.tell(ev.PredictDone(predicts[done].task))
            done += 1

    def commit_all(self) -> None:
        for commit in self.all(ev.StartCommit):
            self.tell(ev.CommitDone(commit.task))

    def finish(self) -> None:
        """Answer everything well until the run is over."""
        while not self.all(ev.Finished):
            self.load_all()
            self.predict_all()
            self.commit_all()


def only(kind: type[A], actions: Iterable[Action]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def where(tasks: Iterable[ev.StartLoad] | Iterable[ev.StartPredict]) -> list[tuple[str, int]]:
    return [(task.unit.unit_id, task.chunk) for task in tasks]
