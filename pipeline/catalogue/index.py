"""Where a row lies by its identifier: the HATS index of a catalogue, read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.catalogue.layout import METADATA
from pipeline.catalogue.published import PIXEL, Published


def indexed_pixels(index: Published, identifiers: pa.Array) -> NDArray[np.int64]:
    """The order-29 pixels of the rows that have one of some identifiers; only row groups that may hold one are read."""
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    if len(identifiers):
        low, high = (bound.as_py() for bound in pc.min_max(identifiers).values())
        for rows in index_parts(index, (low, high)):
            found.append(rows.filter(pc.is_in(rows["object_id"], value_set=identifiers))[PIXEL].to_numpy())
    return np.concatenate(found)


def index_parts(index: Published, between: tuple[object, object] | None = None) -> Iterator[pa.Table]:
    """object_id and `_healpix_29`, a row group at a time; those that may hold identifiers between two."""
    metadata = pq.read_metadata(pa.BufferReader(index.storage.read(index.name(METADATA))))
    files: dict[str, list[int]] = {}
    counted: dict[str, int] = {}
    for number in range(metadata.num_row_groups):
        column = metadata.row_group(number).column(0)
        group = counted.get(column.file_path, 0)
        counted[column.file_path] = group + 1
        if between is None or _meets(column.statistics, between):
            files.setdefault(column.file_path, []).append(group)
    for name, groups in files.items():
        with index.storage.open(index.name(f"dataset/{name}")) as source, pq.ParquetFile(source) as file:
            for group in groups:
                yield file.read_row_group(group, columns=["object_id", PIXEL])


def _meets(bounds: pq.Statistics | None, between: tuple[object, object]) -> bool:
    low, high = between
    return bounds is None or not (bounds.max < low or bounds.min > high)
