"""One published HATS catalogue, read: its properties, its columns and its files with the pixels that they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.catalogue.dataset import COMMON_METADATA, PARTITION_INFO, PROPERTIES, read_partition_info
from pipeline.catalogue.partitions import partition_name
from pipeline.catalogue.properties import parsed_properties
from pipeline.catalogue.sky import pixel_range
from pipeline.storage import Storage


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
        with self.storage.open(self.name(COMMON_METADATA)) as file:
            return pq.read_schema(file).remove_metadata()

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

    def dataset(self, chosen: Sequence[int] | None = None) -> ds.Dataset:
        """The files, all or those of some indices; a filter on `_healpix_29` opens only what it concerns."""
        indices = list(range(len(self.partitions))) if chosen is None else list(chosen)
        files, pixel = self.files(), pc.field("_healpix_29")
        return ds.FileSystemDataset.from_paths(
            [self.storage.path(files[index]) for index in indices],
            schema=self.schema,
            format=ds.ParquetFileFormat(),
            filesystem=self._filesystem(),
            partitions=[
                (pixel >= int(first)) & (pixel < int(stop)) for first, stop in self.ranges[indices].reshape(-1, 2)
            ],
        )

    def _filesystem(self) -> pyarrow.fs.FileSystem:
        if self.storage.local is not None:
            return pyarrow.fs.LocalFileSystem()
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.storage.filesystem))
