"""One published HATS catalogue, read: its properties, its columns and its files with the pixels that they cover.

Nothing is read twice: footers stay in memory, and say which row groups a part of the sky is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.catalogue.layout import COMMON_METADATA, PARTITION_INFO, PROPERTIES, partition_name, read_partition_info
from pipeline.catalogue.properties import parsed_properties
from pipeline.catalogue.sky import pixel_range
from pipeline.storage import Storage

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PIXEL = "_healpix_29"
Reader = Callable[[Sequence[int], Sequence[str]], pa.Table]
"""Row groups of one file, columns -> rows. Text that the file holds as a dictionary may come as one: see `plain`."""


@dataclass(frozen=True, eq=False)
class Footer:
    """What a Parquet file says of its row groups."""

    metadata: pq.FileMetaData
    pixels: NDArray[np.int64]  # (G, 2) the lowest and the highest order-29 pixel of each row group
    rows: NDArray[np.int64]  # (G,)
    words: tuple[str, ...]  # columns of text that are stored as dictionaries

    @classmethod
    def of(cls, metadata: pq.FileMetaData, whole: tuple[int, int]) -> Footer:
        """`whole` is the range of pixels of the file, for row groups that do not say theirs."""
        names = metadata.schema.names
        place = names.index(PIXEL) if PIXEL in names else None
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        pixels = [_extremes(group, place) or (whole[0], whole[1] - 1) for group in groups]
        rows = np.array([group.num_rows for group in groups], dtype=np.int64)
        words = tuple(name for place, name in enumerate(names) if groups and _is_word(groups[0].column(place)))
        return cls(metadata, np.array(pixels, dtype=np.int64).reshape(-1, 2), rows, words)

    def touched(self, ranges: NDArray[np.int64] | None) -> list[int]:
        """The row groups that may have rows in ascending ranges (R, 2), all for None."""
        if ranges is None:
            return list(range(len(self.rows)))
        if not len(ranges):
            return []
        following = np.searchsorted(ranges[:, 1], self.pixels[:, 0], side="right")
        inside = following < len(ranges)
        inside[inside] = ranges[following[inside], 0] <= self.pixels[inside, 1]
        return [int(group) for group in np.flatnonzero(inside)]


@dataclass(frozen=True)
class Published:
    """A HATS catalogue below `folder` of a storage; "" for the storage itself."""

    storage: Storage
    folder: str

    def name(self, file: str) -> str:
        """Name of one of its files below the storage."""
        return f"{self.folder}/{file}" if self.folder else file

    @cached_property
    def properties(self) -> dict[str, str]:
        return parsed_properties(self.storage.read(self.name(PROPERTIES)))

    @cached_property
    def schema(self) -> pa.Schema:
        data = pa.BufferReader(self.storage.read(self.name(COMMON_METADATA)))
        return pq.read_schema(data).remove_metadata()

    @cached_property
    def partitions(self) -> list[tuple[int, int]]:
        """(order, pixel) of every file."""
        return read_partition_info(self.storage.read(self.name(PARTITION_INFO)))

    @cached_property
    def ranges(self) -> NDArray[np.int64]:
        """(P, 2) order-29 pixels [first, stop) of every file."""
        return np.array([pixel_range(*found) for found in self.partitions], dtype=np.int64).reshape(-1, 2)

    def files(self) -> list[str]:
        """Names of its Parquet files below the storage, in the order of `partitions`."""
        return [self.name(f"dataset/{partition_name(*partition)}") for partition in self.partitions]

    def overlapping(self, ranges: NDArray[np.int64]) -> list[int]:
        """Indices of the files whose pixels overlap ascending ranges (R, 2)."""
        following = np.searchsorted(ranges[:, 1], self.ranges[:, 0], side="right")
        inside = following < len(ranges)
        inside[inside] = ranges[following[inside], 0] < self.ranges[inside, 1]
        return [int(index) for index in np.flatnonzero(inside)]

    def footer(self, index: int) -> Footer:
        """The footer of a file, read once."""
        if index not in self._footers:
            with self.opened(index):
                pass
        return self._footers[index]

    def read(self, index: int, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some row groups of a file."""
        with self.opened(index) as read:
            return plain(read(groups, columns))

    @contextmanager
    def opened(self, index: int) -> Iterator[Reader]:
        """A file, for several reads: some columns of some row groups each."""
        name, known = self.files()[index], self._footers.get(index)
        local = self.storage.local is not None
        options: dict[str, Any] = {"memory_map": True} if local else {"pre_buffer": True}
        if known is not None:
            options |= {"metadata": known.metadata, "read_dictionary": known.words}
        with ExitStack() as stack:
            source = self.storage.path(name) if local else stack.enter_context(self.storage.open(name))
            file = stack.enter_context(pq.ParquetFile(source, **options))
            if known is None:
                first, stop = self.ranges[index].tolist()
                self._footers[index] = Footer.of(file.metadata, (first, stop))
            yield partial(_read, file)

    def dataset(self) -> ds.Dataset:
        """All files for a query engine; a filter on `_healpix_29` opens only what it concerns."""
        return self._dataset

    @cached_property
    def _dataset(self) -> ds.Dataset:
        import pyarrow.compute as pc
        import pyarrow.dataset as ds  # loads pandas, where there is one

        pixel = pc.field(PIXEL)
        return ds.FileSystemDataset.from_paths(
            [self.storage.path(name) for name in self.files()],
            schema=self.schema,
            format=ds.ParquetFileFormat(),
            filesystem=self._filesystem(),
            partitions=[(pixel >= int(first)) & (pixel < int(stop)) for first, stop in self.ranges],
        )

    @cached_property
    def _footers(self) -> dict[int, Footer]:
        return {}

    def _filesystem(self) -> Any:
        import pyarrow.fs

        if self.storage.local is not None:
            return pyarrow.fs.LocalFileSystem()
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.storage.filesystem))


def plain(table: pa.Table) -> pa.Table:
    """A table with every dictionary as the values that it stands for."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table[place].cast(field.type.value_type)
            table = table.set_column(place, field.with_type(field.type.value_type), values)
    return table


def _is_word(column: Any) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page)


def _read(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
    table = file.read_row_groups(list(groups), columns=list(columns))
    return table.select(list(columns)).replace_schema_metadata(None)


def _extremes(group: Any, place: int | None) -> tuple[int, int] | None:
    """The lowest and highest pixel of a row group, None where it does not say."""
    if place is None:
        return None
    statistics = group.column(place).statistics
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None
