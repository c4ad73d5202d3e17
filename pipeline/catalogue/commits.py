"""What is committed is done: one Parquet file a work unit, then its manifest, both created once for all.

    units/<first two letters of the id>/<unit id>/<attempt>.parquet    and then    <attempt>.json

The manifest is the commit point. Attempts count from 1; a unit's latest is the highest that has a manifest.
Writers that a crash left behind can do no harm:

* a file without a manifest was left by a writer that died in between (or is still at it). Whoever commits the
  same attempt reads it back. Where it is whole and says the same of the same sources, the manifest is written
  for that file as it is (its floats may differ from ours in the last bit); else the next number is taken;
* a manifest that exists already is returned, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.catalogue.contract import NetworkColumns
from pipeline.catalogue.parquet import table_bytes
from pipeline.catalogue.sky import ORDER
from pipeline.data import CLASSIFIED, Status, WorkUnit
from pipeline.errors import CatalogueError, UnitError
from pipeline.storage import Storage
from pipeline.tail import TileTime
from pipeline.versions import unreadable

UNITS = "units"
CAUSES_KEPT = 5  # a unit
CAUSE_LENGTH = 120  # characters
_LOOKED_AT = 1000  # characters of a reason: the search for paths takes the square of a word's length
_UNANSWERED = pa.array([status.value for status in Status if status not in CLASSIFIED])
HISTOGRAM_ORDER = 8  # HEALPix, 14 arcmin: about a survey brick, so that a unit touches few hundred pixels
_READERS = 16  # manifests read at once: an object store answers in tens of milliseconds


@dataclass(frozen=True)
class UnitFacts:
    """What a commit records besides its rows."""

    run_id: str
    job_digest: str
    bytes_read: int  # from the archive
    load_seconds: float  # of all load tasks together
    predict_seconds: float
    committed_at: float | None = None  # Unix time, s
    choices: tuple[str, ...] = ()  # device, precision, batch and way of the networks that predicted it, and why
    slow: tuple[TileTime, ...] = ()  # the survey tiles that took longest


class Checkpoint(BaseModel):
    """Which weights a network had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    untrained: bool


class Manifest(BaseModel):
    """One committed unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    unit_id: str
    attempt: int
    rows: int
    statuses: Mapping[str, int]  # status -> rows
    sha256: str  # of the Parquet file
    bytes: int
    tiles: int  # survey tiles
    pixels: Mapping[int, int]  # HEALPix pixel of order HISTOGRAM_ORDER, NESTED -> rows
    checkpoints: Mapping[str, Checkpoint]  # network prefix -> weights
    run_id: str
    job_digest: str
    bytes_read: int
    load_seconds: float
    predict_seconds: float
    committed_at: float | None = None  # Unix time, s; None in those of the first version
    choices: tuple[str, ...] = ()  # how the networks were run; none in older ones
    slow: tuple[TileTime, ...] = ()  # the survey tiles that took longest
    causes: Mapping[str, int] = {}  # "status: why" of rows without an answer -> rows; the commonest

    @property
    def parquet(self) -> str:
        """Name of the file that it describes."""
        return parquet_name(self.unit_id, self.attempt)


def commit_unit(
    storage: Storage, unit: WorkUnit, table: pa.Table, facts: UnitFacts, networks: Sequence[NetworkColumns]
) -> Manifest:
    """Publish the rows of a unit as attempt `unit.attempt`, or a later one; a second call changes nothing.

    Raises UnitError where the table has not the unit's number of rows, DiskFull and OSError from the storage.
    """
    if table.num_rows != unit.rows:
        raise UnitError(f"unit {unit.unit_id}: expected {unit.rows} rows, got {table.num_rows}")
    data = table_bytes(table)
    attempt = unit.attempt
    while True:
        committed = _manifest(storage, unit.unit_id, attempt)
        if committed is not None:
            return committed
        name = parquet_name(unit.unit_id, attempt)
        stored = data if storage.create(name, data) else storage.read(name)
        rows = table if stored == data else _adopted(stored, table, networks)
        if rows is not None:
            break
        if _manifest(storage, unit.unit_id, attempt) is None:  # else it was committed while we looked
            attempt += 1
    manifest = _described(unit, attempt, rows, stored, networks, facts)
    if storage.create(manifest_name(unit.unit_id, attempt), manifest.model_dump_json().encode()):
        return manifest
    return read_manifest(storage, manifest_name(unit.unit_id, attempt))


def committed_attempts(storage: Storage) -> dict[str, int]:
    """Unit id -> its latest committed attempt, from the names alone: what a resumed run need not do again."""
    latest: dict[str, int] = {}
    for name in _manifest_names(storage):
        unit_id, attempt = _parsed(name)
        latest[unit_id] = max(attempt, latest.get(unit_id, 0))
    return latest


def manifests(storage: Storage) -> Iterator[Manifest]:
    """Every manifest, by unit and attempt. Raises CatalogueError for one that cannot be read."""
    yield from _read_all(storage, _manifest_names(storage))


def latest_manifests(storage: Storage) -> dict[str, Manifest]:
    """Unit id -> the manifest of its latest attempt, in order of the ids."""
    return {manifest.unit_id: manifest for manifest in each_latest(storage)}


def each_latest(storage: Storage) -> Iterator[Manifest]:
    """The manifest of every unit's latest attempt, in order of the ids; a few hundred are in memory at a time."""
    latest = sorted(committed_attempts(storage).items())
    yield from _read_all(storage, [manifest_name(unit_id, attempt) for unit_id, attempt in latest])


def manifests_of(storage: Storage, unit_id: str) -> Iterator[Manifest]:
    """The manifests of one unit, attempt by attempt."""
    names = [name for name in storage.list(f"{UNITS}/{unit_id[:2]}/{unit_id}") if name.endswith(".json")]
    yield from (read_manifest(storage, name) for name in names)


def committed_table(storage: Storage, unit_id: str, attempt: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of an attempt. Raises CatalogueError where it was not committed, or its file is damaged."""
    manifest = _manifest(storage, unit_id, attempt)
    if manifest is None:
        raise CatalogueError(f"unit {unit_id} has no committed attempt {attempt}")
    return unit_rows(storage, manifest, columns)


def unit_rows(storage: Storage, manifest: Manifest, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a committed unit. Raises CatalogueError where the file is not what was committed."""
    data = pa.BufferReader(unit_data(storage, manifest))
    try:
        return pq.read_table(data, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError(f"{manifest.parquet} is no Parquet file: {error}") from error


def unit_data(storage: Storage, manifest: Manifest) -> bytes:
    """The file of a committed unit. Raises CatalogueError where it is not what was committed."""
    try:
        data = storage.read(manifest.parquet)
    except FileNotFoundError as error:
        raise CatalogueError(f"{manifest.parquet} is committed but is not there") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.sha256:
        raise CatalogueError(f"{manifest.parquet}: expected sha256 {manifest.sha256[:16]}, got {found[:16]}")
    return data


def commits_digest(committed: Sequence[Manifest]) -> str:
    """A name for what units hold: two sequences of manifests with the same digest hold the same."""
    units = [(unit.unit_id, unit.attempt, unit.sha256) for unit in committed]
    return hashlib.sha256(json.dumps(units).encode()).hexdigest()


def status_counts(statuses: pa.ChunkedArray) -> dict[str, int]:
    """Status -> rows, in order of the names."""
    counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(statuses).to_pylist()}
    return dict(sorted(counted.items()))


def failure_causes(rows: pa.Table) -> dict[str, int]:
    """Why rows have no answer, the commonest causes first: "status: reason", where and numbers taken out."""
    failed = rows.select(["status", "reason"]).filter(pc.is_in(rows["status"], value_set=_UNANSWERED))
    causes = Counter(f"{row['status']}: {cause_of(row['reason'] or '')}" for row in failed.to_pylist())
    return dict(causes.most_common(CAUSES_KEPT))


def cause_of(reason: str) -> str:
    """A reason without the names and numbers in it, so that equal causes count as one."""
    without = re.sub(r"\S*[/\\]\S*", "...", reason[:_LOOKED_AT])  # paths and URLs
    return re.sub(r"\b\w*\d[\w.+-]*", "#", without)[:CAUSE_LENGTH] or "no reason given"


def read_manifest(storage: Storage, name: str) -> Manifest:
    """One manifest. Raises FileNotFoundError, and CatalogueError for one that does not fit its name."""
    data = storage.read(name)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise CatalogueError(f"{name} is no manifest: {unreadable('it', error)}") from None
    if (manifest.unit_id, manifest.attempt) != _parsed(name):
        raise CatalogueError(f"{name} describes unit {manifest.unit_id}, attempt {manifest.attempt}")
    return manifest


def parquet_name(unit_id: str, attempt: int) -> str:
    return f"{UNITS}/{unit_id[:2]}/{unit_id}/{attempt:04d}.parquet"


def manifest_name(unit_id: str, attempt: int) -> str:
    return f"{UNITS}/{unit_id[:2]}/{unit_id}/{attempt:04d}.json"


def _manifest(storage: Storage, unit_id: str, attempt: int) -> Manifest | None:
    try:
        return read_manifest(storage, manifest_name(unit_id, attempt))
    except FileNotFoundError:
        return None


def _manifest_names(storage: Storage) -> list[str]:
    return [name for name in storage.list(UNITS) if name.endswith(".json")]


def _parsed(name: str) -> tuple[str, int]:
    """Unit id and attempt of a manifest's name."""
    _, _, unit_id, file = name.split("/")
    return unit_id, int(file.removesuffix(".json"))


def _read_all(storage: Storage, names: Sequence[str]) -> Iterator[Manifest]:
    """Manifests in the order of their names, several at a time and never all in memory."""
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(names), 16 * _READERS):
            yield from pool.map(lambda name: read_manifest(storage, name), names[start : start + 16 * _READERS])


def _described(
    unit: WorkUnit, attempt: int, rows: pa.Table, data: bytes, networks: Sequence[NetworkColumns], facts: UnitFacts
) -> Manifest:
    checkpoints = {n.prefix: Checkpoint(sha256=n.checkpoint, untrained=n.untrained) for n in networks}
    return Manifest(
        unit_id=unit.unit_id,
        attempt=attempt,
        rows=rows.num_rows,
        statuses=status_counts(rows["status"]),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        tiles=unit.tiles,
        pixels=_histogram(rows["_healpix_29"]),
        checkpoints=checkpoints,
        causes=failure_causes(rows),
        **vars(facts),
    )


def _adopted(data: bytes, table: pa.Table, networks: Sequence[NetworkColumns]) -> pa.Table | None:
    """The rows of a file that a dead writer left, None unless they are as good as those of `table`.

    As good: the file is whole, and has the same columns, sources, statuses and checkpoints.
    """
    try:
        stored = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return None
    if stored.schema != table.schema:
        return None
    same = ("object_id", "status", *(network.checkpoint_column for network in networks))
    return stored if stored.select(same).equals(table.select(same)) else None


def _histogram(pixels: pa.ChunkedArray) -> dict[int, int]:
    coarse = pixels.to_numpy() >> 2 * (ORDER - HISTOGRAM_ORDER)
    found, counts = np.unique(coarse, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
