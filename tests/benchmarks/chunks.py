"""What a chunk costs from the load that made it to the predictor that has it: `python -m tests.benchmarks.chunks`.

The engine on a Ray of its own, one chunk of 25 MB at a time, networks that answer at once. The clock runs from the
last line of the load to the first of the predictor: into the object store, by the driver's decision, to the actor. The
floor is what a copy of the chunk into fresh memory takes in the same run; spreads are those of the quartiles. What the
driver itself gets of a chunk is counted, and the predictor refuses images that are a copy.
"""

from __future__ import annotations

import mmap
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import LocalRay, Shares, ray_session
from pipeline.executors.ray.engine import Settings, run_engine
from tests.benchmarks.rows import Row, spread
from tests.benchmarks.with_engine import Silence

SHAPE = (128, 3, 256, 256)  # uint8: 25 MB
BYTES = int(np.prod(SHAPE))
OVERHEAD = 12.0  # ms, the target
WARM = 3  # units at first that do not count
UNIT_CHUNKS = 4


@dataclass(frozen=True, eq=False)
class Stamped:
    images: NDArray[np.uint8]
    made: float  # Unix time, s

    @property
    def rows(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        return int(self.images.nbytes)


@dataclass(frozen=True)
class Clock:
    choice: str = "no network"

    def __call__(self, chunk: Stamped) -> float:
        """Seconds since the chunk was made. Raises RuntimeError where its images are a copy."""
        now = time.time()
        if chunk.images.flags.owndata or chunk.images.flags.writeable:
            raise RuntimeError("the images were copied on their way to the predictor")
        return now - chunk.made


@dataclass(frozen=True)
class OneByOne:
    """The UnitWork of the benchmark: its reports are the seconds of each chunk."""

    def load(self, unit: WorkUnit, chunk: int) -> Stamped:
        images = np.full(SHAPE, chunk, np.uint8)
        return Stamped(images, time.time())

    def networks(self) -> Clock:
        return Clock()

    def commit(self, unit: WorkUnit, parts: Sequence[float]) -> tuple[float, ...]:
        return tuple(parts)

    def quarantine(self, unit: WorkUnit, reason: str) -> tuple[float, ...]:
        raise RuntimeError(f"unit {unit.unit_id} failed: {reason}")


def units(count: int) -> Iterator[WorkUnit]:
    rows = SHAPE[0] * UNIT_CHUNKS
    for number in range(count):
        yield WorkUnit(f"{number:05d}", "", number * rows, (number + 1) * rows, (SHAPE[0],) * UNIT_CHUNKS)


def counted(get: Callable[[Any], Any], sizes: list[int]) -> Callable[[Any], Any]:
    """`ray.get` of the driver, which notes how large what it gives is."""

    def wrapper(reference: Any) -> Any:
        value = get(reference)
        sizes.append(len(pickle.dumps(value)))
        return value

    return wrapper


def copied() -> float:
    """Seconds of one copy of a chunk into memory that nobody has touched."""
    images = np.full(SHAPE, 1, np.uint8)
    fresh = np.frombuffer(mmap.mmap(-1, BYTES), np.uint8)
    started = time.perf_counter()
    fresh[:] = images.ravel()
    return time.perf_counter() - started


def measure(count: int) -> tuple[list[float], float, float, float]:
    """Seconds of each chunk; of Ray's start and of the first unit after it; bytes that the driver got a chunk."""
    settings = Settings(Shares(1, 0.5, 0.0, 1, 0.5, BYTES), bytes_row=BYTES // SHAPE[0])
    sizes: list[int] = []
    taken: list[float] = []
    begun = time.perf_counter()
    with ray_session(None, LocalRay(cpus=2, store_bytes=500_000_000)):
        started, first = time.perf_counter(), 0.0
        with patch.object(ray, "get", counted(ray.get, sizes)):
            for number, report in enumerate(run_engine(OneByOne(), units(WARM + count), settings, Silence())):
                first = first or time.perf_counter() - started
                taken += report if number >= WARM else ()
    return taken, started - begun, first, sum(sizes) / ((WARM + count) * UNIT_CHUNKS)


def rows(count: int = 20) -> list[Row]:
    taken, start, first, got = measure(count)
    ours, floor = [1e3 * seconds for seconds in taken], [1e3 * copied() for _ in taken]
    apart, repeats = spread(statistics.quantiles(ours, n=4)), len(ours)
    what = "chunk of 25 MB, from load to predictor"
    return [
        Row(f"{what}, median", statistics.median(ours), "ms", OVERHEAD, "target", apart, repeats),
        Row(f"{what}, least", min(ours), "ms", OVERHEAD, "target", repeats=repeats),
        Row(f"{what}, median", statistics.median(ours), "ms", statistics.median(floor), "a copy", apart, repeats),
        Row("chunk of 25 MB, what the driver gets of it", got, "bytes", BYTES, "the chunk"),
        Row("start of a local Ray", start, "s"),
        Row("first unit after it, four chunks", first, "s"),
    ]


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    show(rows())
