"""The log of a run, in its output: readable while it goes on, from any machine that sees the output.

    log/<run id>/events-00001.jsonl   one JSON object an event: time, run, kind, message, and unit, tile, chunk, ...
    log/<run id>/live.json            the latest readings, and the units past their deadline

Object stores cannot append: the newest file of events is written anew while it grows, then the next one begins.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from pipeline.errors import DiskFull
from pipeline.executors.telemetry import LateUnit, LogEvent, Telemetry
from pipeline.storage import Storage

FOLDER = "log"
EVERY = 10.0  # s between two writes
SEGMENT = 1 << 20  # bytes of events, then the next file begins
KEPT = 30  # runs: a month of nights


class Journal:
    """Writes while the `with` block lasts, in a thread of its own. An output that takes nothing stops no run."""

    def __init__(self, storage: Storage, run_id: str, every: float = EVERY) -> None:
        self._storage, self.run_id, self._every = storage, run_id, every
        self.telemetry = Telemetry(self._tell)
        self._lines: list[bytes] = []  # of the newest file
        self._size = 0
        self._written = 0  # lines of it
        self._full: list[tuple[int, bytes]] = []  # files that grew full since the last write
        self._number = 1
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="journal", daemon=True)

    def __enter__(self) -> Journal:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell(LogEvent("run", f"ended by {type(error).__name__}: {' '.join(str(error).split())}"))
        self._over.set()
        self._thread.join()
        self._write()

    def _tell(self, event: LogEvent) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": stamp, "run": self.run_id, **event.fields()}).encode() + b"\n"
        with self._lock:
            self._lines.append(line)
            self._size += len(line)
            if self._size >= SEGMENT:
                self._full.append((self._number, b"".join(self._lines)))
                self._number, self._lines, self._size, self._written = self._number + 1, [], 0, 0

    def _go_on(self) -> None:
        with suppress(OSError, DiskFull):
            forget_old_logs(self._storage, self.run_id)
        while not self._over.wait(self._every):
            self._write()

    def _write(self) -> None:
        """What fails is tried again the next time."""
        self.telemetry.refresh()
        live = Live(self.run_id, time.time(), self.telemetry.readings.as_list(), tuple(self.telemetry.late))
        with suppress(OSError, DiskFull):
            self._storage.replace(live_name(self.run_id), json.dumps(asdict(live)).encode())
            self._write_events()

    def _write_events(self) -> None:
        while self._full:
            number, data = self._full[0]
            self._storage.replace(_events_name(self.run_id, number), data)
            del self._full[0]
        with self._lock:
            number, lines, data = self._number, len(self._lines), b"".join(self._lines)
        if lines > self._written or number != self._number:
            self._storage.replace(_events_name(self.run_id, number), data)
            with self._lock:
                self._written = lines if number == self._number else 0


@dataclass(frozen=True)
class Live:
    """The latest of a run."""

    run_id: str
    written_at: float  # Unix s
    readings: list[dict[str, Any]]
    late: tuple[LateUnit, ...] = ()

    def value(self, metric: str) -> float | None:
        """The sum over the labels of a metric, None where it was never read."""
        values = [reading["value"] for reading in self.readings if reading["metric"] == metric]
        return sum(values) if values else None


def logged_runs(storage: Storage) -> list[str]:
    """The runs that left a log, the oldest first: their ids begin with the time."""
    return sorted({name.split("/")[1] for name in storage.list(FOLDER) if name.count("/") == 2})


def read_live(storage: Storage, run_id: str) -> Live | None:
    """The latest readings of a run, None where it left none."""
    try:
        facts = json.loads(storage.read(live_name(run_id)))
    except FileNotFoundError:
        return None
    late = tuple(LateUnit(**{**unit, "nodes": tuple(unit["nodes"])}) for unit in facts.pop("late"))
    return Live(**facts, late=late)


def read_events(storage: Storage, run_id: str) -> Iterator[dict[str, Any]]:
    """The events of a run, in the order in which they happened."""
    for name in storage.list(f"{FOLDER}/{run_id}"):
        if name.endswith(".jsonl"):
            yield from (json.loads(line) for line in storage.read(name).splitlines())


def forget_old_logs(storage: Storage, run_id: str) -> None:
    """Remove the logs of all but the newest runs."""
    for old in [run for run in logged_runs(storage) if run < run_id][: -KEPT + 1]:
        storage.delete_folder(f"{FOLDER}/{old}")


def live_name(run_id: str) -> str:
    return f"{FOLDER}/{run_id}/live.json"


def _events_name(run_id: str, number: int) -> str:
    return f"{FOLDER}/{run_id}/events-{number:05d}.jsonl"
