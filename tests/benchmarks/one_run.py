"""`python -m tests.benchmarks.one_run ENGINE IMAGES`: one timed run in a process of its own; prints one JSON line."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.executors.ray.cluster import LocalRay, ray_session
from tests.benchmarks import fake_load

MODULES = {"engine": "tests.benchmarks.with_engine", "ray data": "tests.benchmarks.with_ray_data"}


@dataclass(frozen=True)
class Measured:
    engine: str
    images: int
    seconds: float  # after the start of Ray
    first_answer: float  # s
    driver_mb: float  # peak resident memory of the driver
    files: int

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def measure(engine: str, images: int) -> Measured:
    """Raises RuntimeError where rows are missing or come twice."""
    module = import_module(MODULES[engine])
    size = LocalRay(cpus=fake_load.CPUS, store_bytes=fake_load.STORE_BYTES)
    with tempfile.TemporaryDirectory() as folder, ray_session(None, size):
        results, first_answer = Path(folder) / "results", Path(folder) / "first"
        results.mkdir()
        started = time.time()
        module.run(images, str(results), str(first_answer))
        seconds = time.time() - started
        first = float(first_answer.read_text()) - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kB on Linux
        files = sorted(results.glob("*.parquet"))
        ids = [i for file in files for i in pq.read_table(file, columns=["id"])["id"].to_pylist()]
    if sorted(ids) != list(range(images)):
        raise RuntimeError(
            f"{engine}: expected {images} rows once each, got {len(ids)}, {len(set(ids))} of them different"
        )
    return Measured(engine, images, seconds, first, peak, len(files))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2])))) + "\n")
