"""What to start, retry, replace or quarantine next: a state machine without clock, I/O or Ray.

    planned --open--> load every chunk --> predict every chunk --> commit --> forgotten
                      ^ a failure or a passed deadline drops it all: next attempt; after the last, quarantine

Bytes: images of loaded chunks and what is reserved for chunks under way stay below `bytes_cap`. A load starts if its
reservation fits under the cap, or if no bytes are in use at all: a chunk larger than the cap goes through alone. What
is larger than reserved (the estimate a row is the largest seen) holds back further loads until it is gone. A cancelled
task's bytes count as free at once.

Order: chunks of the oldest attempt first, in loads and predicts alike, so that units finish one after another. A failed
unit goes to the end of the queue, which gives an archive in trouble some time.

Blame: an actor works on its tasks in order, so its death is blamed on the oldest; the others just move on. A slot whose
actors never come up is closed; the run gives up once every slot is. A unit whose deadline passes while no actor is up
gets a new deadline. An actor that lets deadlines pass and predicts nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.executors import events as ev
from pipeline.executors.actors import ActorSlots
from pipeline.executors.backlog import Backlog
from pipeline.executors.events import Action, Event
from pipeline.executors.ledger import Kind, Ledger, OpenUnit, Task
from pipeline.executors.limits import Counts, Limits

__all__ = ["Counts", "Limits", "Scheduler"]


class Scheduler:
    """Events in, actions out. The caller carries them out in order and reports what becomes of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._actors = ActorSlots(limits.actors, limits.in_flight_per_actor)
        self._ledger = Ledger(limits.bytes_row)
        self._backlog = Backlog()
        self._open: dict[str, OpenUnit] = {}  # by unit id
        self._asked = 0  # units
        self._exhausted = self._stopping = self._abandoning = self._over = False
        self.counts = Counts()
        self.held_back = self.all_loading = False  # a chunk waits for room in the store, not for a place; none waits
        self._out: list[Action] = []
        self._answers: dict[type[Any], Callable[[Any], None]] = {
            ev.UnitsPlanned: self._units_planned,
            ev.PlanExhausted: self._plan_exhausted,
            ev.ActorUp: self._actor_up,
            ev.ActorLost: self._actor_lost,
            ev.LoadDone: self._load_done,
            ev.LoadFailed: self._task_failed,
            ev.PredictDone: self._predict_done,
            ev.PredictFailed: self._predict_failed,
            ev.CommitDone: self._commit_done,
            ev.CommitFailed: self._task_failed,
            ev.DeadlinePassed: self._deadline_passed,
            ev.Stop: self._stop,
        }

    def start(self) -> list[Action]:
        """The first actions: the actors and the first units."""
        self._out = [ev.StartActor(slot, 0) for slot in range(self.limits.actors)]
        self._go_on()
        return self._out

    def handle(self, event: Event) -> list[Action]:
        """What to do now that `event` has happened. Raises ValueError for units that nobody asked for."""
        if self._over:
            return [ev.Drop(event.task)] if isinstance(event, ev.LoadDone | ev.PredictDone) else []
        self._out = []
        self._answers[type(event)](event)
        self._go_on()
        return self._out

    def _go_on(self) -> None:
        """Start all that may start: predicts, then loads, then more units."""
        if self._over:
            return
        self._start_predicts()
        self._start_loads()
        missing = self.limits.open_units - len(self._open)
        if missing > 0 and not (self._asked or self._exhausted or self._stopping):
            self._asked = missing
            self._out.append(ev.NeedUnits(missing))
        if not self._open and (self._exhausted or self._stopping):
            self._over = True
            self._out.append(ev.Finished())

    def _start_predicts(self) -> None:
        backlog, actors = self._backlog, self._actors
        while (first := backlog.first_ready()) and (slot := actors.least_loaded()) is not None:
            of, chunk, load = first
            backlog.predict_started()
            task = self._ledger.begin(Task(Kind.PREDICT, of, chunk, slot=slot, load=load))
            actors.assign(slot, task)
            self._out.append(ev.StartPredict(task, slot, actors.generation(slot), of.unit, chunk, of.attempt, load))

    def _start_loads(self) -> None:
        backlog, ledger = self._backlog, self._ledger
        self.held_back = False
        while ledger.loads < self.limits.loads and (first := backlog.first_to_load()):
            of, chunk = first
            reserved = ledger.expected(of.unit.chunks[chunk])
            if ledger.bytes and ledger.bytes + reserved > self.limits.bytes_cap:
                self.held_back = True
                break
            backlog.load_started()
            self._set_deadline(of)
            task = ledger.begin(Task(Kind.LOAD, of, chunk, bytes=reserved))
            self._out.append(ev.StartLoad(task, of.unit, chunk, of.attempt, reserved))
        self.all_loading = backlog.first_to_load() is None

    def _units_planned(self, event: ev.UnitsPlanned) -> None:
        if self._stopping:
            return
        if len(event.units) > self._asked:
            raise ValueError(f"expected at most {self._asked} units, got {len(event.units)}")
        self._asked = 0
        for unit in event.units:
            if unit.unit_id in self._open:
                raise ValueError(f"expected a new unit, got {unit.unit_id} again")
            self._open[unit.unit_id] = of = OpenUnit(unit)
            self._next_attempt(of)

    def _plan_exhausted(self, _: ev.PlanExhausted) -> None:
        self._exhausted = True

    def _actor_up(self, event: ev.ActorUp) -> None:
        if self._actors.is_current(event.slot, event.generation):
            self._actors.came_up(event.slot)

    def _actor_lost(self, event: ev.ActorLost) -> None:
        if not self._actors.is_current(event.slot, event.generation):
            return
        if self._actors.is_up(event.slot):
            self.counts.actor_deaths += 1
            blamed = self._replace(event.slot)
            if blamed is not None:
                self._blame(blamed, event.reason)
        elif self._actors.failed_start(event.slot) < self.limits.max_actor_starts:
            self._replace(event.slot)
        else:
            self._actors.close(event.slot)
            if not self._actors.open:
                self._give_up(f"no actor can start; the last: {event.reason}")

    def _replace(self, slot: int) -> OpenUnit | None:
        """Start the slot's next actor and put its tasks back. Gives the unit that it was working on."""
        tasks = self._actors.replace(slot)
        self._out.append(ev.StartActor(slot, self._actors.generation(slot)))
        working_on = self._ledger.tasks[tasks[0]].of if tasks else None
        for number in tasks:
            task = self._ledger.end(number)
            self._out.append(ev.Cancel(number))
            self._backlog.wait_for_actor(task.of, task.chunk, task.load)
        return working_on

    def _blame(self, of: OpenUnit, reason: str) -> None:
        of.deaths += 1
        if of.deaths >= self.limits.max_actor_deaths:
            self._close_attempt(of)
            self._quarantine(of, f"{of.deaths} actors died at work on it; the last: {reason}")

    def _load_done(self, event: ev.LoadDone) -> None:
        task = self._ledger.tasks.get(event.task)
        if task is None:
            self._out.append(ev.Drop(event.task))
        elif not task.done:
            self._ledger.loaded(task, event.bytes)
            self._backlog.wait_for_actor(task.of, task.chunk, event.task)

    def _predict_done(self, event: ev.PredictDone) -> None:
        task = self._ledger.tasks.get(event.task)
        if task is None:
            self._out.append(ev.Drop(event.task))
        elif not task.done:
            task.done = True
            self._actors.release(task.slot, event.task, predicted=True)
            self._let_go(task.load)
            task.of.parts[task.chunk] = event.task
            if len(task.of.parts) == len(task.of.unit.chunks):
                self._commit(task.of)

    def _predict_failed(self, event: ev.PredictFailed) -> None:
        task = self._ledger.tasks.get(event.task)
        if task is None or task.done:
            return
        self._actors.release(task.slot, event.task)
        self._ledger.end(event.task)
        of = task.of
        if not event.input_lost or of.reloads >= self.limits.max_reloads:
            self._fail(of, event.reason)
            return
        of.reloads += 1
        self.counts.reloads += 1
        self._let_go(task.load)
        self._backlog.wait_for_load(of, task.chunk)

    def _commit_done(self, event: ev.CommitDone) -> None:
        task = self._ledger.tasks.get(event.task)
        if task is not None:
            self.counts.quarantined += bool(task.of.quarantine)
            self.counts.committed += not task.of.quarantine
            self._ledger.end(event.task)
            self._forget(task.of)

    def _task_failed(self, event: ev.LoadFailed | ev.CommitFailed) -> None:
        task = self._ledger.tasks.get(event.task)
        if task is not None and not task.done:
            self._ledger.end(event.task)
            self._fail(task.of, event.reason)

    def _deadline_passed(self, event: ev.DeadlinePassed) -> None:
        of = self._open.get(event.unit_id)
        if of is None or of.attempt != event.attempt:
            return
        if not (self._actors.up or of.committing):
            self._out.append(ev.StartDeadline(event.unit_id, event.attempt))
            return
        waited_for = self._ledger.slots(of)
        self._fail(of, "its deadline passed")
        for slot in waited_for:
            if self._actors.timed_out(slot) >= self.limits.max_actor_timeouts:
                self._out.append(ev.StopActor(slot, self._actors.generation(slot)))
                self._replace(slot)

    def _stop(self, event: ev.Stop) -> None:
        self._stopping = True
        self._abandoning |= event.now
        for of in tuple(self._open.values()):
            untouched = of.attempt == 1 and not of.begun
            if not of.committing and (untouched or self._abandoning):
                self._forget(of)

    def _next_attempt(self, of: OpenUnit) -> None:
        self._backlog.enter(of)
        for chunk in range(len(of.unit.chunks)):
            self._backlog.wait_for_load(of, chunk)

    def _quarantine(self, of: OpenUnit, reason: str) -> None:
        of.quarantine = reason
        self._backlog.enter(of)
        self._commit(of)

    def _commit(self, of: OpenUnit) -> None:
        self._set_deadline(of)
        of.committing = True
        parts = tuple(of.parts[chunk] for chunk in sorted(of.parts))
        task, reason = self._ledger.begin(Task(Kind.COMMIT, of)), of.quarantine
        self._out.append(ev.StartCommit(task, of.unit, bool(reason), reason, of.attempt, parts))

    def _set_deadline(self, of: OpenUnit) -> None:
        if not of.begun:
            of.begun = True
            self._out.append(ev.StartDeadline(of.unit.unit_id, of.attempt))

    def _fail(self, of: OpenUnit, reason: str) -> None:
        """End the attempt; then the next one, the quarantine, or the end of the run."""
        self.counts.failed_attempts += 1
        if self._abandoning:
            self._forget(of)
            return
        self._close_attempt(of)
        if of.quarantine:
            of.quarantine_failures += 1
            if of.quarantine_failures < self.limits.max_attempts:
                self._quarantine(of, of.quarantine)
            else:
                self._give_up(f"unit {of.unit.unit_id} cannot even be quarantined: {reason}")
        elif of.attempt < self.limits.max_attempts:
            self._next_attempt(of)
        else:
            self._quarantine(of, f"{of.attempt} attempts failed; the last: {reason}")

    def _forget(self, of: OpenUnit) -> None:
        self._close_attempt(of)
        del self._open[of.unit.unit_id]

    def _close_attempt(self, of: OpenUnit) -> None:
        for task in tuple(of.tasks):
            self._let_go(task)
        self._backlog.leave(of)

    def _let_go(self, number: int) -> None:
        task = self._ledger.end(number)
        if task.done:
            self._out.append(ev.Drop(number))
            return
        if task.kind is Kind.PREDICT:
            self._actors.release(task.slot, number)
        self._out.append(ev.Cancel(number))

    def _give_up(self, reason: str) -> None:
        for of in tuple(self._open.values()):
            self._forget(of)
        self._over = True
        self._out.append(ev.GiveUp(reason))
