"""The identifiers of a catalogue: whether one is there twice, and a HATS index of where each row lies.

DuckDB sorts them on the local disk: there may be more than fit in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue.dataset import HATS_VERSION, publish_file, publish_local
from pipeline.catalogue.layout import COMMON_METADATA, METADATA, PROPERTIES
from pipeline.catalogue.properties import properties_bytes
from pipeline.data import ObjectId
from pipeline.storage import Storage

_MEMORY = "512MB"  # of identifiers held at once; the rest is on the local disk
_EXAMPLES = 5
_FILE_ROWS = 4_000_000  # of the index: 100 MB in memory
_GROUP_ROWS = 65_536


class IdentifierCheck:
    """A context in which identifiers are collected, to be asked which of them repeat. Nothing of it stays."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="identifiers-")
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": self._folder.name,
        }
        self._database = duckdb.connect(str(Path(self._folder.name) / "ids.duckdb"), config=settings)
        self._empty = True

    def __enter__(self) -> IdentifierCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, ids: pa.ChunkedArray, **places: pa.ChunkedArray | pa.Array) -> None:
        """Collect a column of identifiers, and columns that say where they are; all calls give the same types."""
        self._database.register("part", pa.table({"object_id": ids, **places}))
        statement = "CREATE TABLE ids AS" if self._empty else "INSERT INTO ids"
        self._database.execute(f"{statement} SELECT * FROM part")
        self._empty = False

    def repeated(self) -> list[ObjectId]:
        """Up to five identifiers that were collected more than once, in ascending order."""
        if self._empty:
            return []
        query = "SELECT object_id FROM ids GROUP BY object_id HAVING count(*) > 1 ORDER BY object_id LIMIT ?"
        return [row[0] for row in self._database.execute(query, [_EXAMPLES]).fetchall()]

    def differences(self, others: IdentifierCheck) -> tuple[list[ObjectId], list[ObjectId]]:
        """Up to five identifiers that only this one has, or has elsewhere, and up to five that only `others` has."""
        if self._empty or others._empty:
            return ([], []) if self._empty and others._empty else (self._some(), others._some())
        try:
            self._database.register("others", others._database.sql("SELECT * FROM ids").to_arrow_reader())
            self._database.execute("CREATE OR REPLACE TABLE other_ids AS SELECT * FROM others")
        finally:
            self._database.unregister("others")
        return self._only("ids", "other_ids"), self._only("other_ids", "ids")

    def _only(self, these: str, those: str) -> list[ObjectId]:
        query = f"SELECT object_id FROM (FROM {these} EXCEPT FROM {those}) ORDER BY object_id LIMIT {_EXAMPLES}"
        return [row[0] for row in self._database.execute(query).fetchall()]

    def _some(self) -> list[ObjectId]:
        if self._empty:
            return []
        return [row[0] for row in self._database.execute(f"SELECT object_id FROM ids LIMIT {_EXAMPLES}").fetchall()]

    def ordered(self) -> Iterator[pa.RecordBatch]:
        """All that was collected, by identifier."""
        yield from self._database.sql("SELECT * FROM ids ORDER BY object_id").to_arrow_reader(_GROUP_ROWS)


@dataclass
class IndexWriter:
    """Writes a HATS index catalogue: object_id, its `_healpix_29`, and its partition as Norder, Dir and Npix.

    Readers find the files by `dataset/_metadata` (hats 0.11, IndexCatalog).
    """

    storage: Storage
    scratch: Path
    folder: str
    name: str
    checksums: dict[str, str] = field(default_factory=dict)  # name of a file below the storage -> sha256

    def write(self, batches: Iterator[pa.RecordBatch], extra: Mapping[str, object]) -> None:
        """Publish the index of rows that come by identifier."""
        footers: list[pq.FileMetaData] = []
        for number, tables in enumerate(_files(batches)):
            name = f"index/part.{number}.parquet"
            path = self.scratch / f"index-{number}.parquet"
            with pq.ParquetWriter(path, tables[0].schema, **_options()) as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=_GROUP_ROWS)
            footers.append(pq.read_metadata(path))
            footers[-1].set_file_path(name)
            published = f"{self.folder}/dataset/{name}"
            self.checksums[published] = publish_local(self.storage, published, path)
            path.unlink()
        self._describe(footers, {"hats_nrows": sum(footer.num_rows for footer in footers), **extra})

    def _describe(self, footers: list[pq.FileMetaData], extra: Mapping[str, object]) -> None:
        common, whole = pa.BufferOutputStream(), pa.BufferOutputStream()
        pq.write_metadata(footers[0].schema.to_arrow_schema(), common)
        for footer in footers[1:]:
            footers[0].append_row_groups(footer)
        footers[0].write_metadata_file(whole)
        for name, sink in ((METADATA, whole), (COMMON_METADATA, common)):
            self._create(name, sink.getvalue().to_pybytes())
        described = {
            "obs_collection": self.name,
            "dataproduct_type": "index",
            "hats_index_column": "object_id",
            "hats_index_extra_column": "_healpix_29",
            "hats_version": HATS_VERSION,
            **extra,
        }
        self._create(PROPERTIES, properties_bytes("HATS catalog", described))

    def _create(self, name: str, data: bytes) -> None:
        path = f"{self.folder}/{name}"
        self.checksums[path] = publish_file(self.storage, path, data)


def _files(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.Table]]:
    """The batches of one file after the other."""
    held: list[pa.Table] = []
    for batch in batches:
        held.append(pa.Table.from_batches([batch]))
        if sum(table.num_rows for table in held) >= _FILE_ROWS:
            yield held
            held = []
    if held:
        yield held


def _options() -> dict[str, object]:
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": ["Norder", "Dir", "Npix"],
        "write_page_index": True,
        "write_page_checksum": True,
        "sorting_columns": [pq.SortingColumn(0)],
    }
