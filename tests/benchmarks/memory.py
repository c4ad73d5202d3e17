"""Memory of the driver and of the object store against the number of sources: `python -m tests.benchmarks.memory`.

The engine on a Ray of its own, each size in a process of its own: chunks of 512 rows whose images have 256 bytes each,
so that millions of rows take minutes and their chunks still lie in the store (Ray sends what is below 100 kB with the
answer); every one passes the scheduler, the driver, the object store, an actor and a commit as it does in a run. The
store is asked how much of it is in use ten times a second. `--images 10000 10000000` is what was asked for at most.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray
from ray._private import internal_api

from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import LocalRay, Shares, ray_session
from pipeline.executors.ray.engine import Settings, run_engine
from tests.benchmarks.rows import Row
from tests.benchmarks.with_engine import Silence

CHUNK = 512  # rows
UNIT_CHUNKS = 8
ROW_BYTES = 256
SIZES = (10_000, 100_000, 1_000_000)
WATCHED = 0.1  # s between two looks at the store
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Used:
    """Of one run."""

    images: int
    seconds: float
    driver: float  # MB, peak resident
    store: float  # MB, the most that was in use


@dataclass(frozen=True, eq=False)
class Small:
    images: NDArray[np.uint8]  # (rows, ROW_BYTES)

    @property
    def rows(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        return int(self.images.nbytes)


@dataclass(frozen=True)
class Sums:
    choice: str = "no network"

    def __call__(self, chunk: Small) -> NDArray[np.uint8]:
        return chunk.images[:, 0].copy()


@dataclass(frozen=True)
class Rows:
    """The UnitWork of the benchmark."""

    def load(self, unit: WorkUnit, chunk: int) -> Small:
        return Small(np.full((unit.chunks[chunk], ROW_BYTES), 1, np.uint8))

    def networks(self) -> Sums:
        return Sums()

    def commit(self, unit: WorkUnit, parts: Sequence[NDArray[np.uint8]]) -> int:
        return int(sum(part.sum() for part in parts))

    def quarantine(self, unit: WorkUnit, reason: str) -> int:
        raise RuntimeError(f"unit {unit.unit_id} failed: {reason}")


def units(images: int) -> Iterator[WorkUnit]:
    for number, start in enumerate(range(0, images, CHUNK * UNIT_CHUNKS)):
        stop = min(images, start + CHUNK * UNIT_CHUNKS)
        chunks = tuple(min(CHUNK, stop - first) for first in range(start, stop, CHUNK))
        yield WorkUnit(f"{number:06d}", "", start, stop, chunks)


@contextmanager
def watched(address: str) -> Iterator[list[float]]:
    """MB of the object store that are in use, looked at now and then."""
    over, found = threading.Event(), [0.0]
    state = internal_api.get_state_from_address(address)  # type: ignore[no-untyped-call]

    def look() -> None:
        while not over.wait(WATCHED):
            reply = internal_api.get_memory_info_reply(state)  # type: ignore[no-untyped-call]
            found.append(reply.store_stats.object_store_bytes_used / 1e6)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield found
    over.set()
    thread.join()


def measure(images: int) -> Used:
    """Of this process. Raises RuntimeError where rows are missing or come twice."""
    settings = Settings(Shares(1, 0.5, 0.0, 2, 0.25, 10_000_000), bytes_row=ROW_BYTES)
    with ray_session(None, LocalRay(cpus=2, store_bytes=100_000_000)):
        address = ray.get_runtime_context().gcs_address
        started = time.perf_counter()
        with watched(address) as store:
            done = sum(run_engine(Rows(), units(images), settings, Silence()))
        seconds = time.perf_counter() - started
    if done != images:
        raise RuntimeError(f"expected {images} rows, got {done}")
    return Used(images, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, max(store))


def _apart(images: int) -> Used:
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--images", str(images), "--line"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def rows(sizes: Sequence[int] = SIZES) -> list[Row]:
    first, *others = (_apart(images) for images in sizes)
    than = f"at {first.images:,}"
    return [
        row
        for used in others
        for row in (
            Row(f"driver's peak memory at {used.images:,} images", used.driver, "MB", first.driver, than),
            Row(f"object store's peak at {used.images:,} images", used.store, "MB", first.store, than),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=SIZES)
    parser.add_argument("--line", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.line:
        sys.stdout.write(json.dumps(asdict(measure(options.images[0]))) + "\n")
        return
    from tests.benchmarks.__main__ import show

    show(rows(options.images))


if __name__ == "__main__":
    main()
