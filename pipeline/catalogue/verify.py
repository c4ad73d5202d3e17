"""Whether an output holds what its manifests and its newest snapshot say: every file, every byte, every row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue.commits import (
    UNITS,
    Manifest,
    commits_digest,
    parquet_name,
    read_manifest,
    status_counts,
    unit_rows,
)
from pipeline.catalogue.identifiers import IdentifierCheck
from pipeline.catalogue.layout import CHECKSUMS, COLLECTION, LATEST, PRIMARY
from pipeline.catalogue.published import Published
from pipeline.catalogue.snapshots import Snapshot, newest_snapshot
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
    problems += _file_problems(storage, found, latest)
    if planned is not None:
        problems += _plan_problems(set(planned), set(latest))
    snapshot, more = _newest(storage)
    if snapshot is not None:
        more += _snapshot_problems(storage, snapshot, [latest[unit_id] for unit_id in sorted(latest)])
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


def _file_problems(storage: Storage, found: list[Manifest], latest: Mapping[str, Manifest]) -> list[str]:
    """What is wrong with the files of the manifests, and the identifiers of the latest attempts that repeat."""
    problems: list[str] = []
    check = partial(_checked, storage)
    with IdentifierCheck() as identifiers, ThreadPoolExecutor(_READERS) as pool:
        slices = (found[start : start + _SLICE] for start in range(0, len(found), _SLICE))
        checked = (pair for units in slices for pair in zip(units, pool.map(check, units), strict=True))
        for unit, (ids, wrong) in checked:
            problems += wrong
            if ids is not None and latest[unit.unit_id] is unit:
                identifiers.add(ids)
        repeated = identifiers.repeated()
    return problems + [f"object_id {identifier!r} is there more than once" for identifier in repeated]


def _checked(storage: Storage, unit: Manifest) -> tuple[pa.ChunkedArray | None, list[str]]:
    """The identifiers of a committed file, and what is wrong with it."""
    try:
        rows = unit_rows(storage, unit, ("object_id", "status"))
    except CatalogueError as error:
        return None, [str(error)]
    statuses = status_counts(rows["status"])
    if (rows.num_rows, statuses) != (unit.rows, dict(unit.statuses)):
        said = f"{unit.rows} rows, {dict(unit.statuses)}"
        return rows["object_id"], [f"{unit.parquet} has {rows.num_rows} rows, {statuses}; its manifest says {said}"]
    return rows["object_id"], []


def _plan_problems(planned: set[str], committed: set[str]) -> list[str]:
    missing = [f"unit {unit_id} is planned but not committed" for unit_id in sorted(planned - committed)]
    return missing + [f"unit {unit_id} is committed but not planned" for unit_id in sorted(committed - planned)]


def _newest(storage: Storage) -> tuple[Snapshot | None, list[str]]:
    try:
        return newest_snapshot(storage), []
    except CatalogueError as error:
        return None, [str(error)]


def _snapshot_problems(storage: Storage, snapshot: Snapshot, latest: list[Manifest]) -> list[str]:
    """What is wrong with a snapshot: its files, its rows, and whether it is behind the commits."""
    problems = _checksum_problems(storage, snapshot)
    if snapshot.commits != commits_digest(latest):
        problems.append(f"{snapshot.folder} was published before the latest commits: publish again")
    published = Published(storage, f"{snapshot.folder}/{PRIMARY}")
    try:
        rows = sum(_footer_rows(storage, name) for name in published.files())
    except (FileNotFoundError, ValueError, KeyError, pa.ArrowException) as error:
        return [*problems, f"{snapshot.folder} cannot be read: {error}"]
    if rows != snapshot.rows:
        problems.append(f"{snapshot.folder} has {rows} rows in its files, but says {snapshot.rows}")
    if storage.pointed(LATEST) != snapshot.folder:
        problems.append(f"{LATEST} leads to {storage.pointed(LATEST)}, not to {snapshot.folder}")
    return problems


def _checksum_problems(storage: Storage, snapshot: Snapshot) -> list[str]:
    here = set(storage.list(snapshot.folder)) - {f"{snapshot.folder}/{name}" for name in (COLLECTION, CHECKSUMS)}
    try:
        lines = storage.read(f"{snapshot.folder}/{CHECKSUMS}")
    except FileNotFoundError:
        return [f"{snapshot.folder}/{CHECKSUMS} is not there"]
    if hashlib.sha256(lines).hexdigest() != snapshot.checksums:
        return [f"{snapshot.folder}/{CHECKSUMS} is not the one that was published"]
    listed = {f"{snapshot.folder}/{name}": sha for sha, name in map(str.split, lines.decode().splitlines())}
    problems = [f"{name} is no part of the snapshot" for name in sorted(here - set(listed))]
    for name, sha in listed.items():
        if name not in here:
            problems.append(f"{name} is not there")
        elif (found := hashlib.sha256(storage.read(name)).hexdigest()) != sha:
            problems.append(f"{name}: expected sha256 {sha[:16]}, got {found[:16]}")
    return problems


def _footer_rows(storage: Storage, name: str) -> int:
    with storage.open(name) as file:
        return int(pq.read_metadata(file).num_rows)
