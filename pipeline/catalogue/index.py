"""Where a row lies by its identifier: the HATS index of a catalogue, read."""

from __future__ import annotations

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
    if not len(identifiers):
        return found[0]
    metadata = pq.read_metadata(pa.BufferReader(index.storage.read(index.name(METADATA))))
    low, high = pc.min_max(identifiers).values()
    starts: dict[str, int] = {}
    for number in range(metadata.num_row_groups):
        column = metadata.row_group(number).column(0)
        within = starts.get(column.file_path, 0)
        starts[column.file_path] = within + 1
        bounds = column.statistics
        if bounds is None or not (bounds.max < low.as_py() or bounds.min > high.as_py()):
            found.append(_pixels(index, column.file_path, within, identifiers))
    return np.concatenate(found)


def _pixels(index: Published, name: str, group: int, identifiers: pa.Array) -> NDArray[np.int64]:
    with index.storage.open(index.name(f"dataset/{name}")) as source, pq.ParquetFile(source) as file:
        rows = file.read_row_group(group, columns=["object_id", PIXEL])
    pixels: NDArray[np.int64] = rows.filter(pc.is_in(rows["object_id"], value_set=identifiers))[PIXEL].to_numpy()
    return pixels
