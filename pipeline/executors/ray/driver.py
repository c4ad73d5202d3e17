"""One of several drivers of a run: an actor that keeps an engine going over the units that the run hands it.

The run asks it to go on, over and over; each answer says what happened meanwhile. So nothing in it is shared between
threads, and nothing is told before it is known to have happened. All that it started dies with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.data import WorkUnit
from pipeline.executors.ray.engine import Engine, Settings
from pipeline.executors.ray.telling import Around
from pipeline.executors.ray.work import AnyWork
from pipeline.executors.telemetry import LateUnit, Telemetry
from pipeline.metrics import Reading

EXCHANGE = 0.5  # s between two answers of a driver that has enough to do


@dataclass(frozen=True, slots=True)
class Order:
    """What the run tells a driver."""

    units: tuple[WorkUnit, ...] = ()  # more of them
    complete: bool = False  # no unit will come any more
    stop: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What a driver did since its last answer."""

    reports: tuple[tuple[str, Any], ...]  # unit id and report of each commit
    rows: int  # that went through the networks
    lines: tuple[str, ...]  # for the log
    events: tuple[dict[str, Any], ...]  # the fields of each: dataclasses take ten times as long to unpickle
    late: tuple[LateUnit, ...]
    readings: tuple[Reading, ...]  # since it began
    over: bool


@dataclass
class Notes:
    """The `Watch` of a driver: it writes down what the run will be told."""

    stopped: bool = False
    rows: int = 0
    lines: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(lambda event: self.events.append(event.fields()))

    def stop(self) -> bool:
        return self.stopped

    def classified(self, rows: int) -> None:
        self.rows += rows

    def log(self, message: str) -> None:
        self.lines.append(message)

    def told(self, reports: tuple[tuple[str, Any], ...], over: bool) -> News:
        """All that is written down; the next page is empty."""
        late, readings = self.telemetry.late, tuple(self.telemetry.readings)
        news = News(reports, self.rows, tuple(self.lines), tuple(self.events), tuple(late), readings, over)
        self.rows = 0
        for page in (self.lines, self.events, late):
            page.clear()
        return news


class Driver:
    """The actor. An error that stops the run comes out of `go_on`."""

    def __init__(
        self, work: AnyWork, settings: Settings, loading_at: Callable[[str], Mapping[str, str]], exchange: float
    ) -> None:
        self._units: deque[WorkUnit] = deque()
        self._exchange, self._complete, self._begun = exchange, False, False
        self._notes = Notes()
        self._engine: Engine[Any] = Engine(work, self._take, settings, self._notes, Around(loading_at=loading_at))

    def go_on(self, order: Order) -> News:
        """Work on for a while: less than that where commits are to be told and there is nothing more to load."""
        self._units.extend(order.units)
        self._complete, self._notes.stopped = order.complete, order.stop
        engine, until, reports = self._engine, time.monotonic() + self._exchange, list[tuple[str, Any]]()
        if not self._begun:
            self._begun = True
            engine.start()
        while not engine.over and (left := until - time.monotonic()) > 0 and not (reports and engine.hungry):
            engine.step(left)
            reports.extend(engine.reports())
        if engine.over:
            engine.close()
        return self._notes.told(tuple(reports), engine.over)

    def _take(self, count: int) -> tuple[WorkUnit, ...] | None:
        if not self._units:
            return () if self._complete else None
        return tuple(self._units.popleft() for _ in range(min(count, len(self._units))))
