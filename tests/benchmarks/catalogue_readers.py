"""The same questions to one published catalogue, by our client, by LSDB and by pyarrow that is told the file.

    python -m tests.benchmarks.catalogue_readers COLLECTION READER CENTRES REPEATS

prints one JSON line: seconds of every question, rows found and the peak memory of this process. Seconds are of the
clock and of all processors together: on a machine that others use, only the latter are the question's own.
READER is `ours`, `pyarrow` or `lsdb`; CENTRES are the positions of cones, "ra,dec ra,dec ...", each asked once so that
no answer is remembered. With REPEATS 0 only the first cone is asked, as somebody does who opens a catalogue for one
answer.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

CONES = {"cone 60 arcsec": 60.0, "cone 1 deg": 3600.0}  # arcsec
PREDICATE = "predicate, all rows"
NETWORK = "dmagnet"
SPIRAL, ENTROPY = 0.9, 0.2  # dmagnet_p_spiral above, dmagnet_att_entropy below: 1 row in 100
Centre = tuple[float, float]


class Reader(Protocol):
    """Answers with the default columns of the rows that are asked for, in memory; gives their number."""

    def cone(self, ra: float, dec: float, radius: float) -> int:
        """Rows within `radius` arcsec."""

    def predicate(self) -> int:
        """Rows of the whole catalogue with a high probability and a concentrated attention map."""


class Ours:
    """open_catalogue(...).cone(...).select(...).to_table()."""

    def __init__(self, collection: str) -> None:
        from pipeline import open_catalogue

        self._catalogue = open_catalogue(collection)

    def cone(self, ra: float, dec: float, radius: float) -> int:
        part = self._catalogue.cone(ra, dec, radius)
        return int(part.select(*part.default_columns).to_table().num_rows)

    def predicate(self) -> int:
        condition = f"{NETWORK}_p_spiral > {SPIRAL} AND {NETWORK}_att_entropy < {ENTROPY}"
        part = self._catalogue.where(condition)
        return int(part.select(*part.default_columns).to_table().num_rows)


class Pyarrow:
    """pyarrow alone, told beforehand which pixels have files: what a person writes who knows the layout.

    A cone reads the files that its centre and rim are in, with a range of `_healpix_29` pushed down to row groups.
    """

    def __init__(self, collection: str) -> None:
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        from pipeline import open_catalogue

        catalogue = open_catalogue(collection)
        self._compute = pc
        self._columns = list(catalogue.default_columns)
        self._published = catalogue.table
        self._files = [catalogue.table.storage.path(name) for name in catalogue.table.files()]
        fragments = [ds.dataset(file, schema=catalogue.schema, format="parquet") for file in self._files]
        self._fragments = fragments
        self._all = ds.dataset(self._files, schema=catalogue.schema, format="parquet")

    def cone(self, ra: float, dec: float, radius: float) -> int:
        from pipeline.catalogue.sky import angles, cone_ranges, unit_vectors

        ranges = cone_ranges(ra, dec, radius / 3600)
        pixel = self._compute.field("_healpix_29")
        wanted = (pixel >= int(ranges[0, 0])) & (pixel < int(ranges[-1, 1]))
        found = 0
        for index in self._published.overlapping(ranges):
            rows = self._fragments[index].to_table(columns=self._columns, filter=wanted)
            vectors = unit_vectors(rows["ra"].to_numpy(), rows["dec"].to_numpy())
            inside = angles(vectors, unit_vectors(np.array([ra]), np.array([dec]))[0]) <= np.radians(radius / 3600)
            found += rows.filter(inside).num_rows
        return found

    def predicate(self) -> int:
        field = self._compute.field
        wanted = (field(f"{NETWORK}_p_spiral") > SPIRAL) & (field(f"{NETWORK}_att_entropy") < ENTROPY)
        return int(self._all.to_table(columns=self._columns, filter=wanted).num_rows)


class Lsdb:
    """lsdb.open_catalog(...).cone_search(...).compute(), with Dask's threads."""

    def __init__(self, collection: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, inside lsdb and nested-pandas
            lsdb: Any = import_module("lsdb")
        self._shown = lsdb.open_catalog(collection)
        names = [*self._shown.columns, f"{NETWORK}_att_entropy"]
        self._wide = lsdb.open_catalog(collection, columns=names)

    def cone(self, ra: float, dec: float, radius: float) -> int:
        return len(self._shown.cone_search(ra=ra, dec=dec, radius_arcsec=radius).compute())

    def predicate(self) -> int:
        return len(self._wide.query(f"{NETWORK}_p_spiral > {SPIRAL} and {NETWORK}_att_entropy < {ENTROPY}").compute())


READERS: dict[str, Callable[[str], Reader]] = {"ours": Ours, "pyarrow": Pyarrow, "lsdb": Lsdb}


@dataclass(frozen=True)
class Answered:
    """What one process measured."""

    seconds: dict[str, list[float]]  # by the clock
    cpu: dict[str, list[float]]  # s of all threads
    rows: dict[str, int]
    peak: float  # bytes of resident memory


def ask(collection: str, reader: str, centres: Sequence[Centre], repeats: int) -> Answered:
    """Every question; with `repeats` 0 the first cone alone."""
    opened = READERS[reader](collection)
    if not repeats:
        found = opened.cone(*centres[0], 60.0)
        return Answered({}, {}, {"cone 60 arcsec": found}, peak_memory())
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    rows: dict[str, int] = {}
    for name, asked in _questions(opened, centres, repeats).items():
        asked[0]()  # warm: footers read, files in the page cache
        timed = [_timed(question) for question in asked[1:]]
        seconds[name], cpu[name] = [each[0] for each in timed], [each[1] for each in timed]
        rows[name] = sum(each[2] for each in timed)
    return Answered(seconds, cpu, rows, peak_memory())


def _questions(opened: Reader, centres: Sequence[Centre], repeats: int) -> dict[str, list[Callable[[], int]]]:
    cones: dict[str, list[Callable[[], int]]] = {
        name: [partial(opened.cone, *centre, radius) for centre in centres] for name, radius in CONES.items()
    }
    return cones | {PREDICATE: [opened.predicate] * (repeats + 1)}


def _timed(question: Callable[[], int]) -> tuple[float, float, int]:
    started, used = time.perf_counter(), time.process_time()
    found = question()
    return time.perf_counter() - started, time.process_time() - used, found


def peak_memory() -> float:
    """Bytes of resident memory that this process held at most.

    getrusage would count what the process that started this one held (proc(5), VmHWM; execve(2) keeps ru_maxrss).
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    collection, reader, centres, repeats = sys.argv[1:]
    positions = [(float(ra), float(dec)) for ra, dec in (each.split(",") for each in centres.split())]
    sys.stdout.write(json.dumps(asdict(ask(collection, reader, positions, int(repeats)))) + "\n")


if __name__ == "__main__":
    main()
