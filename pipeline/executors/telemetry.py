"""What a run tells while it works: readings of every metric, and events by which one source can be followed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline import metrics
from pipeline.archives.gate import HostState
from pipeline.catalogue.commits import Manifest
from pipeline.data import Status
from pipeline.metrics import Readings

WINDOW = 60.0  # s over which images/s is counted
LATE_KEPT = 20  # units past their deadline that the live file names, the latest

Kind = Literal["run", "load", "predict", "commit", "quarantine", "tile", "actor", "deadline", "log"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line of the log. What is None is left out of it."""

    kind: Kind
    message: str
    unit: str | None = None
    tile: str | None = None
    chunk: int | None = None
    attempt: int | None = None
    rows: int | None = None
    seconds: float | None = None
    nodes: tuple[str, ...] | None = None

    def fields(self) -> dict[str, object]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class LateUnit:
    """A unit that exceeded its deadline."""

    unit: str
    attempt: int
    nodes: tuple[str, ...]  # where its loads ran then
    waited_for: str


class Telemetry:
    """The readings and events of one run; nothing in it blocks."""

    def __init__(self, tell: Callable[[LogEvent], None] = lambda event: None) -> None:
        self.tell = tell
        self.readings = Readings()
        self.late: deque[LateUnit] = deque(maxlen=LATE_KEPT)
        self._images: deque[tuple[float, int]] = deque()
        self._started = self._last_commit = time.monotonic()

    def classified(self, rows: int) -> None:
        self._images.append((time.monotonic(), rows))

    def committed(self, manifest: Manifest, left: int) -> None:
        """A unit is done, and so many sources of the plan are not."""
        self._last_commit = time.monotonic()
        for status, rows in manifest.statuses.items():
            self.readings.add(metrics.SOURCES, rows, status)
        self.readings.set(metrics.SOURCES_LEFT, left)
        # Of a retry only the rows tried again: it tries all that were quarantined, so those here are this commit's.
        given_up = manifest.statuses.get(Status.QUARANTINED, 0) > 0
        self.readings.add(metrics.QUARANTINED, given_up)
        self._tell_commit(manifest, given_up)

    def hosts(self, hosts: Mapping[str, HostState]) -> None:
        """What archives were asked for so far; the hosts beyond the first few are counted as one."""
        requests: dict[tuple[str, str], int] = {}
        received: dict[str, int] = {}
        for number, (host, state) in enumerate(hosts.items()):
            shown = host if number < metrics.MOST_HOSTS else metrics.OTHER_HOSTS
            received[shown] = received.get(shown, 0) + state.bytes
            for outcome, count in state.requests.items():
                requests[shown, outcome] = requests.get((shown, outcome), 0) + count
            self.readings.set(metrics.IN_FLIGHT, state.in_flight, shown)
            self.readings.set(metrics.LIMITER_SHARE, state.share, shown)
            self.readings.set(metrics.LIMITER_PAUSE, state.pause, shown)
        for (shown, outcome), count in requests.items():
            self.readings.set(metrics.REQUESTS, count, shown, outcome)
        for shown, count in received.items():
            self.readings.set(metrics.BYTES, count, shown)

    def exceeded(self, late: LateUnit, deadline: float) -> None:
        """A unit took longer than its deadline."""
        self.late.append(late)
        self.readings.add(metrics.DEADLINES, 1)
        message = f"longer than {deadline:g} s, waiting for {late.waited_for}: tried again elsewhere"
        self.tell(LogEvent("deadline", message, unit=late.unit, attempt=late.attempt, nodes=late.nodes))

    def refresh(self) -> None:
        """Bring the readings up to now that depend on the clock."""
        now = time.monotonic()
        while self._images and self._images[0][0] < now - WINDOW:
            self._images.popleft()
        span = min(WINDOW, max(1.0, now - self._started))
        self.readings.set(metrics.IMAGES_PER_SECOND, sum(rows for _, rows in list(self._images)) / span)
        self.readings.set(metrics.COMMIT_AGE, now - self._last_commit)

    def _tell_commit(self, manifest: Manifest, given_up: bool) -> None:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(manifest.statuses.items()))
        self.tell(
            LogEvent(
                "quarantine" if given_up else "commit",
                f"{manifest.parquet}: {counts}",
                unit=manifest.unit_id,
                attempt=manifest.attempt,
                rows=manifest.rows,
                seconds=round(manifest.load_seconds + manifest.predict_seconds, 3),
            )
        )
        for slow in manifest.slow:
            self.tell(LogEvent("tile", slow.why, unit=manifest.unit_id, tile=slow.tile, seconds=round(slow.seconds, 3)))
