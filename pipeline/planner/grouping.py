"""Which sources make a work unit and which a chunk, and what a unit is called. Pure arithmetic.

The tile is what is fetched, so a unit is a run of whole tiles along the sky, and a chunk is cut between tiles
where that does not make it small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ID_DIGITS = 20  # hex: two of 10^9 units share an id with a chance of 4e-7


def unit_rows(tile_rows: Iterable[int], limit: int) -> Iterator[int]:
    """The row counts of units, from those of the tiles in sky order.

    Neighbouring tiles fill a unit of at most `limit` rows. A tile that has more makes units of its own, of nearly
    equal size.
    """
    held = 0
    for rows in tile_rows:
        if held and held + rows > limit:
            yield held
            held = 0
        if rows <= limit:
            held += rows
        else:
            yield from _split(rows, limit)
    if held:
        yield held


def chunk_rows(tiles: pa.Array, limit: int) -> tuple[int, ...]:
    """The row counts of a unit's chunks: at most `limit` each, cut between tiles where that leaves them half full.

    tiles: (N,) the tile of each row, equal ones together.
    """
    ends = tile_ends(tiles)
    chunks, start, total = [], 0, len(tiles)
    while total - start > limit:
        last = int(np.searchsorted(ends, start + limit, side="right")) - 1
        end = int(ends[last]) if last >= 0 else start
        stop = end if end - start >= limit / 2 else start + limit
        chunks.append(stop - start)
        start = stop
    return (*chunks, total - start)


def pieces(tiles: pa.Array, chunks: tuple[int, ...]) -> NDArray[np.int64]:
    """Where each part of a tile that is opened by itself ends: a tile on both sides of a cut of chunks is two."""
    return np.union1d(tile_ends(tiles), np.cumsum(chunks))


def tile_ends(tiles: pa.Array) -> NDArray[np.int64]:
    """Where each run of equal values ends, the last at N."""
    changes = pc.not_equal(tiles[1:], tiles[:-1]).to_numpy(zero_copy_only=False)
    return np.append(np.flatnonzero(changes) + 1, len(tiles))


def slices(batches: Iterable[pa.RecordBatch], counts: Iterable[int]) -> Iterator[pa.Table]:
    """The rows of `batches`, cut anew: the next `count` of them for each of `counts`."""
    stream = iter(batches)
    held: list[pa.RecordBatch] = []
    rows = 0
    for count in counts:
        while rows < count:
            batch = next(stream)
            held.append(batch)
            rows += batch.num_rows
        table = pa.Table.from_batches(held)
        yield table.slice(0, count).combine_chunks()
        held = table.slice(count).to_batches()
        rows -= count


def unit_id(rows: pa.Table) -> str:
    """A name for exactly these rows in this order: every column's name, type and values count.

    It depends on neither the machine nor the layout in memory, so that the same sources give the same units.
    """
    digest = hashlib.sha256()
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        digest.update(f"{name}:{column.type}:{len(column)}:".encode())
        for part in _content(column.combine_chunks()):
            digest.update(part)
    return digest.hexdigest()[:ID_DIGITS]


def _content(column: pa.Array) -> Iterator[bytes]:
    if column.null_count:
        yield np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = pc.fill_null(column, pa.scalar(0, column.type)) if column.null_count else column
        yield values.to_numpy().tobytes()
    elif pa.types.is_string(column.type):
        yield pc.binary_length(pc.fill_null(column, "")).to_numpy().tobytes()
        yield "".join(column.drop_null().to_pylist()).encode()
    else:
        yield repr(column.to_pylist()).encode()


def _split(rows: int, limit: int) -> Iterator[int]:
    parts = -(-rows // limit)
    for number in range(parts):
        yield rows // parts + (number < rows % parts)
