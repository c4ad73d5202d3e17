"""What a scheduler was told and has asked for, kept apart from the scheduler's own books, and the rules."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from pipeline.data import WorkUnit
from pipeline.executors import events as ev
from pipeline.executors.events import Action, Event
from pipeline.executors.schedule import Limits

Started = ev.StartLoad | ev.StartPredict | ev.StartCommit
S = TypeVar("S", ev.StartLoad, ev.StartPredict, ev.StartCommit)


@dataclass(frozen=True)
class Held:
    """A result that the executor keeps."""

    unit_id: str
    chunk: int
    images: bool  # else predictions
    bytes: int = 0
    reserved: int = 0


@cache
def method_of(kind: str) -> str:
    """The method of `Accounts` for a kind of event or action: LoadDone -> _load_done."""
    return re.sub("([A-Z])", r"_\1", kind).lower()


class Accounts:
    """Enters each event (`happened`) and action (`done`), and checks the whole after each event (`check`)."""

    def __init__(self, limits: Limits, units: Sequence[WorkUnit]) -> None:
        self.limits = limits
        self.units = {unit.unit_id: unit for unit in units}
        self.event: Event | None = None
        self.asked = 0
        self.open: set[str] = set()  # given to the scheduler and not committed
        self.begun: set[str] = set()
        self.committed: dict[str, bool] = {}  # unit -> quarantined
        self.effects: set[str] = set()  # units that are on disk
        self.started: list[Started] = []  # task n at n - 1
        self.running: dict[int, Started] = {}  # and not cancelled
        self.held: dict[int, Held] = {}
        self.late: set[int] = set()  # held, and nobody waits for it
        self.lost: set[int] = set()  # loads whose images are gone
        self.cancelled_commits = 0  # by the last event
        self.deadlines: dict[str, int] = {}  # unit -> attempt
        self.failures: Counter[str] = Counter()  # of attempts
        self.reloads: Counter[tuple[str, int]] = Counter()  # in an attempt
        self.quarantine_failures: Counter[str] = Counter()
        self.blamed: Counter[str] = Counter()  # deaths of actors
        self.poisoned: Counter[str] = Counter()
        self.generation: dict[int, int] = {}
        self.starting: set[int] = set()
        self.up: set[int] = set()
        self.failed_starts: Counter[int] = Counter()  # in a row
        self.queues: dict[int, list[int]] = {slot: [] for slot in range(limits.actors)}
        self.bytes_row: float = limits.bytes_row
        self.stopped = self.abandoned = self.exhausted = self.over = self.gave_up = False

    def happened(self, event: Event) -> None:
        self.event = event
        self.cancelled_commits = 0
        getattr(self, method_of(type(event).__name__))(event)

    def done(self, action: Action) -> None:
        assert not self.over or isinstance(action, ev.Drop), f"{action} after the end"
        getattr(self, method_of(type(action).__name__))(action)

    def _units_planned(self, event: ev.UnitsPlanned) -> None:
        self.asked = 0
        if not self.stopped:
            self.open |= {unit.unit_id for unit in event.units}

    def _plan_exhausted(self, _: ev.PlanExhausted) -> None:
        self.asked, self.exhausted = 0, True

    def _actor_up(self, event: ev.ActorUp) -> None:
        if event.generation == self.generation[event.slot] and event.slot in self.starting:
            self.starting.remove(event.slot)
            self.up.add(event.slot)
            self.failed_starts[event.slot] = 0

    def _actor_lost(self, event: ev.ActorLost) -> None:
        slot = event.slot
        if event.generation != self.generation[slot]:
            return
        if slot in self.up:
            self.up.remove(slot)
            if queue := self.queues[slot]:
                unit_id = self.running[queue[0]].unit.unit_id
                self.blamed[unit_id] += 1
                if self.blamed[unit_id] == self.limits.max_actor_deaths:
                    self._attempt_failed(unit_id)
        elif slot in self.starting:
            self.starting.remove(slot)
            self.failed_starts[slot] += 1

    def _result(self, event: ev.LoadDone | ev.PredictDone) -> None:
        task = self.started[event.task - 1]
        if event.task in self.held:
            return
        if event.task not in self.running:
            self.late.add(event.task)
        elif isinstance(event, ev.LoadDone) and isinstance(task, ev.StartLoad):
            self.bytes_row = max(self.bytes_row, event.bytes / task.unit.chunks[task.chunk])
        self._end(event.task)
        assert not isinstance(task, ev.StartCommit)
        if isinstance(event, ev.LoadDone) and isinstance(task, ev.StartLoad):
            self.held[event.task] = Held(task.unit.unit_id, task.chunk, True, event.bytes, task.reserved)
        else:
            self.held[event.task] = Held(task.unit.unit_id, task.chunk, False)

    _load_done = _predict_done = _result

    def _failed(self, event: ev.LoadFailed | ev.PredictFailed | ev.CommitFailed) -> None:
        task = self._end(event.task)
        if task is None:
            return
        unit_id = task.unit.unit_id
        if isinstance(task, ev.StartCommit):
            self.quarantine_failures[unit_id] += task.quarantined
        if isinstance(task, ev.StartPredict) and isinstance(event, ev.PredictFailed) and event.input_lost:
            self.lost.add(task.load)
            self.reloads[unit_id, task.attempt] += 1
            if self.reloads[unit_id, task.attempt] <= self.limits.max_reloads:
                return
        self._attempt_failed(unit_id)

    _load_failed = _predict_failed = _commit_failed = _failed

    def _attempt_failed(self, unit_id: str) -> None:
        self.failures[unit_id] += 1
        self.deadlines.pop(unit_id, None)

    def _commit_done(self, event: ev.CommitDone) -> None:
        task = self._end(event.task)
        if isinstance(task, ev.StartCommit):
            unit_id = task.unit.unit_id
            assert unit_id not in self.committed, f"{unit_id} was committed twice"
            self.committed[unit_id] = task.quarantined
            self.open.remove(unit_id)
            del self.deadlines[unit_id]

    def _deadline_passed(self, event: ev.DeadlinePassed) -> None:
        if self.deadlines.get(event.unit_id) != event.attempt:
            return
        commits = [task for task in self.under_way(ev.StartCommit) if task.unit.unit_id == event.unit_id]
        self.quarantine_failures[event.unit_id] += any(task.quarantined for task in commits)
        if self.up or commits:
            self._attempt_failed(event.unit_id)
        else:  # without an actor, more time
            del self.deadlines[event.unit_id]

    def _stop(self, event: ev.Stop) -> None:
        self.stopped = True
        self.abandoned |= event.now
        committing = {task.unit.unit_id for task in self.under_way(ev.StartCommit)}
        self.open &= committing if self.abandoned else self.begun
        if self.abandoned:
            self.deadlines = {unit: n for unit, n in self.deadlines.items() if unit in committing}

    def _end(self, number: int) -> Started | None:
        """The task is over, if it was running."""
        task = self.running.pop(number, None)
        if isinstance(task, ev.StartPredict):
            self.queues[task.slot].remove(number)
        return task

    def _need_units(self, action: ev.NeedUnits) -> None:
        assert not (self.asked or self.stopped or self.exhausted), "units are not needed"
        assert 1 <= action.count <= self.limits.open_units - len(self.open), "too many units"
        self.asked = action.count

    def _start_actor(self, action: ev.StartActor) -> None:
        assert action.slot not in self.up | self.starting, f"slot {action.slot} has an actor"
        assert action.generation == self.generation.get(action.slot, -1) + 1
        self.generation[action.slot] = action.generation
        self.starting.add(action.slot)

    def _stop_actor(self, action: ev.StopActor) -> None:
        assert isinstance(self.event, ev.DeadlinePassed), "an actor is stopped without a reason"
        assert action.slot in self.up and action.generation == self.generation[action.slot]
        self.up.remove(action.slot)

    def _start_task(self, action: Started) -> None:
        unit_id = action.unit.unit_id
        self.started.append(action)
        assert action.task == len(self.started), f"task numbers do not rise by one: {action}"
        assert unit_id in self.open, f"{unit_id} is not open"
        assert action.attempt == self.deadlines.get(unit_id), f"{unit_id} works without a deadline"
        assert action.attempt == 1 + self.failures[unit_id], f"{unit_id} failed {self.failures[unit_id]} times"
        assert not self.abandoned, "nothing more is to start"
        assert not self.committing(unit_id), f"{unit_id} is being committed"
        self.running[action.task] = action
        self.begun.add(unit_id)

    def _start_load(self, action: ev.StartLoad) -> None:
        key = (action.unit.unit_id, action.chunk)
        assert key not in self.chunks_under_way(), f"{key} is loaded already"
        assert action.reserved >= math.ceil(action.unit.chunks[action.chunk] * self.bytes_row)
        in_use = self.bytes_in_use()
        assert in_use == 0 or in_use + action.reserved <= self.limits.bytes_cap, "a load beyond the cap"
        self._start_task(action)
        assert len(self.under_way(ev.StartLoad)) <= self.limits.loads, "too many loads"

    def _start_predict(self, action: ev.StartPredict) -> None:
        self._start_task(action)
        assert action.slot in self.up and action.generation == self.generation[action.slot], "no such actor"
        assert action.load not in self.lost, "predicted from lost images"
        images = self.held[action.load]
        assert (images.unit_id, images.chunk, images.images) == (action.unit.unit_id, action.chunk, True)
        assert sum(task.load == action.load for task in self.under_way(ev.StartPredict)) == 1, "predicted twice at once"
        queue = self.queues[action.slot]
        queue.append(action.task)
        assert len(queue) <= self.limits.in_flight_per_actor, "too many tasks for one actor"

    def _start_commit(self, action: ev.StartCommit) -> None:
        unit = action.unit
        self._start_task(action)
        assert unit.unit_id not in self.committed, f"{unit.unit_id} would be committed twice"
        if action.quarantined:
            tried = action.attempt > self.limits.max_attempts
            assert tried or self.blamed[unit.unit_id] >= self.limits.max_actor_deaths, "quarantined too early"
            assert action.reason and not action.parts
            return
        parts = [self.held[part] for part in action.parts]
        assert [(part.unit_id, part.chunk, part.images) for part in parts] == [
            (unit.unit_id, chunk, False) for chunk in range(len(unit.chunks))
        ], "not what the unit consists of"

    def _drop(self, action: ev.Drop) -> None:
        del self.held[action.task]  # KeyError: dropped twice
        self.late.discard(action.task)

    def _cancel(self, action: ev.Cancel) -> None:
        self.cancelled_commits += isinstance(self.running[action.task], ev.StartCommit)
        self._end(action.task)

    def _start_deadline(self, action: ev.StartDeadline) -> None:
        assert action.unit_id in self.open
        assert self.deadlines.get(action.unit_id) != action.attempt, "a deadline is prolonged"
        self.deadlines[action.unit_id] = action.attempt

    def _finished(self, _: ev.Finished) -> None:
        assert self.stopped or self.exhausted, "finished before the plan was"
        assert not self.open or self.abandoned, f"finished with {self.open} open"
        self.over = True

    def _give_up(self, action: ev.GiveUp) -> None:
        no_actors = min(self.failed_starts[s] for s in self.queues) >= self.limits.max_actor_starts
        worst = max(self.quarantine_failures.values(), default=0)
        assert no_actors or worst >= self.limits.max_attempts, f"gave up without a reason: {action.reason}"
        self.over = self.gave_up = True

    def under_way(self, kind: type[S]) -> list[S]:
        return [task for task in self.running.values() if isinstance(task, kind)]

    def committing(self, unit_id: str) -> bool:
        return any(task.unit.unit_id == unit_id for task in self.under_way(ev.StartCommit))

    def images(self) -> dict[int, Held]:
        return {task: held for task, held in self.held.items() if held.images}

    def bytes_in_use(self) -> int:
        """What images take, and what loads under way have reserved."""
        held = sum(images.bytes for images in self.images().values())
        return held + sum(load.reserved for load in self.under_way(ev.StartLoad))

    def chunks_under_way(self) -> set[tuple[str, int]]:
        """Chunks that are being loaded, are loaded, or are predicted."""
        loading = {(load.unit.unit_id, load.chunk) for load in self.under_way(ev.StartLoad)}
        return loading | {(held.unit_id, held.chunk) for held in self.held.values()}
