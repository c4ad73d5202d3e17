"""What the engine's tasks and actors do, told to the run's telemetry: events with their unit, and seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import metrics
from pipeline.archives.gate import HostState
from pipeline.executors import events as ev
from pipeline.executors.ray.answers import Awaited, Committing, Loading, Predicting
from pipeline.executors.ray.cluster import COMMITS
from pipeline.executors.ray.failures import Failure
from pipeline.executors.ray.hands import Pressure
from pipeline.executors.telemetry import Kind, LateUnit, LogEvent, Telemetry
from pipeline.metrics import Readings

MEASURE = 0.5  # s between two looks at what is under way
EXPORT = 5.0  # s between two exports, and questions to the limiters


@dataclass(frozen=True)
class Around:
    """What the engine asks of its run's surroundings, and tells them."""

    hosts: Callable[[], Mapping[str, HostState]] = dict
    loading_at: Callable[[str], Mapping[str, str]] = lambda unit_id: {}  # node id -> address of its running loads
    export: Callable[[Readings], None] = lambda readings: None


ALONE = Around()  # nothing around that could be asked or told


@dataclass(frozen=True, slots=True)
class _Begun:
    kind: Kind
    unit: str
    chunk: int
    attempt: int
    rows: int
    at: float  # s of time.monotonic


class Teller:
    """Remembers of each task under way whose it is and when it began."""

    def __init__(
        self, telemetry: Telemetry, around: Around, actors: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._telemetry, self._around, self._actors, self._clock = telemetry, around, actors, clock
        self._begun: dict[int, _Begun] = {}
        self._measured = self._exported = clock()

    def began(self, action: ev.StartLoad | ev.StartPredict) -> None:
        kind: Kind = "load" if isinstance(action, ev.StartLoad) else "predict"
        unit, rows = action.unit.unit_id, action.unit.chunks[action.chunk]
        self._begun[action.task] = _Begun(kind, unit, action.chunk, action.attempt, rows, self._clock())

    def forgotten(self, task: int) -> None:
        self._begun.pop(task, None)

    def answered(self, awaited: Awaited, value: Any) -> None:
        """A task ended, or an actor came up or was lost."""
        if isinstance(awaited, Loading | Predicting):
            begun = self._begun.pop(awaited.task, None)
            if begun is not None:
                self._telemetry.tell(_task_event(begun, value, self._clock()))
        elif isinstance(value, Failure):
            kind: Kind = "commit" if isinstance(awaited, Committing) else "actor"
            self._telemetry.tell(LogEvent(kind, f"{awaited} failed: {value.reason}"))

    def restarted(self, slot: int) -> None:
        self._telemetry.readings.add(metrics.ACTOR_RESTARTS, 1)
        self._telemetry.tell(LogEvent("actor", f"actor {slot} is started again"))

    def exceeded(self, unit_id: str, attempt: int, deadline: float) -> tuple[str, ...]:
        """A unit exceeded its deadline: name it, and give the ids of the nodes where it waited."""
        nodes = self._around.loading_at(unit_id)
        waits = [begun for begun in self._begun.values() if (begun.unit, begun.attempt) == (unit_id, attempt)]
        what = ", ".join(sorted(f"{begun.kind} of chunk {begun.chunk}" for begun in waits)) or "its turn or its commit"
        self._telemetry.exceeded(LateUnit(unit_id, attempt, tuple(sorted(nodes.values())), what), deadline)
        return tuple(nodes)

    def measure(self, pressure: Callable[[], Pressure], held_back: bool) -> None:
        """Count the seconds since the last look, and export from time to time.

        `held_back`: a chunk waits for room in the object store. Next to a commit is the output: it holds back each
        unit that it has not taken yet.
        """
        now = self._clock()
        passed = now - self._measured
        if passed < MEASURE:
            return
        self._measured, there, readings = now, pressure(), self._telemetry.readings
        waiting = there.ready - there.predicting
        idle = (self._actors - there.up) if waiting > 0 else 0
        readings.set(metrics.QUEUE_BYTES, there.ready_bytes)
        readings.add(metrics.STARVED, passed * there.starved, "predict")
        readings.add(metrics.STARVED, 0 if held_back else passed * there.free_loads, "load")
        readings.add(metrics.BLOCKED, passed * there.free_loads if held_back else 0, "load")
        readings.add(metrics.BLOCKED, passed * idle, "predict")
        readings.add(metrics.STARVED, passed * max(0, COMMITS - there.committing), "commit")
        readings.add(metrics.BLOCKED, passed * there.committing, "commit")
        if now - self._exported >= EXPORT:
            self.export()

    def export(self) -> None:
        self._exported = self._clock()
        self._telemetry.hosts(self._around.hosts())
        self._telemetry.refresh()
        self._around.export(self._telemetry.readings)


def _task_event(begun: _Begun, value: Any, now: float) -> LogEvent:
    return LogEvent(
        begun.kind,
        f"failed: {value.reason}" if isinstance(value, Failure) else "done",
        unit=begun.unit,
        chunk=begun.chunk,
        attempt=begun.attempt,
        rows=begun.rows,
        seconds=round(now - begun.at, 3),
    )
