"""Whether an output holds what its manifests and its newest snapshot say: every file, every byte, every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue.commits import UNITS, Manifest, parquet_name, read_manifest, status_counts, unit_data
from pipeline.catalogue.identifiers import IdentifierCheck
from pipeline.catalogue.snapshot_checks import snapshot_problems
from pipeline.catalogue.snapshots import Snapshot, newest_snapshot
from pipeline.catalogue.soundness import row_columns, row_problems, schema_problems
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

_READERS = 8  # files read at once
_SLICE = 64  # files between two waits, so that their rows are not all held


@dataclass(frozen=True)
class VerifyReport:
    """What was checked, and every sentence that says what is wrong."""

    units: int  # committed
    rows: int  # of their latest attempts
    snapshot: str | None  # folder of the newest one
    leftovers: tuple[str, ...]  # files that a crash left without a manifest: harmless
    problems: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One line for a reader."""
        found = f"{len(self.problems)} problems" if self.problems else "all sound"
        extra = f", {len(self.leftovers)} files left by crashes" if self.leftovers else ""
        return f"{self.units} units, {self.rows} rows, snapshot {self.snapshot or 'none'}: {found}{extra}"


def verify(storage: Storage, planned: Iterable[str] | None = None) -> VerifyReport:
    """Read every committed file and the newest snapshot, and compare; `planned` are the ids that ought to be there.

    Raises OSError where the storage cannot be read; everything else that is wrong becomes a sentence.
    """
    names = storage.list(UNITS)
    found, problems = _manifests(storage, names)
    committed = {(unit.unit_id, unit.attempt) for unit in found}
    described = {parquet_name(*unit) for unit in committed}
    strangers = [name for name in names if name not in described and not name.endswith(".json")]
    leftovers = tuple(name for name in strangers if name.endswith(".parquet"))
    problems += [f"{name} belongs to no commit" for name in strangers if not name.endswith(".parquet")]
    latest = {unit.unit_id: unit for unit in sorted(found, key=lambda unit: unit.attempt)}
    snapshot, more = _newest(storage)
    with IdentifierCheck() as identifiers:
        problems += _file_problems(storage, found, latest, identifiers)
        if planned is not None:
            problems += _plan_problems(set(planned), set(latest))
        if snapshot is not None:
            in_order = [latest[unit_id] for unit_id in sorted(latest)]
            more += snapshot_problems(storage, snapshot, in_order, identifiers)
    return VerifyReport(
        units=len(latest),
        rows=sum(unit.rows for unit in latest.values()),
        snapshot=None if snapshot is None else snapshot.folder,
        leftovers=leftovers,
        problems=tuple(problems + more),
    )


def _manifests(storage: Storage, names: list[str]) -> tuple[list[Manifest], list[str]]:
    found, problems = [], []
    for name in names:
        if not name.endswith(".json"):
            continue
        try:
            found.append(read_manifest(storage, name))
        except CatalogueError as error:
            problems.append(str(error))
    return found, problems


def _file_problems(
    storage: Storage, found: list[Manifest], latest: Mapping[str, Manifest], identifiers: IdentifierCheck
) -> list[str]:
    """What is wrong with the files of the manifests, and the identifiers of the latest attempts that repeat."""
    problems: list[str] = []
    check = partial(_checked, storage)
    with ThreadPoolExecutor(_READERS) as pool:
        slices = (found[start : start + _SLICE] for start in range(0, len(found), _SLICE))
        checked = (pair for units in slices for pair in zip(units, pool.map(check, units), strict=True))
        for unit, (rows, wrong) in checked:
            problems += wrong
            if rows is not None and latest[unit.unit_id] is unit:
                identifiers.add(rows["object_id"], _healpix_29=rows["_healpix_29"])
    return problems + [f"object_id {identifier!r} is there more than once" for identifier in identifiers.repeated()]


def _checked(storage: Storage, unit: Manifest) -> tuple[pa.Table | None, list[str]]:
    """The identifiers and pixels of a committed file, and what is wrong with it."""
    try:
        data = pa.BufferReader(unit_data(storage, unit))
    except CatalogueError as error:
        return None, [str(error)]
    try:
        rows, problems = _judged(data, unit)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return None, [f"{unit.parquet} is no Parquet file: {error}"]
    except KeyError as error:  # of a column that rows are judged by
        return None, [f"{unit.parquet}: it cannot be checked: {error.args[0]}"]
    return rows, [f"{unit.parquet}: {problem}" for problem in problems]


def _judged(data: pa.BufferReader, unit: Manifest) -> tuple[pa.Table, list[str]]:
    """As `_checked`, of bytes that are those of the manifest. Raises KeyError where a column is not there."""
    networks = tuple(unit.checkpoints)
    schema = pq.read_schema(data)
    rows = pq.read_table(data, columns=row_columns(schema, networks))
    identified = rows.select(["object_id", "_healpix_29"])
    problems = [*schema_problems(schema), *row_problems(rows, networks)]
    statuses = status_counts(rows["status"])
    if (rows.num_rows, statuses) != (unit.rows, dict(unit.statuses)):
        said = f"its manifest says {unit.rows} rows, {dict(unit.statuses)}"
        problems.append(f"it has {rows.num_rows} rows, {statuses}; {said}")
    return identified, problems


def _plan_problems(planned: set[str], committed: set[str]) -> list[str]:
    missing = [f"unit {unit_id} is planned but not committed" for unit_id in sorted(planned - committed)]
    return missing + [f"unit {unit_id} is committed but not planned" for unit_id in sorted(committed - planned)]


def _newest(storage: Storage) -> tuple[Snapshot | None, list[str]]:
    try:
        return newest_snapshot(storage), []
    except CatalogueError as error:
        return None, [str(error)]
