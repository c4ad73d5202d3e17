"""How long planning takes, and how much memory, against the number of sources.

    python -m tests.benchmarks.plan_scale --sources 10000000

Writes a synthetic Parquet table (positions at random over 1,000 square degrees for every million, ids, radii and
twelve columns to pass through), plans it in a process of its own, and prints the seconds, the peak resident memory
of that process, and what it planned.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source, Way
from pipeline.errors import NoCoverage
from pipeline.planner.planning import PlanSummary, plan
from pipeline.sources.batches import Columns, source_batches
from pipeline.storage import Storage
from pipeline.surveys import OpenProduct
from tests.benchmarks.rows import Row

BATCH = 100_000
SKY = 40_000_000  # sources over the whole sphere: about 1,000 a square degree, 60 a brick of 0.25 degrees


class QuarterDegrees:
    """A survey whose tiles are 0.25 degree squares in RA and Dec."""

    bands: tuple[str, ...] = ("g", "r", "z")
    ways: tuple[Way, ...] = ("file", "ranges")

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        column = np.char.zfill((ra * 4).astype(np.int64).astype(np.str_), 4)
        row = np.char.zfill(((dec + 90) * 4).astype(np.int64).astype(np.str_), 3)
        return np.char.add(np.char.add("south/", column), np.char.add("p", row))

    def products(self, tile: str) -> tuple[Product, ...]:
        return ()

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        return ()

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        raise NoCoverage("this survey has positions only")


def synthetic(sources: int) -> Iterator[pa.Table]:
    """Batches of sources in random order, over a share of the sphere that grows with their number."""
    rng = np.random.default_rng(1)
    names = [f"{kind}_{band}" for kind in ("flux", "dered_mag", "fracflux", "nobs") for band in ("g", "r", "z")]
    for start in range(0, sources, BATCH):
        rows = min(BATCH, sources - start)
        share = min(sources / SKY, 1.0)
        columns = {
            "id": np.arange(start, start + rows) * 7919 + (1 << 53),
            "ra": rng.uniform(0, 360, rows),
            "dec": np.degrees(np.arcsin(rng.uniform(-share, share, rows))),
            "radius": rng.gamma(2, 2, rows).astype(np.float32),
            **{name: rng.random(rows, dtype=np.float32) for name in names},
        }
        yield pa.table(columns)


def write_sources(path: Path, sources: int) -> None:
    with pq.ParquetWriter(path, next(synthetic(1)).schema) as writer:
        for table in synthetic(sources):
            writer.write_table(table)


def measure(path: str, output: str) -> tuple[PlanSummary, float, float]:
    """The summary, seconds, and peak resident bytes of this process."""
    started = time.perf_counter()
    batches = source_batches(path, Columns(object_id="id", radius="radius"))
    made = plan(batches, QuarterDegrees(), Storage(output))
    seconds = time.perf_counter() - started
    return made.summary, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def rows(sources: int = 200_000) -> list[Row]:
    """For `make bench`."""
    with tempfile.TemporaryDirectory(prefix="plan-scale-") as folder:
        table = Path(folder) / "sources.parquet"
        write_sources(table, sources)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            _, seconds, peak = pool.apply(measure, (str(table), f"{folder}/output"))
    name = f"planning {sources:,} sources"
    return [Row(name, sources / seconds, "sources/s"), Row(f"{name}, peak memory", peak / 1e6, "MB")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=1_000_000)
    sources = parser.parse_args().sources
    with tempfile.TemporaryDirectory(prefix="plan-scale-") as folder:
        table = Path(folder) / "sources.parquet"
        write_sources(table, sources)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            summary, seconds, peak = pool.apply(measure, (str(table), f"{folder}/output"))
        stored = sum(file.stat().st_size for file in (Path(folder) / "output").rglob("*") if file.is_file())
    sys.stdout.write(
        f"{summary.sources} sources, {summary.tiles} tiles, {summary.units} units, {summary.chunks} chunks\n"
        f"{seconds:.1f} s, peak memory {peak / 1e9:.2f} GB, plan {stored / 1e9:.2f} GB\n"
    )


if __name__ == "__main__":
    main()
