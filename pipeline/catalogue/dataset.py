"""One HATS catalogue being written: its Parquet files pixel by pixel, then the files that describe it.

Layout: HATS 1.0 (IVOA Note, 2025; github.com/astronomy-commons/hats, docs/directory_scheme.rst). The optional file
`dataset/_metadata` is left out: it repeats every footer (32 MB for 5,446 files) and no reader needs it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalogue.parquet import ROW_GROUP, writer_options
from pipeline.catalogue.partitions import Partition
from pipeline.catalogue.properties import properties_bytes
from pipeline.catalogue.sky import ORDER
from pipeline.catalogue.votable import has_datatype, text_widths, votable_schema
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

PROPERTIES = "hats.properties"
PARTITION_INFO = "partition_info.csv"
COMMON_METADATA = "dataset/_common_metadata"
HATS_VERSION = "v1.0"
SORTED = [("_healpix_29", "ascending"), ("object_id", "ascending")]


@dataclass
class DatasetWriter:
    """Writes one HATS catalogue below `folder`; every file is created once.

    Columns that a VOTable cannot describe (the attention maps) leave the whole dataset without a VOParquet header.
    """

    storage: Storage
    folder: str
    name: str
    schema: pa.Schema
    checksums: dict[str, str] = field(default_factory=dict)  # name of a file below the storage -> sha256
    partitions: list[Partition] = field(default_factory=list)
    size: int = 0  # bytes of the Parquet files
    widths: dict[str, int] = field(default_factory=dict)  # of the longest text, in bytes

    def write(self, partition: Partition, table: pa.Table) -> None:
        """Publish the rows of one partition, in any order, as its file."""
        rows = table.select(self.schema.names)
        widths = text_widths(rows)
        self.widths |= {name: max(width, self.widths.get(name, 0)) for name, width in widths.items()}
        data = _sorted_file(rows, self._described(widths))
        self._create(f"dataset/{partition.name}", data)
        self.partitions.append(partition)
        self.size += len(data)

    def finish(self, extra: Mapping[str, object]) -> None:
        """Describe what was written; `extra` are properties beyond those that the files themselves give."""
        sink = pa.BufferOutputStream()
        pq.write_metadata(self._described(self.widths), sink)
        self._create(COMMON_METADATA, sink.getvalue().to_pybytes())
        self._create(PARTITION_INFO, partition_info(self.partitions))
        described = {
            "obs_collection": self.name,
            "dataproduct_type": "object",
            "hats_nrows": sum(partition.rows for partition in self.partitions),
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": "_healpix_29",
            "hats_col_healpix_order": ORDER,
            "hats_npix_suffix": ".parquet",
            "hats_order": max(partition.order for partition in self.partitions),
            "hats_max_rows": max(partition.rows for partition in self.partitions),
            "hats_estsize": self.size // 1024,
            "hats_version": HATS_VERSION,
            "moc_sky_fraction": f"{sum(4.0**-p.order / 12 for p in self.partitions):.6g}",
            **extra,
        }
        self._create(PROPERTIES, properties_bytes("HATS catalog", described))

    def _described(self, widths: Mapping[str, int]) -> pa.Schema:
        if all(has_datatype(column.type) for column in self.schema):
            return votable_schema(self.schema, self.name, widths)
        return self.schema

    def _create(self, name: str, data: bytes) -> None:
        path = f"{self.folder}/{name}"
        publish_file(self.storage, path, data)
        self.checksums[path] = hashlib.sha256(data).hexdigest()


def publish_file(storage: Storage, name: str, data: bytes) -> None:
    """Create one file of a snapshot. Raises CatalogueError where someone else created another under its name.

    The same bytes may be there: an object store that took a put may yet lose its answer.
    """
    if not storage.create(name, data) and storage.read(name) != data:
        raise CatalogueError(f"{name} is there already: someone else is publishing the same snapshot")


def partition_info(partitions: list[Partition]) -> bytes:
    """partition_info.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("Norder", "Npix"))
    writer.writerows((partition.order, partition.pixel) for partition in partitions)
    return text.getvalue().encode()


def read_partition_info(data: bytes) -> list[tuple[int, int]]:
    """(order, pixel) of every partition."""
    return [(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(io.StringIO(data.decode()))]


def _sorted_file(table: pa.Table, schema: pa.Schema) -> bytes:
    """The Parquet file of a table, sorted one row group at a time so that the table is in memory twice at most."""
    order = pc.sort_indices(table, sort_keys=SORTED)
    rows = table.combine_chunks()
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **writer_options(schema)) as writer:
        for start in range(0, len(order), ROW_GROUP):
            group = rows.take(order.slice(start, ROW_GROUP))
            writer.write_table(group.cast(schema), row_group_size=ROW_GROUP)
    return sink.getvalue().to_pybytes()
