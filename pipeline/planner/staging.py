"""Sources checked as they come and written to local disk: more rows than memory holds.

Positions are checked before anything computes with them: a HEALPix library may quietly give a pixel for NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.catalogue.sky import healpix29
from pipeline.errors import JobError
from pipeline.surveys import Survey

BATCH_ROWS = 65_536

ROW, HEALPIX, PATH, TILE = "source_row", "healpix", "path", "tile"

NO_ID, NO_POSITION, NO_PATH = "no object_id", "no position", "no path"
WRONG_RA, WRONG_DEC = "ra outside [0, 360]", "dec outside [-90, 90]"
REPEATED = "object_id seen before"

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("ra", pa.float64()),
        pa.field("dec", pa.float64()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Staged:
    """Every row of the source table, on disk: those with an id and a position, and those without."""

    sources: Path  # columns of `staged_schema(schema)`
    rejected: Path  # columns of REJECTED_SCHEMA
    schema: pa.Schema  # of the plan's rows
    rows: int  # of both


def stage(batches: Iterable[pa.RecordBatch], survey: Survey, folder: Path) -> Staged:
    """Write the rows of `batches` below `folder`, with the tile and the HEALPix pixel of each.

    Row numbers count from 0, or are those of the column `source_row` where a filter left rows out. The tile is
    the `path` column where the sources have one. Raises JobError where there are no rows.
    """
    stream = _rebatched(batches)
    first = next(stream, None)
    if first is None:
        raise JobError("there are no sources: the table is empty, or the region or the selection leaves none")
    staged = Staged(folder / "sources.parquet", folder / "rejected.parquet", plan_schema(first.schema), 0)
    schema = staged_schema(staged.schema)
    rows = 0
    with (
        pq.ParquetWriter(staged.sources, schema) as sources,
        pq.ParquetWriter(staged.rejected, REJECTED_SCHEMA) as rejected,
    ):
        batch: pa.RecordBatch | None = first
        while batch is not None:
            numbers = _row_numbers(batch, rows)
            reasons = _reasons(batch)
            good = reasons == ""
            sources.write_batch(_placed(batch.filter(pa.array(good)), numbers[good], survey, schema))
            rejected.write_batch(_rejected(batch.filter(pa.array(~good)), numbers[~good], reasons[~good]))
            rows += batch.num_rows
            batch = next(stream, None)
    return replace(staged, rows=rows)


def plan_schema(batch: pa.Schema) -> pa.Schema:
    """The columns of the plan for sources of the schema `batch`."""
    canonical = ("object_id", "ra", "dec", "radius", PATH, TILE, ROW)
    return pa.schema(
        [
            pa.field("object_id", batch.field("object_id").type, nullable=False),
            pa.field("ra", pa.float64(), nullable=False),
            pa.field("dec", pa.float64(), nullable=False),
            pa.field("radius", pa.float32()),
            pa.field(TILE, pa.string(), nullable=False),
            *(field for field in batch if field.name not in canonical),
        ]
    )


def staged_schema(plan: pa.Schema) -> pa.Schema:
    """The columns on local disk. Pass-through columns have numbers for names: SQL ignores case, a plan does not."""
    canonical, others = list(plan)[:5], list(plan)[5:]
    numbered = [pa.field(f"p{number}", field.type) for number, field in enumerate(others)]
    return pa.schema([*canonical, pa.field(ROW, pa.int64()), pa.field(HEALPIX, pa.int64()), *numbered])


def _rebatched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most BATCH_ROWS, and not many smaller ones."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
            held, rows = [], 0
    if rows:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches(max_chunksize=BATCH_ROWS)


def _row_numbers(batch: pa.RecordBatch, before: int) -> NDArray[np.int64]:
    if ROW in batch.schema.names:
        return np.asarray(batch.column(ROW), dtype=np.int64)
    return np.arange(before, before + batch.num_rows, dtype=np.int64)


def _reasons(batch: pa.RecordBatch) -> NDArray[np.str_]:
    """(N,) why a row is no source, "" where it is one; the first that applies."""
    ra, dec = _floats(batch, "ra"), _floats(batch, "dec")
    causes = [
        (NO_ID, _absent(batch.column("object_id"))),
        (NO_POSITION, ~(np.isfinite(ra) & np.isfinite(dec))),
        (WRONG_RA, (ra < 0) | (ra > 360)),
        (WRONG_DEC, np.abs(dec) > 90),
    ]
    if PATH in batch.schema.names:
        causes.append((NO_PATH, _absent(batch.column(PATH))))
    return np.select([rows for _, rows in causes], [reason for reason, _ in causes], default="")


def _placed(batch: pa.RecordBatch, numbers: NDArray[np.int64], survey: Survey, schema: pa.Schema) -> pa.RecordBatch:
    """The staged columns of rows whose positions were checked."""
    ra, dec = _floats(batch, "ra") % 360.0, _floats(batch, "dec")  # 360 is 0
    tiles = batch.column(PATH) if PATH in batch.schema.names else pa.array(survey.tiles(ra, dec), pa.string())
    others = [batch.column(name) for name in plan_schema(batch.schema).names[5:]]
    columns = [batch.column("object_id"), ra, dec, _radius(batch), tiles, numbers, healpix29(ra, dec), *others]
    return pa.RecordBatch.from_arrays(
        [_typed(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _rejected(batch: pa.RecordBatch, numbers: NDArray[np.int64], reasons: NDArray[np.str_]) -> pa.RecordBatch:
    columns = [batch.column("object_id"), numbers, batch.column("ra"), batch.column("dec"), reasons]
    return pa.RecordBatch.from_arrays(
        [_typed(column, field.type) for column, field in zip(columns, REJECTED_SCHEMA, strict=True)],
        schema=REJECTED_SCHEMA,
    )


def _radius(batch: pa.RecordBatch) -> pa.Array:
    """(N,) arcsec, null where the table has no finite, positive radius: sweeps say 0 for a point source."""
    if "radius" not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.float32())
    radius = _floats(batch, "radius").astype(np.float32)
    return pa.array(radius, mask=~(np.isfinite(radius) & (radius > 0)))


def _floats(batch: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    """(N,) the column's values, NaN for null."""
    return np.asarray(pc.cast(batch.column(name), pa.float64()).to_numpy(zero_copy_only=False))


def _absent(column: pa.Array) -> NDArray[np.bool_]:
    """(N,) True where the value is null or an empty text."""
    absent = column.is_null()
    if pa.types.is_string(column.type):
        absent = pc.or_(absent, pc.equal(pc.fill_null(column, ""), ""))
    return np.asarray(absent.to_numpy(zero_copy_only=False))


def _typed(values: pa.Array | NDArray[np.generic], wanted: pa.DataType) -> pa.Array:
    return values.cast(wanted) if isinstance(values, pa.Array) else pa.array(values, wanted)
