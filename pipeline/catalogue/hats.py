"""Publish what is committed as a HATS collection: a new snapshot, built from the latest attempt of every unit.

Two passes: the manifests' histograms say which HEALPix pixels there are; then each pixel is built from the units that
overlap it, so that memory holds one published file at a time: 2 GB for a million rows of one network with its maps,
at 50,000 rows a second. collection.properties comes last, then `latest`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.catalogue.commits import HISTOGRAM_ORDER, Manifest, commits_digest, latest_manifests, unit_rows
from pipeline.catalogue.contract import DEFAULT_PARTS, catalogue_schema, is_map, maps_schema
from pipeline.catalogue.dataset import DatasetWriter, publish_file
from pipeline.catalogue.identifiers import IdentifierCheck
from pipeline.catalogue.partitions import Partition, merged_histogram, partitions
from pipeline.catalogue.properties import properties_bytes
from pipeline.catalogue.sky import pixel_range
from pipeline.catalogue.snapshots import (
    CHECKSUMS,
    COLLECTION,
    LATEST,
    MAPS,
    PRIMARY,
    Snapshot,
    newest_snapshot,
    snapshot_files,
    snapshot_folder,
    write_collection,
)
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

MAX_ROWS = 1_000_000  # of a file: 50-200 MB, where counting queries are 5x faster than at a tenth of it
_READERS = 8  # units read at once
_UNTRAINED = "UNTRAINED: {networks} had random weights, so that its columns mean nothing. "


def finalise(storage: Storage, *, name: str, description: str = "", max_rows: int = MAX_ROWS) -> Snapshot:
    """Publish a snapshot of every committed unit; the existing one where nothing is new since.

    Raises CatalogueError where nothing is committed, a file is not what was committed, an object_id is there
    twice, or two runs had different checkpoints of one network. Then, as after a crash, nothing is published and
    the next snapshot takes the next number.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise CatalogueError(f"{name!r} cannot name a catalogue: letters, digits, dot, dash and underscore can")
    committed = list(latest_manifests(storage).values())
    if not committed:
        raise CatalogueError(f"{storage.shown}: nothing is committed, so there is nothing to publish")
    _check_checkpoints(committed)
    title = _Title(name, description, max_rows)
    newest = newest_snapshot(storage)
    if newest is None or (newest.commits, newest.options) != (commits_digest(committed), title.digest):
        newest = _publish(storage, committed, title)
    storage.point(LATEST, newest.folder)
    return newest


@dataclass(frozen=True)
class _Title:
    name: str
    description: str
    max_rows: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()


def _publish(storage: Storage, committed: Sequence[Manifest], title: _Title) -> Snapshot:
    folder = snapshot_folder(_free_number(storage))
    divided = partitions(merged_histogram(unit.pixels for unit in committed), HISTOGRAM_ORDER, title.max_rows)
    schema = unit_rows(storage, committed[0]).schema
    writers = [DatasetWriter(storage, f"{folder}/{PRIMARY}", title.name, catalogue_schema(schema))]
    maps = maps_schema(schema)
    if maps is not None:
        writers.append(DatasetWriter(storage, f"{folder}/{MAPS}", f"{title.name}_{MAPS}", maps))
    with IdentifierCheck() as identifiers:
        for partition, units in zip(divided, _overlapping(divided, committed), strict=True):
            table = _partition_rows(storage, partition, units, schema)
            for writer in writers:
                writer.write(partition, table)
            identifiers.add(table["object_id"])
        repeated = identifiers.repeated()
    if repeated:
        raise CatalogueError(f"object_ids are there more than once, among them {repeated}")
    return _describe(storage, folder, writers, committed, title)


def _describe(
    storage: Storage,
    folder: str,
    writers: Sequence[DatasetWriter],
    committed: Sequence[Manifest],
    title: _Title,
) -> Snapshot:
    """Everything of a snapshot but its Parquet files; collection.properties last."""
    about = _about(committed, title)
    default = {"hats_cols_default": " ".join(_default_columns(writers[0].schema, committed[0]))}
    checksums: dict[str, str] = {}
    for writer in writers:
        writer.finish(about | default if writer is writers[0] else about)
        checksums |= writer.checksums
    extension = {}
    if len(writers) > 1:
        extension = {"all_extensions": f"{MAPS} {MAPS}.properties"}
        data = _extension(title.name, writers[1].schema)
        publish_file(storage, f"{folder}/{MAPS}.properties", data)
        checksums[f"{folder}/{MAPS}.properties"] = hashlib.sha256(data).hexdigest()
    lines = "".join(f"{sha}  {name.removeprefix(folder + '/')}\n" for name, sha in sorted(checksums.items()))
    publish_file(storage, f"{folder}/{CHECKSUMS}", lines.encode())
    snapshot = Snapshot(
        number=int(folder.rsplit("/", 1)[1]),
        path=f"{storage.shown.rstrip('/')}/{folder}",
        name=title.name,
        rows=sum(unit.rows for unit in committed),
        files=len(writers[0].partitions),
        statuses=_statuses(committed),
        untrained=_untrained(committed),
        commits=commits_digest(committed),
        options=title.digest,
        checksums=hashlib.sha256(lines.encode()).hexdigest(),
    )
    write_collection(storage, snapshot, about | extension)
    return snapshot


def _partition_rows(storage: Storage, partition: Partition, units: Sequence[Manifest], schema: pa.Schema) -> pa.Table:
    """The rows of one pixel, unsorted, checked against the manifests."""
    first, stop = partition.range

    def rows_inside(unit: Manifest) -> pa.Table:
        rows = unit_rows(storage, unit)
        if rows.schema != schema:
            names = sorted(set(rows.schema.names) ^ set(schema.names))
            raise CatalogueError(f"{unit.parquet}: its columns differ from those of the first unit: {names}")
        start, end = np.searchsorted(rows["_healpix_29"].to_numpy(), [first, stop])
        return rows.slice(start, end - start)

    with ThreadPoolExecutor(_READERS) as pool:
        table = pa.concat_tables(pool.map(rows_inside, units))
    if table.num_rows != partition.rows:
        raise CatalogueError(f"{partition.name}: expected {partition.rows} rows by the manifests, got {table.num_rows}")
    for prefix, checkpoint in units[0].checkpoints.items():
        found = set(pc.unique(table[f"{prefix}_checkpoint"]).drop_null().to_pylist())
        if found - {checkpoint.sha256}:
            runs = sorted(pc.unique(table["run_id"]).to_pylist())
            raise CatalogueError(f"network {prefix} had several checkpoints, {sorted(found)}, in the runs {runs}")
    return table


def _overlapping(divided: Sequence[Partition], committed: Sequence[Manifest]) -> list[list[Manifest]]:
    """For every partition, the units that have rows in it."""
    starts = np.array([partition.range[0] for partition in divided])
    units: list[list[Manifest]] = [[] for _ in divided]
    for unit in committed:
        firsts = [pixel_range(HISTOGRAM_ORDER, pixel)[0] for pixel in unit.pixels]
        for index in np.unique(np.searchsorted(starts, firsts, side="right") - 1).tolist():
            units[index].append(unit)
    return units


def _free_number(storage: Storage) -> int:
    """The number of the next snapshot; what a crash left of unpublished ones is removed."""
    files = snapshot_files(storage)
    for number, names in files.items():
        if f"{snapshot_folder(number)}/{COLLECTION}" not in names:
            for name in names:
                storage.delete(name)
    return max(files, default=0) + 1


def _check_checkpoints(committed: Sequence[Manifest]) -> None:
    found: dict[str, dict[str, set[str]]] = {}
    for unit in committed:
        for prefix, checkpoint in unit.checkpoints.items():
            found.setdefault(prefix, {}).setdefault(checkpoint.sha256, set()).add(unit.run_id)
    for prefix, runs in found.items():
        if len(runs) > 1:
            listed = "; ".join(f"{sha[:16]} in {', '.join(sorted(names))}" for sha, names in sorted(runs.items()))
            raise CatalogueError(f"network {prefix} had several checkpoints: {listed}. Run one of them again")


def _about(committed: Sequence[Manifest], title: _Title) -> dict[str, object]:
    """The properties that the collection and its catalogues share."""
    untrained = _untrained(committed)
    warning = _UNTRAINED.format(networks=", ".join(untrained)) if untrained else ""
    checkpoints = {prefix: c.sha256 for unit in committed for prefix, c in unit.checkpoints.items()}
    return {
        "obs_title": f"Galaxy morphology: {title.name}",
        "obs_description": (warning + (title.description or "Morphology by attention networks")).strip(),
        "hats_builder": f"galaxy-pipeline {version('galaxy-pipeline')}",
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M%Z"),
        "pipeline_runs": " ".join(sorted({unit.run_id for unit in committed})),
        "pipeline_checkpoints": " ".join(f"{prefix}:{sha}" for prefix, sha in sorted(checkpoints.items())),
        "pipeline_untrained": " ".join(untrained),
    }


def _extension(collection: str, maps: pa.Schema) -> bytes:
    """The attention maps as an extension of the catalogue (hats 0.11, ExtensionProperties)."""
    columns = [field.name for field in maps if is_map(field)]
    values: Mapping[str, object] = {
        "obs_collection": MAPS,
        "dataproduct_type": "extension",
        "hats_primary_table_url": collection,
        "hats_col_assn_primary": "object_id",
        "hats_assn_join_table_url": MAPS,
        "hats_col_assn_join": "object_id",
        "hats_ext_cols": " ".join(columns),
        "hats_ext_join_style": "left",
        "hats_ext_shares_primary_coords": "true",
    }
    return properties_bytes("HATS Extension", values)


def _default_columns(schema: pa.Schema, unit: Manifest) -> list[str]:
    """What a reader gets who names no columns: who and where, the status, and each network's answer."""
    prefixes = tuple(f"{prefix}_{part}" for prefix in unit.checkpoints for part in DEFAULT_PARTS)
    first = ["object_id", "ra", "dec", "status", "flags"]
    return [*first, *(name for name in schema.names if name.startswith(prefixes) and name not in first)]


def _statuses(committed: Sequence[Manifest]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for unit in committed:
        total.update(unit.statuses)
    return dict(sorted(total.items()))


def _untrained(committed: Sequence[Manifest]) -> tuple[str, ...]:
    return tuple(sorted({prefix for unit in committed for prefix, c in unit.checkpoints.items() if c.untrained}))
