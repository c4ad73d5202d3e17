"""The Ray executor: a thin shell around the pure scheduler. Answers become events, actions become Ray calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from itertools import islice
from typing import Any, Generic, TypeVar

from pipeline.data import WorkUnit
from pipeline.errors import RunError
from pipeline.executors import events as ev
from pipeline.executors.ray.actors import Life
from pipeline.executors.ray.answers import Awaited, Committing, Predicting, Warming, event_of, stops_the_run
from pipeline.executors.ray.cluster import Shares
from pipeline.executors.ray.deadlines import Deadlines
from pipeline.executors.ray.failures import Failure
from pipeline.executors.ray.hands import Hands, Pressure
from pipeline.executors.ray.telling import ALONE, Around, Teller
from pipeline.executors.ray.work import UnitWork
from pipeline.executors.schedule import Limits, Scheduler
from pipeline.executors.watch import Watch

POLL = 0.5  # s between two looks at the stop request
ACTOR_PATIENCE = 60.0  # s without any actor, before the log says so
COMMIT_GRACE = 30.0  # s that commits under way get once the grace of the open units is over

ReportT = TypeVar("ReportT")
Take = Callable[[int], tuple[WorkUnit, ...] | None]  # at most so many units; (): there are no more; None: ask again


@dataclass(frozen=True)
class Settings:
    """What the engine may use, and how long it waits."""

    shares: Shares
    bytes_row: int  # that the images of one source take
    unit_attempts: int = 3  # then the unit is quarantined
    unit_deadline: float = 3600.0  # s, then the unit is tried again
    grace: float = 120.0  # s that open units get to finish when the run is stopped
    kill_after: float = 10.0  # s that a cancelled load or commit gets to end by itself

    def parts(self) -> list[Settings]:
        """Those of each driver."""
        return [replace(self, shares=part) for part in self.shares.parts()]

    def limits(self) -> Limits:
        return Limits(
            actors=self.shares.actors,
            loads=self.shares.loads,
            bytes_cap=self.shares.bytes_cap,
            bytes_row=self.bytes_row,
            max_attempts=self.unit_attempts,
            open_units=max(64, self.shares.loads + 2 * self.shares.actors),  # enough if each had one chunk
        )


def run_engine(
    work: UnitWork[Any, Any, ReportT],
    units: Iterable[WorkUnit],
    settings: Settings,
    watch: Watch,
    observe: Callable[[Pressure], None] | None = None,
    around: Around = ALONE,
) -> Iterator[ReportT]:
    """Yield the report of every unit as it is committed, until all are or `watch` asks to stop.

    Needs a Ray (`ray_session`). `observe` is told what is under way after each step. Raises RunError, and what
    a stage raises that is not an error of a unit.
    """
    left = iter(units)
    engine = Engine(work, lambda count: tuple(islice(left, count)), settings, watch, around)
    try:
        engine.start()
        while not engine.over:
            engine.step()
            if observe is not None:
                observe(engine.pressure())
            yield from (report for _, report in engine.reports())
    finally:
        engine.close()


class Engine(Generic[ReportT]):
    """One driver: the scheduler and its hands, step by step."""

    def __init__(
        self, work: UnitWork[Any, Any, ReportT], take: Take, settings: Settings, watch: Watch, around: Around
    ) -> None:
        self._take, self._settings, self._watch = take, settings, watch
        self._wanted = 0  # units, that `take` has not given yet
        self._scheduler = Scheduler(settings.limits())
        self._hands = Hands(work, settings.shares, settings.kill_after)
        self._teller = Teller(watch.telemetry, around, settings.shares.actors)
        self._deadlines = Deadlines(settings.unit_deadline)
        self._events: deque[ev.Event] = deque()
        self._reports: deque[tuple[str, ReportT]] = deque()
        self._lives: dict[int, Life] = {}  # slot -> who answered last
        self._stopped: float | None = None  # when, in s of time.monotonic
        self._abandoned = False
        self._started = time.monotonic()
        self._warned = False
        self.over = False

    def start(self) -> None:
        self._obey(self._scheduler.start())

    def step(self, most: float = POLL) -> None:
        """Wait a little for answers, at most `most` s, and do what the scheduler makes of them."""
        self._open_units()
        self._tell()
        now = time.monotonic()
        due = self._deadlines.next(now)
        seconds = min(POLL, most) if due is None else min(POLL, most, max(due, 0.0))
        for awaited, value in self._hands.wait(seconds):
            self._answered(awaited, value)
            self._tell()
        for late in self._deadlines.passed(time.monotonic()):
            self._exceeded(late)
        self._heed_stop()
        self._tell()
        self._mind_the_actors()
        self._teller.measure(self.pressure, self._scheduler.held_back)

    def reports(self) -> Iterator[tuple[str, ReportT]]:
        """What was committed since the last call: unit ids and reports."""
        while self._reports:
            yield self._reports.popleft()

    @property
    def hungry(self) -> bool:
        """Whether every chunk that it has is loaded or being loaded."""
        return self._scheduler.all_loading

    def pressure(self) -> Pressure:
        return self._hands.pressure()

    def close(self) -> None:
        self._teller.export()
        self._hands.close()

    def _exceeded(self, late: ev.DeadlinePassed) -> None:
        nodes = self._teller.exceeded(late.unit_id, late.attempt, self._settings.unit_deadline)
        if nodes:  # else it had not even begun there
            self._hands.avoid(late.unit_id, nodes)
        self._watch.log(f"unit {late.unit_id} took longer than {self._settings.unit_deadline:g} s")
        self._events.append(late)

    def _answered(self, awaited: Awaited, value: Any) -> None:
        self._teller.answered(awaited, value)
        if isinstance(value, Failure):
            if stops_the_run(awaited, value):
                raise value.error
            self._watch.log(f"{awaited} failed: {value.reason}")
        elif isinstance(awaited, Committing):
            self._deadlines.forget(awaited.unit_id)
            self._reports.append((awaited.unit_id, value))
        elif isinstance(awaited, Predicting | Warming):
            self._met(awaited.slot, value)
        event = event_of(awaited, value)
        if isinstance(event, ev.ActorLost):
            # One that Ray still restarts over and over would keep its CPUs and GPU from the next.
            self._hands.stop_actor(event.slot, event.generation)
        self._events.append(event)

    def _met(self, slot: int, life: Life) -> None:
        """Tell what an actor's answer says of it: what it predicted, its networks, and whether it is a new process."""
        before = self._lives.get(slot)
        if before is None or before.choice != life.choice:
            self._watch.log(f"actor {slot}: {life.choice}")
        if before is not None and before.process != life.process:
            self._watch.log(f"actor {slot} works again, in another process")
            self._teller.restarted(slot)
        self._lives[slot] = life
        if life.rows:
            self._watch.classified(life.rows)

    def _mind_the_actors(self) -> None:
        """Say it once, when no actor comes up: the cluster may have no room for one."""
        if self._lives or self._warned or time.monotonic() < self._started + ACTOR_PATIENCE:
            return
        self._warned = True
        shares = self._settings.shares
        self._watch.log(
            f"no actor is up after {ACTOR_PATIENCE:g} s: each of {shares.actors} waits for {shares.actor_cpus:g} CPUs "
            f"and {shares.actor_gpus:g} GPUs, or still makes its networks"
        )

    def _heed_stop(self) -> None:
        now = time.monotonic()
        if self._stopped is None:
            if self._watch.stop():
                self._stopped = now
                self._events.append(ev.Stop())
            return
        waited = now - self._stopped
        if waited > self._settings.grace and not self._abandoned:
            self._abandoned = True
            self._watch.log(f"{self._settings.grace:g} s after the stop: units that are not committed are left")
            self._events.append(ev.Stop(now=True))
        self.over |= waited > self._settings.grace + COMMIT_GRACE

    def _open_units(self) -> None:
        units = self._take(self._wanted) if self._wanted else None
        if units is not None:
            self._wanted = 0
            self._events.append(ev.UnitsPlanned(units) if units else ev.PlanExhausted())

    def _tell(self) -> None:
        while self._events:
            self._obey(self._scheduler.handle(self._events.popleft()))

    def _obey(self, actions: list[ev.Action]) -> None:
        for action in actions:
            self._carry_out(action)

    @singledispatchmethod
    def _carry_out(self, action: Any) -> None:
        raise TypeError(f"expected an action, got {action!r}")

    @_carry_out.register
    def _(self, action: ev.NeedUnits) -> None:
        self._wanted = action.count
        self._open_units()

    @_carry_out.register
    def _(self, action: ev.StartActor) -> None:
        self._hands.start_actor(action.slot, action.generation)

    @_carry_out.register
    def _(self, action: ev.StopActor) -> None:
        self._hands.stop_actor(action.slot, action.generation)

    @_carry_out.register
    def _(self, action: ev.StartLoad) -> None:
        self._teller.began(action)
        self._hands.start_load(action)

    @_carry_out.register
    def _(self, action: ev.StartPredict) -> None:
        self._teller.began(action)
        if not self._hands.start_predict(action):
            self._events.append(ev.ActorLost(action.slot, action.generation, "it is gone already"))

    @_carry_out.register
    def _(self, action: ev.StartCommit) -> None:
        self._hands.start_commit(action)

    @_carry_out.register
    def _(self, action: ev.Drop) -> None:
        self._hands.drop(action.task)

    @_carry_out.register
    def _(self, action: ev.Cancel) -> None:
        self._teller.forgotten(action.task)
        self._hands.cancel(action.task)

    @_carry_out.register
    def _(self, action: ev.StartDeadline) -> None:
        self._deadlines.start(action.unit_id, action.attempt, time.monotonic())

    @_carry_out.register
    def _(self, action: ev.Finished) -> None:
        self.over = True

    @_carry_out.register
    def _(self, action: ev.GiveUp) -> None:
        raise RunError(action.reason)
