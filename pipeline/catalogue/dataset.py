"""One HATS catalogue being written: its Parquet files pixel by pixel, then the files that describe it.

Layout: HATS 1.0 (IVOA Note, 2025; github.com/astronomy-commons/hats, docs/directory_scheme.rst). The optional file
`dataset/_metadata` is left out: it repeats every footer (32 MB for 5,446 files) and no reader needs it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue.layout import COMMON_METADATA, PARTITION_INFO, PROPERTIES, partition_info
from pipeline.catalogue.parquet import table_bytes, writer_options
from pipeline.catalogue.partitions import Partition
from pipeline.catalogue.properties import properties_bytes
from pipeline.catalogue.sky import ORDER
from pipeline.catalogue.votable import has_datatype, text_widths, votable_schema
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

HATS_VERSION = "v1.0"
# Rows. A cone of 60 arcsec takes 5.4 ms of processor time, one of a degree 9.8, a predicate over a million rows 208;
# with 65,536 rows it is 16.6, 18.3 and 168, and 2 % fewer bytes (python -m tests.benchmarks.catalogue).
ROW_GROUP = 8192


@dataclass
class DatasetWriter:
    """Writes one HATS catalogue below `folder`; every file is created once.

    Rows come in the order of the sky, a partition at a time, in as many parts as there are; memory holds one part.
    Columns that a VOTable cannot describe (the attention maps) leave the whole dataset without a VOParquet header.
    """

    storage: Storage
    scratch: Path  # a folder for the file that is being written
    folder: str
    name: str
    schema: pa.Schema
    checksums: dict[str, str] = field(default_factory=dict)  # name of a file below the storage -> sha256
    partitions: list[Partition] = field(default_factory=list)
    size: int = 0  # bytes of the Parquet files
    widths: dict[str, int] = field(default_factory=dict)  # of the longest text, in bytes
    _open: _OpenFile | None = None

    def append(self, order: int, pixel: int, rows: pa.Table) -> None:
        """Add the next rows, sorted, of one partition."""
        if self._open is None or (self._open.order, self._open.pixel) != (order, pixel):
            self.close()
            path = self.scratch / f"{self.folder.rsplit('/', 1)[-1]}.parquet"
            path.unlink(missing_ok=True)
            self._open = _OpenFile.create(path, order, pixel, self.schema)
        self._open.append(rows.select(self.schema.names).cast(self.schema))

    def close(self) -> None:
        """Publish the file that is open."""
        if self._open is None:
            return
        opened, self._open = self._open, None
        opened.finish(self._described(opened.widths))
        partition = Partition(opened.order, opened.pixel, opened.rows)
        name = f"{self.folder}/dataset/{partition.name}"
        self.checksums[name] = publish_local(self.storage, name, opened.path)
        self.partitions.append(partition)
        self.size += opened.path.stat().st_size
        self.widths |= {name: max(width, self.widths.get(name, 0)) for name, width in opened.widths.items()}

    def finish(self, extra: Mapping[str, object]) -> None:
        """Describe what was written; `extra` are properties beyond those that the files themselves give."""
        self.close()
        sink = pa.BufferOutputStream()
        pq.write_metadata(self._described(self.widths), sink)
        self._create(COMMON_METADATA, sink.getvalue().to_pybytes())
        self._create(PARTITION_INFO, partition_info([(each.order, each.pixel) for each in self.partitions]))
        described = {
            "obs_collection": self.name,
            "dataproduct_type": "object",
            "hats_nrows": sum(partition.rows for partition in self.partitions),
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": "_healpix_29",
            "hats_col_healpix_order": ORDER,
            "hats_npix_suffix": ".parquet",
            "hats_order": max((partition.order for partition in self.partitions), default=0),
            "hats_max_rows": max((partition.rows for partition in self.partitions), default=0),
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
        self.checksums[path] = publish_file(self.storage, path, data)


@dataclass
class _OpenFile:
    """A Parquet file that grows on the local disk."""

    path: Path
    order: int
    pixel: int
    writer: pq.ParquetWriter
    widths: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    @classmethod
    def create(cls, path: Path, order: int, pixel: int, schema: pa.Schema) -> _OpenFile:
        writer = pq.ParquetWriter(path, schema, store_schema=False, **writer_options(schema))
        return cls(path, order, pixel, writer)

    def append(self, rows: pa.Table) -> None:
        """Row groups of nearly equal size, none over ROW_GROUP."""
        groups = -(-rows.num_rows // ROW_GROUP)
        self.writer.write_table(rows, row_group_size=-(-rows.num_rows // max(groups, 1)) or None)
        found = text_widths(rows)
        self.widths |= {name: max(width, self.widths.get(name, 0)) for name, width in found.items()}
        self.rows += rows.num_rows

    def finish(self, schema: pa.Schema) -> None:
        """Close the file. Its footer is known only now: the lengths of the texts are part of it.

        Arrow takes a schema's own metadata from the schema that it stored, so that this is stored by hand.
        """
        stored = base64.b64encode(schema.serialize().to_pybytes())
        self.writer.add_key_value_metadata({**(schema.metadata or {}), "ARROW:schema": stored})
        self.writer.close()


def votable_bytes(table: pa.Table, name: str) -> bytes:
    """A single table as a VOParquet file."""
    return table_bytes(table.cast(votable_schema(table.schema, name, text_widths(table))), ROW_GROUP)


def publish_file(storage: Storage, name: str, data: bytes) -> str:
    """Create one file of a snapshot; its sha256. Raises CatalogueError where someone else created another.

    The same bytes may be there: an object store that took a put may yet lose its answer.
    """
    if not storage.create(name, data) and storage.read(name) != data:
        raise CatalogueError(f"{name} is there already: someone else is publishing the same snapshot")
    return hashlib.sha256(data).hexdigest()


def publish_local(storage: Storage, name: str, file: Path) -> str:
    """Create one file of a snapshot from one on the local disk; its sha256. Raises CatalogueError as above."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not storage.adopt(name, file) and hashlib.sha256(storage.read(name)).hexdigest() != digest:
        raise CatalogueError(f"{name} is there already: someone else is publishing the same snapshot")
    return digest
