"""Work without a survey: units whose rows are arithmetic, committed create-only to real files.

Everything lies below one folder. `journal` has a line for every call, from whatever process it ran in. A file
`faults/VERB-UNIT-CHUNK` names what shall go wrong in that call: once, for the file is taken away before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.data import WorkUnit
from pipeline.errors import CheckpointError, UnitError
from pipeline.executors.ray.cluster import Shares
from pipeline.executors.ray.engine import Settings
from pipeline.executors.telemetry import Telemetry
from pipeline.storage import Storage

SIDE = 64  # pixels
ROW_BYTES = 3 * SIDE * SIDE
CHUNK_ROWS = 16
CHUNK_BYTES = CHUNK_ROWS * ROW_BYTES


@dataclass(frozen=True, eq=False)
class FakeChunk:
    ids: NDArray[np.int64]  # (N,)
    images: NDArray[np.uint8]  # (N, 3, 64, 64)

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return int(self.images.nbytes)


@dataclass(frozen=True, eq=False)
class FakePart:
    ids: NDArray[np.int64]  # (N,)
    means: NDArray[np.float64]  # (N,)


@dataclass(frozen=True)
class FakeReport:
    unit_id: str
    rows: int
    quarantined: bool


@dataclass(frozen=True)
class Call:
    """One line of the journal."""

    seconds: float  # time.monotonic, the same for all processes of a machine
    verb: str
    unit_id: str
    chunk: int
    process: int


@dataclass(frozen=True)
class FakeNetworks:
    work: FakeWork
    choice: str = "fake"

    def __call__(self, chunk: FakeChunk) -> FakePart:
        unit_id, number = f"u{chunk.ids[0] // 1000:03d}", int(chunk.ids[0] % 1000) // CHUNK_ROWS
        self.work.enter("predict", unit_id, number)
        time.sleep(self.work.predict_seconds)
        part = FakePart(chunk.ids, chunk.images.mean(axis=(1, 2, 3)))
        self.work.note("predicted", unit_id, number)
        return part


@dataclass(frozen=True)
class FakeWork:
    """The UnitWork of the chaos tests."""

    folder: str
    load_seconds: float = 0.0
    predict_seconds: float = 0.0
    warm_loads: int = 0  # the networks are not ready before so many chunks have been loaded
    warm_up: float = 0.0  # s, after that

    def load(self, unit: WorkUnit, chunk: int) -> FakeChunk:
        self.enter("load", unit.unit_id, chunk)
        time.sleep(self.load_seconds)
        start, stop = unit.chunk_rows(chunk)
        ids = np.arange(start, stop)
        images = np.broadcast_to((ids % 251).astype(np.uint8)[:, None, None, None], (len(ids), 3, SIDE, SIDE)).copy()
        self.note("loaded", unit.unit_id, chunk)
        return FakeChunk(ids, images)

    def networks(self) -> FakeNetworks:
        self.enter("networks", "", 0)
        while self.count("loaded") < self.warm_loads:
            time.sleep(0.05)
        time.sleep(self.warm_up)
        return FakeNetworks(self)

    def commit(self, unit: WorkUnit, parts: Sequence[FakePart]) -> FakeReport:
        self.enter("commit", unit.unit_id, 0)
        rows = {str(i): mean for part in parts for i, mean in zip(part.ids.tolist(), part.means.tolist(), strict=True)}
        if len(rows) != unit.rows:
            raise ValueError(f"expected {unit.rows} rows, got {len(rows)}")
        return self._publish(unit, {"rows": rows, "reason": ""})

    def quarantine(self, unit: WorkUnit, reason: str) -> FakeReport:
        self.enter("quarantine", unit.unit_id, 0)
        return self._publish(unit, {"rows": dict.fromkeys(map(str, range(unit.start, unit.stop))), "reason": reason})

    def _publish(self, unit: WorkUnit, content: dict[str, object]) -> FakeReport:
        name = f"units/{unit.unit_id}.json"
        storage = Storage(self.folder)
        storage.create(name, json.dumps(content, sort_keys=True).encode())
        stored = json.loads(storage.read(name))
        self.note("committed", unit.unit_id, 0)
        return FakeReport(unit.unit_id, len(stored["rows"]), bool(stored["reason"]))

    def enter(self, verb: str, unit_id: str, chunk: int) -> None:
        """Note the call, and let the fault that was planted for it happen."""
        self.note(verb, unit_id, chunk)
        planted = Path(self.folder) / "faults" / f"{verb}-{unit_id}-{chunk}"
        try:
            fault = planted.read_text()
            if not fault.endswith("!"):
                planted.unlink()
        except FileNotFoundError:
            return
        FAULTS[fault.removesuffix("!")](self, unit_id)

    def __post_init__(self) -> None:
        Path(self.folder).mkdir(exist_ok=True)

    def note(self, verb: str, unit_id: str, chunk: int) -> None:
        line = f"{time.monotonic()} {verb} {unit_id or '-'} {chunk} {os.getpid()}\n"
        with (Path(self.folder) / "journal").open("a") as journal:
            journal.write(line)  # one write of a short line to a file opened for appending does not interleave

    def plant(self, fault: str, verb: str, unit_id: str = "", chunk: int = 0) -> None:
        """Let `fault` happen in the call; once, or always where it ends in "!"."""
        folder = Path(self.folder) / "faults"
        folder.mkdir(exist_ok=True)
        (folder / f"{verb}-{unit_id}-{chunk}").write_text(fault)

    def journal(self) -> list[Call]:
        path = Path(self.folder) / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = (line.split() for line in lines)
        return [Call(float(s), verb, unit, int(chunk), int(pid)) for s, verb, unit, chunk, pid in calls]

    def last(self, verb: str) -> Call:
        return [call for call in self.journal() if call.verb == verb][-1]

    def count(self, verb: str, unit_id: str = "") -> int:
        return sum(call.verb == verb and unit_id in ("", call.unit_id) for call in self.journal())

    def catalogue(self) -> dict[str, bytes]:
        """The committed files by name."""
        storage = Storage(self.folder)
        return {name: storage.read(name) for name in storage.list("units")}


def _fail(error: Exception) -> Callable[[FakeWork, str], NoReturn]:
    def fault(work: FakeWork, unit_id: str) -> NoReturn:
        raise error

    return fault


def _be_deaf(work: FakeWork, unit_id: str) -> NoReturn:
    """Hang as a call into C does, which no KeyboardInterrupt reaches."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(600)


def _be_overtaken(work: FakeWork, unit_id: str) -> None:
    """Hang, deaf, until the unit's next attempt does the same; then go on before it."""
    work.plant("give_way", "commit", unit_id)
    while work.count("commit", unit_id) < 2:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.02)


def _give_way(work: FakeWork, unit_id: str) -> None:
    while not work.count("committed", unit_id):
        time.sleep(0.02)
    time.sleep(0.3)  # for the other's answer to arrive


FAULTS: dict[str, Callable[[FakeWork, str], object]] = {
    "sigkill": lambda work, unit_id: os.kill(os.getpid(), signal.SIGKILL),
    "os_exit": lambda work, unit_id: os._exit(1),
    "sys_exit": lambda work, unit_id: sys.exit(0),
    "hang": lambda work, unit_id: time.sleep(600),
    "deaf": _be_deaf,
    "overtaken": _be_overtaken,
    "give_way": _give_way,
    "unit_error": _fail(UnitError("planted")),
    "os_error": _fail(OSError(5, "planted")),
    "bug": _fail(KeyError("planted")),
    "cuda": _fail(RuntimeError("CUDA error: an illegal memory access was encountered")),
    "checkpoint": _fail(CheckpointError("planted")),
}


@dataclass
class FakeWatch:
    """The Watch of the chaos tests: `on_classified` is where a test strikes."""

    stop: Callable[[], bool] = lambda: False
    on_classified: Callable[[int], None] = lambda rows: None
    rows: int = 0
    lines: list[str] = field(default_factory=list)
    telemetry: Telemetry = field(default_factory=Telemetry)

    def classified(self, rows: int) -> None:
        self.rows += rows
        self.on_classified(self.rows)

    def log(self, message: str) -> None:
        self.lines.append(message)


def fake_units(count: int, chunks: int = 3) -> list[WorkUnit]:
    """Units u000, u001, ... of `chunks` chunks each; row ids start at 1000 times the number."""
    rows = chunks * CHUNK_ROWS
    return [WorkUnit(f"u{i:03d}", "", 1000 * i, 1000 * i + rows, (CHUNK_ROWS,) * chunks) for i in range(count)]


def fake_settings(
    *,
    actors: int = 2,
    loads: int = 2,
    chunks_held: int = 8,
    unit_attempts: int = 3,
    unit_deadline: float = 60.0,
    grace: float = 60.0,
    kill_after: float = 10.0,
) -> Settings:
    """Settings for a Ray of 4 CPUs."""
    shares = Shares(
        actors=actors, actor_cpus=0.5, actor_gpus=0.0, loads=loads, load_cpus=0.5, bytes_cap=chunks_held * CHUNK_BYTES
    )
    return Settings(
        shares,
        ROW_BYTES,
        unit_attempts=unit_attempts,
        unit_deadline=unit_deadline,
        grace=grace,
        kill_after=kill_after,
    )


def undisturbed(units: Iterable[WorkUnit], folder: Path) -> dict[str, bytes]:
    """The catalogue as one process makes it that nothing happens to."""
    work = FakeWork(str(folder))
    networks = work.networks()
    for unit in units:
        work.commit(unit, [networks(work.load(unit, chunk)) for chunk in range(len(unit.chunks))])
    return work.catalogue()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.02)
