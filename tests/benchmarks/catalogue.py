"""How fast a catalogue is published and asked, and in how much memory, beside LSDB and plain pyarrow.

    python -m tests.benchmarks.catalogue                       # 1 million synthetic rows
    python -m tests.benchmarks.catalogue --rows 8670000 --memory 4 --repeats 3 --without-row-groups   # a whole survey
    python -m tests.benchmarks.catalogue --rows 10000000 --memory 4 --publish-only

Every measurement has a process of its own. A question is asked at other positions each time, the same for every reader,
and the numbers of rows found are compared. Times on a machine that others use vary: of all repeats the median and the
least are printed, and the processor time of the median one, which they disturb least.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.catalogue.dataset import ROW_GROUP
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.parquet import writer_options
from pipeline.storage import Storage
from tests.benchmarks.catalogue_readers import CONES, PREDICATE, READERS, Answered, Centre, peak_memory
from tests.benchmarks.rows import Row, spread
from tests.benchmarks.synthetic_catalogue import Synthetic, commit_synthetic

FULL_ROWS = 300_000  # with three networks and their maps, 1.3 kB a row
LARGE_GROUP = 65_536  # rows, to compare ROW_GROUP with
TARGETS = {"cone 60 arcsec": 0.010, "cone 1 deg": 0.015, PREDICATE: 0.104, "fresh": 1.0}  # s at 1 million rows


@dataclass(frozen=True)
class Published:
    rows: int
    seconds: float  # by the clock
    cpu: float  # s of all threads
    peak: float  # bytes of resident memory of the publishing process
    stored: float  # bytes of the snapshot


def publish(wanted: Synthetic, folder: str, memory: float | None) -> Published:
    """Commit and publish synthetic rows, each in a process of its own; `memory` limits the address space, GiB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        pool.apply(commit_synthetic, (Storage(folder), wanted))
    with context.Pool(1) as pool:
        seconds, cpu, peak = pool.apply(_publish, (folder, memory))
    stored = sum(file.stat().st_size for file in Path(folder, "snapshots").rglob("*") if file.is_file())
    return Published(wanted.rows, seconds, cpu, peak, float(stored))


def _publish(folder: str, memory: float | None) -> tuple[float, float, float]:
    if memory is not None:
        limit = int(memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started, used = time.perf_counter(), time.process_time()
    finalise(Storage(folder), name="synthetic")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return seconds, cpu, peak_memory()


def regrouped(collection: Path, target: Path, rows: int) -> None:
    """A copy of a collection with other row groups in its catalogue."""
    shutil.copytree(collection, target)
    for file in target.glob("catalogue/dataset/*/*/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table, file, row_group_size=rows, **writer_options(table.schema))


def centres(collection: Path, count: int) -> list[Centre]:
    """Positions of sources, spread over the catalogue."""
    sample = pq.read_table(collection / "sample.parquet", columns=["ra", "dec"])
    chosen = sample.take(pa.array(np.random.default_rng(3).permutation(sample.num_rows)[:count]))
    return list(zip(chosen["ra"].to_pylist(), chosen["dec"].to_pylist(), strict=True))


def asked(collection: Path, reader: str, positions: Sequence[Centre], repeats: int) -> tuple[Answered, float, float]:
    """What a process of its own answered, and its seconds from start to end, by the clock and of processors."""
    text = " ".join(f"{ra!r},{dec!r}" for ra, dec in positions)
    line = [sys.executable, "-m", "tests.benchmarks.catalogue_readers", str(collection), reader, text, str(repeats)]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Answered(**json.loads(done.stdout.splitlines()[-1])), seconds, used


def questions(collection: Path, readers: Sequence[str], repeats: int) -> None:
    """The table of every question and reader."""
    positions = centres(collection, 2 * repeats + 1)
    answers = {reader: asked(collection, reader, positions, repeats)[0] for reader in readers}
    alone = {reader: [asked(collection, reader, positions[n : n + 1], 0) for n in range(3)] for reader in readers}
    table = Table("default columns; ms", "target", *(f"{reader}: median, least, CPU" for reader in readers))
    for name in (*CONES, PREDICATE):
        cells = [_cell(answer.seconds[name], answer.cpu[name]) for answer in answers.values()]
        table.add_row(name, f"{1e3 * TARGETS[name]:,.0f}", *cells)
    cells = [_cell([each[1] for each in found], [each[2] for each in found]) for found in alone.values()]
    table.add_row("open, first cone, new process", f"{1e3 * TARGETS['fresh']:,.0f}", *cells)
    table.add_row("peak memory, MB", "", *(f"{answer.peak / 1e6:,.0f}" for answer in answers.values()))
    out.print(table)
    for name in (*CONES, PREDICATE):
        found = {reader: answer.rows[name] for reader, answer in answers.items()}
        same = "the same for all" if len(set(found.values())) == 1 else f"DIFFERENT: {found}"
        out.print(f"{name}: {answers[readers[0]].rows[name]} rows found, {same}")


def _cell(seconds: Sequence[float], cpu: Sequence[float]) -> str:
    """Milliseconds: the median and the least by the clock, and the median of all processors."""
    return ", ".join(
        f"{1e3 * each:,.1f}" for each in (statistics.median(seconds), min(seconds), statistics.median(cpu))
    )


def row_groups(collection: Path, folder: Path, repeats: int) -> None:
    """The same questions of the same rows in larger row groups."""
    positions = centres(collection, 2 * repeats + 1)
    table = Table("ours; ms: median, least, CPU", *CONES, PREDICATE, "MB")
    for size in (ROW_GROUP, LARGE_GROUP):
        place = folder / "regrouped"
        regrouped(collection, place, size)
        found = asked(place, "ours", positions, repeats)[0]
        stored = sum(file.stat().st_size for file in place.glob("catalogue/dataset/*/*/*.parquet"))
        cells = [_cell(found.seconds[name], found.cpu[name]) for name in (*CONES, PREDICATE)]
        table.add_row(f"row groups of {size}", *cells, f"{stored / 1e6:,.0f}")
        shutil.rmtree(place)
    out.print(table)


def rows(count: int = 100_000, repeats: int = 5) -> list[Row]:
    """For `make bench`: medians of ours against LSDB's on the same catalogue, by the clock."""
    with tempfile.TemporaryDirectory(prefix="catalogue-") as folder:
        done = publish(Synthetic(count), folder, None)
        collection = Path(folder) / "snapshots/0001"
        positions = centres(collection, 2 * repeats + 1)
        ours, theirs = (asked(collection, reader, positions, repeats)[0] for reader in ("ours", "lsdb"))
    found = [Row(f"publish {count:,} rows", count / done.cpu, "rows/CPU-s")]
    for name in (*CONES, PREDICATE):
        medians = (1e3 * statistics.median(answer.seconds[name]) for answer in (ours, theirs))
        found.append(
            Row(f"catalogue: {name}", next(medians), "ms", next(medians), "LSDB", spread(ours.seconds[name]), repeats)
        )
    return found


def _tell(what: str, done: Published) -> None:
    out.print(
        f"{what}: {done.rows:,} rows in {done.seconds:.1f} s, {done.rows / done.seconds:,.0f} rows/s; "
        f"processors {done.cpu:.1f} s, {done.rows / done.cpu:,.0f} rows/s of each; "
        f"peak memory {done.peak / 1e6:,.0f} MB, {done.stored / done.rows:.0f} bytes a row"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--full-rows", type=int, default=FULL_ROWS, help="with three networks and maps; 0 for none")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--memory", type=float, help="GiB of address space that publishing may have")
    parser.add_argument("--publish-only", action="store_true")
    parser.add_argument("--without-row-groups", action="store_true", help="compare no sizes of row groups")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    out.print(f"load of the machine before the start: {load:.1f} on {os.cpu_count()} CPUs, Arrow uses {pa.cpu_count()}")
    with tempfile.TemporaryDirectory(prefix="catalogue-") as name:
        folder = Path(name)
        _tell("published, one network", publish(Synthetic(chosen.rows), f"{folder}/one", chosen.memory))
        if not chosen.publish_only:
            collection = folder / "one/snapshots/0001"
            questions(collection, chosen.readers, chosen.repeats)
            if not chosen.without_row_groups:
                row_groups(collection, folder, chosen.repeats)
        shutil.rmtree(folder / "one")
        if chosen.full_rows:
            wanted = Synthetic(chosen.full_rows, networks=3, maps=True)
            _tell("published, three networks with maps", publish(wanted, f"{folder}/three", chosen.memory))


out = Console(width=140)


if __name__ == "__main__":
    main()
