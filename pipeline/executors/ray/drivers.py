"""A run by several drivers: one hands out units and hears what became of them, so that the run is told as one.

One driver sees some hundred chunks a second through. Drivers share nothing but the plan (`Allotment`), the limiters of
the cluster (ray/limits.py) and the output, whose commits are create-only: so a driver that dies loses nothing that is
committed and doubles nothing. What it had goes to those that live, and another takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray import ObjectRef

from pipeline import metrics
from pipeline.data import WorkUnit
from pipeline.errors import RunError
from pipeline.executors.allotment import Allotment
from pipeline.executors.limits import IN_FLIGHT, ROUNDS
from pipeline.executors.ray.cluster import DRIVER_CPUS
from pipeline.executors.ray.driver import EXCHANGE, Driver, News, Order
from pipeline.executors.ray.engine import POLL, Settings
from pipeline.executors.ray.failures import Blame, Failure
from pipeline.executors.ray.hands import value_of
from pipeline.executors.ray.telling import ALONE, EXPORT, Around
from pipeline.executors.ray.work import UnitWork
from pipeline.executors.telemetry import LogEvent
from pipeline.executors.watch import Watch
from pipeline.metrics import Metric, Reading

MOST_DEATHS = 3  # of a driver in a row, without a commit; then the run gives up

ReportT = TypeVar("ReportT")


@dataclass(frozen=True)
class Patience:
    """How long the run waits for its drivers, in s."""

    exchange: float = EXCHANGE
    silence: float = 300.0  # of one that was up: then it is taken for dead
    start: float = 60.0  # of one that is not, before the log says so


@dataclass
class _Place:
    """One driver after another."""

    number: int
    settings: Settings  # its part
    actor: Any = None
    asked: float = 0.0  # when, in s of time.monotonic
    up: bool = False
    over: bool = False
    warned: bool = False
    deaths: int = 0  # in a row, without a commit
    readings: dict[tuple[Metric, tuple[str, ...]], float] = field(default_factory=dict)  # as last told


def run_drivers(
    work: UnitWork[Any, Any, ReportT],
    units: Iterable[WorkUnit],
    settings: Settings,
    watch: Watch,
    around: Around = ALONE,
    patience: Patience = Patience(),
) -> Iterator[ReportT]:
    """`run_engine`, by `settings.shares.drivers` actors that each have their part of the shares. Raises as it does."""
    run = _Run(work, iter(units), settings, watch, around, patience)
    try:
        run.start()
        while not run.over:
            yield from run.step()
    finally:
        run.close()


class _Run(Generic[ReportT]):
    def __init__(
        self,
        work: UnitWork[Any, Any, ReportT],
        units: Iterator[WorkUnit],
        settings: Settings,
        watch: Watch,
        around: Around,
        patience: Patience,
    ) -> None:
        self._work, self._watch, self._around, self._patience = work, watch, around, patience
        self._places = [_Place(number, part) for number, part in enumerate(settings.parts())]
        self._allotment = Allotment(units, [_room(place.settings) for place in self._places])
        self._class: Any = ray.remote(Driver).options(  # Any: Ray's types know no actor classes by call
            num_cpus=DRIVER_CPUS, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._exchanges: dict[ObjectRef[News], _Place] = {}
        self._stopped = False
        self._exported = time.monotonic()

    @property
    def over(self) -> bool:
        return all(place.over for place in self._places)

    @property
    def _ending(self) -> bool:
        return self._stopped or self._allotment.complete

    def start(self) -> None:
        for place in self._places:
            self._start(place)

    def step(self) -> Iterator[ReportT]:
        """Hear the drivers that have something to say, and tell them how to go on."""
        self._stopped |= self._watch.stop()
        for answer in self._answered():
            place, value = self._exchanges.pop(answer), value_of(answer)
            if not isinstance(value, Failure):
                yield from self._heard(place, value)
            elif value.blame in (Blame.RUN, Blame.BUG):
                raise value.error
            else:
                self._lost(place, value.reason)
        for place in list(self._exchanges.values()):
            self._mind(place)
        if time.monotonic() - self._exported >= EXPORT:
            self._export()

    def close(self) -> None:
        """End the drivers; Ray ends what they started."""
        for place in self._places:
            if place.actor is not None:
                ray.kill(place.actor, no_restart=True)
        self._exchanges.clear()
        self._export()

    def _start(self, place: _Place) -> None:
        alone = self._around.loading_at
        place.actor = self._class.remote(self._work, place.settings, alone, self._patience.exchange)
        place.up = place.warned = False
        self._ask(place, Order(stop=self._stopped))  # units only once it lives

    def _ask(self, place: _Place, order: Order) -> None:
        self._exchanges[place.actor.go_on.remote(order)] = place
        place.asked = time.monotonic()

    def _answered(self) -> list[ObjectRef[News]]:
        first, rest = ray.wait(list(self._exchanges), num_returns=1, timeout=POLL, fetch_local=False)
        if not first or not rest:
            return first
        return first + ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)[0]

    def _heard(self, place: _Place, news: News) -> list[ReportT]:
        place.up, place.over = True, news.over
        reports = [report for unit_id, report in news.reports if self._allotment.committed(place.number, unit_id)]
        if reports:
            place.deaths = 0
        if not news.over:
            units = () if self._stopped else self._allotment.take(place.number)
            self._ask(place, Order(units, self._allotment.complete, self._stopped))
        telemetry = self._watch.telemetry
        for event in news.events:
            telemetry.tell(LogEvent(**event))
        for line in news.lines:
            self._watch.log(f"driver {place.number}: {line}")
        telemetry.late.extend(news.late)
        self._count(place, news.readings)
        if news.rows:
            self._watch.classified(news.rows)
        return reports

    def _lost(self, place: _Place, reason: str) -> None:
        """Another driver for one that died; what it had is handed out again."""
        self._end(place)
        place.deaths += 1
        again = self._allotment.lost(place.number)
        self._count(place, [(metrics.QUEUE_BYTES, (), 0.0)])
        place.readings.clear()
        self._watch.log(f"driver {place.number} is lost, {again} units are handed out again: {reason}")
        if self._ending:
            place.over = True
            return
        if place.deaths >= MOST_DEATHS:
            raise RunError(f"driver {place.number} died {place.deaths} times without a commit; the last: {reason}")
        self._watch.telemetry.readings.add(metrics.ACTOR_RESTARTS, 1)
        self._start(place)

    def _mind(self, place: _Place) -> None:
        """A driver that stays silent is taken for dead; one that does not come up may have no room."""
        waited = time.monotonic() - place.asked
        if self._ending and not place.up:
            self._end(place)
            place.over = True
        elif place.up and waited > self._patience.silence:
            self._lost(place, f"silent for {self._patience.silence:g} s")
        elif not (place.up or place.warned) and waited > self._patience.start:
            place.warned = True
            self._watch.log(f"driver {place.number} is not up after {waited:.0f} s: it waits for {DRIVER_CPUS:g} CPU")

    def _end(self, place: _Place) -> None:
        self._exchanges = {answer: other for answer, other in self._exchanges.items() if other is not place}
        ray.kill(place.actor, no_restart=True)
        place.actor = None

    def _count(self, place: _Place, readings: Iterable[Reading]) -> None:
        """Add what a driver counted since it last told, and what all of them hold together."""
        total = self._watch.telemetry.readings
        for metric, labels, value in readings:
            more = value - place.readings.get((metric, labels), 0.0)
            place.readings[metric, labels] = value
            if metric.kind == "counter" or metric == metrics.QUEUE_BYTES:
                total.add(metric, more, *labels)

    def _export(self) -> None:
        self._exported = time.monotonic()
        self._watch.telemetry.hosts(self._around.hosts())
        self._watch.telemetry.refresh()
        self._around.export(self._watch.telemetry.readings)


def _room(settings: Settings) -> int:
    """Chunks that a driver may hold."""
    return ROUNDS * (settings.shares.loads + IN_FLIGHT * settings.shares.actors)
