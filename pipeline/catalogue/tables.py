"""The tables of one snapshot, written together in one walk along the sky: two processor cores are kept busy.

A stretch of rows is read and sorted ahead while the one before is completed (flags, recommendations), encoded for each
dataset in a thread of its own, and counted. Memory holds a few stretches, whatever the size of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.catalogue.assembly import CommittedRows, Stretch, stretches
from pipeline.catalogue.commits import HISTOGRAM_ORDER, Manifest
from pipeline.catalogue.contract import DEFAULT_PARTS, catalogue_schema, maps_schema, recommended_fields
from pipeline.catalogue.dataset import ROW_GROUP, DatasetWriter
from pipeline.catalogue.flags import NEEDED, Surroundings, row_flags
from pipeline.catalogue.identifiers import IdentifierCheck
from pipeline.catalogue.layout import FRIENDLY, MAPS, PRIMARY
from pipeline.catalogue.margins import Margins
from pipeline.catalogue.parquet import table_bytes
from pipeline.catalogue.partitions import Partition, merged_histogram, partitions
from pipeline.catalogue.recommended import classes_of, recommended
from pipeline.catalogue.summaries import Completeness, Sample
from pipeline.storage import Storage

FILE_BYTES = 300_000_000  # of a Parquet file at most: the sky is divided in four until that holds, 75 MB or more remain


@dataclass(frozen=True)
class Shape:
    """The columns and the partitions of a snapshot's tables."""

    catalogue: pa.Schema
    friendly: pa.Schema
    maps: pa.Schema | None
    classes: tuple[str, ...]  # that rows are recommended for, by
    network: str | None  # the first of the job
    partitions: list[Partition]  # of the catalogue and of the friendly table
    map_partitions: list[Partition]


def shape(committed: Sequence[Manifest], largest: pa.Table, max_rows: int | None) -> Shape:
    """What the tables of a snapshot look like, by a unit's rows; `max_rows` of a file is else what FILE_BYTES hold."""
    unit = largest.schema
    networks = tuple(committed[0].checkpoints)
    network = networks[0] if networks else None
    classes = () if network is None else classes_of(unit, network)
    added = [] if network is None else recommended_fields(network, classes)
    full = pa.schema([*catalogue_schema(unit), *added])
    names = friendly_columns(full, networks)
    histogram = merged_histogram(unit.pixels for unit in committed)

    def divided(schema: pa.Schema | None) -> list[Partition]:
        if schema is None:
            return []
        columns = [name for name in schema.names if name in largest.column_names]
        row_bytes = len(table_bytes(largest.select(columns), ROW_GROUP)) / largest.num_rows
        return partitions(histogram, HISTOGRAM_ORDER, max_rows or max(1, int(FILE_BYTES / row_bytes)))

    maps = maps_schema(unit)
    friendly = pa.schema([full.field(name) for name in names])
    return Shape(full, friendly, maps, classes, network, divided(full), divided(maps))


def friendly_columns(schema: pa.Schema, networks: Sequence[str]) -> list[str]:
    """What most people want: who and where, the status, each network's answer, the recommendations."""
    asked = tuple(f"{prefix}_{part}" for prefix in networks for part in DEFAULT_PARTS)
    first = ["_healpix_29", "object_id", "ra", "dec", "status", "flags"]
    others = [name for name in schema.names if name.startswith((*asked, "recommended_")) and name not in first]
    return first + others


class Tables:
    """Everything of a snapshot that is made of its rows."""

    def __init__(self, storage: Storage, folder: str, name: str, scratch: Path, wanted: Shape) -> None:
        def writer(table: str, schema: pa.Schema) -> DatasetWriter:
            shown = name if table == PRIMARY else f"{name}_{table}"
            return DatasetWriter(storage, scratch, f"{folder}/{table}", shown, schema)

        self.shape = wanted
        self.catalogue = writer(PRIMARY, wanted.catalogue)
        self.friendly = writer(FRIENDLY, wanted.friendly)
        self.maps = None if wanted.maps is None else writer(MAPS, wanted.maps)
        self.margins = Margins(scratch, wanted.partitions)
        self.sample = Sample()
        self.completeness = Completeness(wanted.classes)

    def fill(self, source: CommittedRows, identifiers: IdentifierCheck) -> None:
        """Write all rows. Raises CatalogueError for rows that are not those of the manifests."""
        divisions = [self.shape.partitions, self.shape.map_partitions]
        walk: list[Stretch | None] = [*stretches(source.committed, divisions), None]
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(3) as writers:
            ahead = reader.submit(source.rows, walk[0]) if walk[0] is not None else None
            for stretch, following in pairwise(walk):
                if stretch is None or ahead is None:
                    break
                rows = ahead.result()
                if following is not None:
                    ahead = reader.submit(source.rows, following)
                self._write(writers, stretch, self._completed(rows, source.around(rows, stretch)), identifiers)

    @property
    def datasets(self) -> list[DatasetWriter]:
        return [each for each in (self.catalogue, self.friendly, self.maps) if each is not None]

    def _write(
        self, writers: ThreadPoolExecutor, stretch: Stretch, rows: pa.Table, identifiers: IdentifierCheck
    ) -> None:
        home = _holding(self.shape.partitions, stretch)
        jobs = [writers.submit(each.append, home.order, home.pixel, rows) for each in (self.catalogue, self.friendly)]
        if self.maps is not None:
            place = _holding(self.shape.map_partitions, stretch)
            jobs.append(writers.submit(self.maps.append, place.order, place.pixel, rows))
        published = rows.select(self.shape.catalogue.names)
        self.margins.add(published)
        self.sample.add(published)
        self.completeness.add(published)
        identifiers.add(rows["object_id"], _healpix_29=rows["_healpix_29"], **_place(home, rows.num_rows))
        for job in jobs:
            job.result()

    def _completed(self, rows: pa.Table, halo: pa.Table) -> pa.Table:
        """The rows with all flags and the recommendations."""
        columns = [*NEEDED, *(name for name in halo.column_names if name not in NEEDED)]
        around = pa.concat_tables([rows.select(columns), halo.select(columns)])
        order = np.argsort(around["_healpix_29"].to_numpy(), kind="stable")
        own = np.empty(len(order), np.int64)
        own[order] = np.arange(len(order))
        flags = row_flags(rows, Surroundings.of(around.take(pa.array(order))), own[: rows.num_rows])
        place = rows.schema.get_field_index("flags")
        rows = rows.set_column(place, rows.schema.field("flags"), flags)
        if self.shape.network is None:
            return rows
        found = recommended(rows, self.shape.network)
        for name in self.shape.classes:
            rows = rows.append_column(self.shape.catalogue.field(f"recommended_{name}"), found[name])
        return rows


def _holding(divided: Sequence[Partition], stretch: Stretch) -> Partition:
    """The partition that a stretch lies in."""
    low, high = 0, len(divided)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if divided[middle].range[0] <= stretch.first else (low, middle)
    return divided[low]


def _place(partition: Partition, rows: int) -> dict[str, pa.Array]:
    """The columns by which a HATS index names a partition, with hats' own types."""
    values = {"Norder": partition.order, "Dir": partition.pixel // 10_000 * 10_000, "Npix": partition.pixel}
    kinds = {"Norder": pa.uint8(), "Dir": pa.uint64(), "Npix": pa.uint64()}
    return {name: pa.repeat(pa.scalar(value, kinds[name]), rows) for name, value in values.items()}
