"""Requests and bytes a source over a link of 80 ms, by each way, against what the planner thinks.

    python -m tests.benchmarks.ways

Four full-size bricks among their neighbours on a loopback server that waits 80 ms before each answer; 5 and 29
sources a brick, eight tables of each, every way forced in turn. Measured is what the server sent for images, masks,
their lists of checksums and cutouts; estimated is the dry run's number. Exits with 1 where they differ by more than
15 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from pipeline.archives.access import Access
from pipeline.data import Way
from pipeline.executors.forecast import job_estimate
from pipeline.executors.prepare import prepare
from pipeline.job import Job, load_job
from pipeline.planner.ways import Cost
from pipeline.stages import load
from tests.benchmarks.brick_tree import write_sources, write_tree
from tests.skies import tan_header
from tests.standins.legacy_archive import LegacyArchive, answer, legacy_archive

LATENCY = 0.08  # s
WAYS: tuple[Way, ...] = ("file", "ranges", "cutout")
TOLERANCE = 0.15
LINE = "{:<8}{:>9}{:>12}{:>12}{:>8}{:>12}{:>12}{:>8}{:>9}\n"


@cache
def _cube(size: int, bands: str) -> bytes:
    """One answer for all positions of that size; what is in it does not matter."""
    return answer(np.full((len(bands), size, size), 0.01, np.float32), tan_header(150.0, 0.5, size), bands)


def _placed(tree: Path, ra: float, dec: float, size: int, bands: str) -> bytes:
    """The answer with its centre moved to the position, which the client checks."""
    cube = _cube(size, bands)
    for key, old, new in (("CRVAL1", 150.0, ra), ("CRVAL2", 0.5, dec)):
        card = f"{key}  = {old:>20}".encode()
        if card not in cube:
            raise SystemExit(f"no card {card!r}")
        cube = cube.replace(card, f"{key}  = {new:>20.7f}".encode())
    return cube


def job_of(archive: LegacyArchive, table: Path, way: Way) -> Job:
    settings = [
        f"mirror={archive.url}",
        f"sources.table={table}",
        "sources.columns.radius=radius",
        f"survey.cutout_service={archive.service}",
        f"ways.use=[{way}]",
        f"ways.latency={LATENCY}",
        "archives.default={in_flight: 16, rate: 500, burst: 500, timeout: 60}",
        "engine.executor=local",
    ]
    return load_job("decals", settings, environment={})


@dataclass
class Total:
    """Of one way over several tables of sources."""

    sources: int = 0
    requests: int = 0
    bytes: int = 0
    seconds: float = 0.0
    expected: Cost = field(default_factory=Cost)

    def line(self, way: Way, per_brick: int) -> str:
        """A source's share."""
        requests, size = self.ratios
        numbers = (
            f"{self.requests / self.sources:.2f}", f"{self.expected.requests / self.sources:.2f}", f"{requests:.2f}",
            f"{self.bytes / self.sources / 1e3:.0f}", f"{self.expected.bytes / self.sources / 1e3:.0f}", f"{size:.2f}",
            f"{self.seconds:.1f}",
        )  # fmt: skip
        return LINE.format(way, per_brick, *numbers)

    @property
    def ratios(self) -> tuple[float, float]:
        return self.expected.requests / self.requests, self.expected.bytes / self.bytes


def measure(archive: LegacyArchive, table: Path, way: Way, output: str, total: Total) -> None:
    """Load everything of one table, and add what came and what was expected."""
    job = job_of(archive, table, way)
    prepared = prepare(job, output, "run", lambda message: None)
    archive.asked.clear()
    archive.sent.clear()
    started = time.perf_counter()
    with Access(job.archives, job.archive_hosts()) as access:
        for unit in prepared.plan.units():
            for chunk in range(len(unit.chunks)):
                load(prepared.work, unit, chunk, access)
    total.seconds += time.perf_counter() - started
    total.sources += prepared.plan.summary.sources
    total.requests += len(archive.asked)
    total.bytes += sum(archive.sent)
    total.expected += job_estimate(prepared).alone[way].cost


def _total(archive: LegacyArchive, folder: Path, case: tuple[int, Way], draws: int) -> Total:
    """Of one line of the table: so many sources a brick by one way, over several tables."""
    (per_brick, way), total = case, Total()
    for draw in range(draws):
        table = folder / f"{per_brick}-{draw}.parquet"
        write_sources(table, per_brick, draw)
        measure(archive, table, way, f"{folder}/{way}-{per_brick}-{draw}", total)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the bricks are, or will be: 720 MB")
    parser.add_argument("--draws", type=int, default=8, help="tables of sources for each line")
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="ways-") as temporary:
        tree = options.folder or Path(temporary) / "tree"
        write_tree(tree)
        sys.stdout.write(LINE.format("way", "a brick", "requests", "estimate", "ratio", "kB", "estimate", "ratio", "s"))
        with legacy_archive(tree, LATENCY, _placed) as archive:
            for per_brick, way in product((5, 29), WAYS):
                total = _total(archive, Path(temporary), (per_brick, way), options.draws)
                sys.stdout.write(total.line(way, per_brick))
                worst = max(worst, *(abs(1 - ratio) for ratio in total.ratios))
    sys.stdout.write(f"largest difference {worst:.0%}, allowed {TOLERANCE:.0%}\n")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
