"""How many chunks a second the driver can see through: `python -m tests.benchmarks.driver [--chunks 2000]`.

The engine on a Ray of its own with loads, predictions and commits that do nothing, and the CPU time of the driver's
process alone: Ray's threads in it included, its workers and servers not. A driver binds where that is the whole of a
core. Then the same by two drivers, and the CPU time of the process that hands units to them and hears what they did: a
run binds where that is the whole of a core. The other side is what the simulator says 1,000 nodes of 16 load cores ask
(a billion galaxies, chunks of 512).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import LocalRay, Shares, ray_session
from pipeline.executors.ray.drivers import run_drivers
from pipeline.executors.ray.engine import Settings, run_engine
from pipeline.executors.sizing import drivers_for
from tests.benchmarks.rows import Row
from tests.benchmarks.with_engine import Silence

CHUNK = 512  # images: the simulator's default
UNIT_CHUNKS = 8
QUEUED = 32  # loads that a driver has started and not heard of; two run
NODE_RATE = 2_628  # images/s of a node of 16 load cores (README, simulated clusters, 1 billion galaxies)
GPUS = 1_000


@dataclass(frozen=True, eq=False)
class Nothing:
    """A chunk of which only the number of rows is true."""

    rows: int
    images: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        return self.images.nbytes


@dataclass(frozen=True)
class Instant:
    choice: str = "no network"

    def __call__(self, chunk: Nothing) -> int:
        return chunk.rows


@dataclass(frozen=True)
class NoWork:
    """The UnitWork of a run that has nothing to do but to be scheduled."""

    def load(self, unit: WorkUnit, chunk: int) -> Nothing:
        return Nothing(unit.chunks[chunk], np.zeros(8, np.uint8))

    def networks(self) -> Instant:
        return Instant()

    def commit(self, unit: WorkUnit, parts: Sequence[int]) -> int:
        return sum(parts)

    def quarantine(self, unit: WorkUnit, reason: str) -> int:
        raise RuntimeError(f"unit {unit.unit_id} failed: {reason}")


def units(chunks: int) -> Iterator[WorkUnit]:
    rows = CHUNK * UNIT_CHUNKS
    for number in range(chunks // UNIT_CHUNKS):
        yield WorkUnit(f"{number:06d}", "", number * rows, (number + 1) * rows, (CHUNK,) * UNIT_CHUNKS)


def measure(chunks: int, drivers: int = 1) -> tuple[float, float, float]:
    """This process's CPU seconds a chunk, seconds a chunk by the clock, and MB that its memory grew by.

    It is the driver, or hears several. The first tenth warms up. Raises RuntimeError where rows are missing.
    """
    loads = QUEUED * drivers  # a driver of a large cluster hears of many at once
    shares = Shares(2, 0.5, 0.0, loads, 0.5, 100_000_000 * loads, drivers)
    settings, engine = Settings(shares, bytes_row=1), run_engine if drivers == 1 else run_drivers
    with ray_session(None, LocalRay(cpus=4 + drivers, store_bytes=200_000_000)):
        done, mark = 0, (0, 0.0, 0.0, 0)
        for rows in engine(NoWork(), units(chunks), settings, Silence()):
            done += rows
            if not mark[0] and done >= chunks * CHUNK // 10:
                mark = (done, time.process_time(), time.perf_counter(), _peak())
        cpu, wall, grown = time.process_time() - mark[1], time.perf_counter() - mark[2], _peak() - mark[3]
    if done != chunks // UNIT_CHUNKS * UNIT_CHUNKS * CHUNK:
        raise RuntimeError(f"expected {chunks * CHUNK} rows, got {done}")
    seen = (done - mark[0]) / CHUNK
    return cpu / seen, wall / seen, grown / 1024


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB on Linux


def rows(chunks: int = 800) -> list[Row]:
    cpu, _wall, grown = measure(chunks)
    hears, _wall, _grown = measure(chunks, drivers=2)
    wanted, which = GPUS * NODE_RATE, f"{GPUS:,} GPUs of {NODE_RATE:,} images/s"
    return [
        Row("driver", 1e3 * cpu, "CPU-ms/chunk"),
        Row("one driver, chunks of 512", CHUNK / cpu, "images/s", wanted, which),
        Row(f"driver's memory over {chunks:,} chunks", grown, "MB grown"),
        Row("run that hears several drivers", 1e3 * hears, "CPU-ms/chunk"),
        Row("drivers that 16,000 loads get, chunks of 512", drivers_for(16 * GPUS, CHUNK), "drivers"),
        Row("such a run, chunks of 512", CHUNK / hears, "images/s", wanted, which),
    ]


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=2_000)
    show(rows(parser.parse_args().chunks))
