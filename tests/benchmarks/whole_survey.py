"""The dry run of a whole survey: 8.67 million galaxies over 19,000 square degrees, how long and how much memory.

    python -m tests.benchmarks.whole_survey

Positions are synthetic: at random over the survey's own grid of bricks, as many as Galaxy Zoo DESI has (Walmsley et
al. 2023, MNRAS 526, 4768). A server on loopback gives the tables of bricks, so that every way of fetching is there to
choose from. Prints the screen of the dry run, its seconds, and its peak memory; exits with 1 where it takes 3 minutes
or 4 GiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.mock.files import table_bytes, write
from pipeline.surveys.bricks import owned_by_north
from tests.standins.legacy_archive import legacy_archive

GALAXIES = 8_670_000
SOUTHERN_LIMIT, GALACTIC_LIMIT = -18.0, 17.0  # deg: with these the footprint has 19,000 square degrees
STEP = 0.25  # deg, of brick rows
BATCH = 500_000
POLE = (192.85948, 27.12825)  # deg: the north galactic pole
LONGEST, LARGEST = 180.0, 4 * 2**30  # s, bytes

Floats = NDArray[np.float64]


def cells() -> dict[str, Floats]:
    """The cells of the brick grid inside the footprint: rows of 0.25 deg, as many in each as cos(dec) asks for."""
    parts = []
    for dec in np.arange(SOUTHERN_LIMIT, 90 - STEP, STEP):
        count = int(np.ceil(360 / STEP * np.cos(np.radians(dec)) / 2) * 2)
        edges = np.linspace(0, 360, count + 1)
        lower = np.full(count, dec - STEP / 2)
        parts.append(np.stack([(edges[:-1] + edges[1:]) / 2, np.full(count, dec), edges[:-1], edges[1:], lower]))
    ra, dec, ra1, ra2, dec1 = np.concatenate(parts, axis=1)
    inside = np.abs(_galactic_latitude(ra, dec)) > GALACTIC_LIMIT
    columns = {"ra": ra, "dec": dec, "ra1": ra1, "ra2": ra2, "dec1": dec1, "dec2": dec1 + STEP}
    return {name: values[inside] for name, values in columns.items()}


def write_tables(root: Path, found: dict[str, Floats]) -> None:
    """The survey-bricks tables of both regions."""
    names = np.char.add(
        np.char.zfill((found["ra"] * 10).astype(int).astype(str), 4),
        np.char.add(
            np.where(found["dec"] < 0, "m", "p"), np.char.zfill((np.abs(found["dec"]) * 10).astype(int).astype(str), 3)
        ),
    )
    kinds = [("brickname", "U8"), *((name, "f8") for name in found), *((f"nexp_{band}", "i2") for band in "grz")]
    rows = np.ones(len(names), dtype=kinds)
    rows["brickname"] = names
    for name, values in found.items():
        rows[name] = values
    for release, region in (("dr10", "south"), ("dr9", "north")):
        write(root / f"{release}/{region}/survey-bricks-{release}-{region}.fits.gz", table_bytes(rows))


def write_sources(path: Path, found: dict[str, Floats], count: int) -> None:
    """Galaxies at random over the cells, in random order, with photometry to pass through."""
    rng = np.random.default_rng(1)
    sine1, sine2 = np.sin(np.radians(found["dec1"])), np.sin(np.radians(found["dec2"]))
    area = (found["ra2"] - found["ra1"]) * (sine2 - sine1)
    writer: pq.ParquetWriter | None = None
    for start in range(0, count, BATCH):
        rows = min(BATCH, count - start)
        cell = rng.choice(len(area), rows, p=area / area.sum())
        table = pa.table(
            {
                "object_id": np.arange(start, start + rows),
                "ra": rng.uniform(found["ra1"][cell], found["ra2"][cell]),
                "dec": np.degrees(np.arcsin(rng.uniform(sine1[cell], sine2[cell]))),
                "radius": np.exp(rng.normal(np.log(3.0), 0.5, rows)).astype(np.float32),
                **{f"flux_{band}": rng.random(rows, dtype=np.float32) for band in "grz"},
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def dry_run(mirror: str, table: Path, more: list[str]) -> float:
    """Seconds; what it prints goes to the screen. Raises SystemExit where it fails."""
    settings = ["sources.columns.radius=radius", "survey.regions=[south,north]", *more]
    flags = [part for setting in settings for part in ("--set", setting)]
    line = ["run", "--survey", "decals", "--mirror", mirror, "--sources", str(table), "--dry-run", *flags]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pipeline", *line], check=False)
    if done.returncode:
        raise SystemExit(f"the dry run ended with {done.returncode}")
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=GALAXIES)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a key of the job, KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whole-survey-") as temporary:
        root, table = Path(temporary) / "tree", Path(temporary) / "galaxies.parquet"
        found = cells()
        write_tables(root, found)
        write_sources(table, found, options.galaxies)
        north = int(owned_by_north(found["ra"], found["dec"]).sum())
        sys.stdout.write(f"{len(found['ra']):,} bricks, {north:,} of them northern\n\n")
        sys.stdout.flush()
        with legacy_archive(root) as archive:
            seconds = dry_run(archive.url, table, options.settings)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    sys.stdout.write(f"\n{seconds:.0f} s, peak memory {peak / 2**30:.2f} GiB\n")
    return int(seconds > LONGEST or peak > LARGEST)


def _galactic_latitude(ra: Floats, dec: Floats) -> Floats:
    """Degrees."""
    pole_ra, pole_dec = np.radians(POLE)
    d = np.radians(dec)
    sine = np.sin(pole_dec) * np.sin(d) + np.cos(pole_dec) * np.cos(d) * np.cos(np.radians(ra) - pole_ra)
    return np.degrees(np.arcsin(sine))


if __name__ == "__main__":
    sys.exit(main())
