"""Sources to work units: checked, put in the order of the sky, cut into units of neighbouring tiles, and stored.

Memory stays flat in the number of sources: batches go to local disk, the sort spills, parts are written one by
one (measured in tests/benchmarks/plan_scale.py). The same sources give the same units and ids in whatever order
and batches they come.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data import Source, Status, Way, WorkUnit
from pipeline.errors import CatalogueError, InvalidSources, JobError
from pipeline.planner.grouping import chunk_rows, pieces, slices, tile_ends, unit_id, unit_rows
from pipeline.planner.ordering import Ordered, in_sky_order
from pipeline.planner.plan import (
    FOLDER,
    TILES,
    UNIT_SCHEMA,
    UNPLACED,
    Plan,
    PlanSummary,
    UnitSize,
    folder_name,
    keep_tiles,
    merged,
    open_plan,
    part_name,
    summary_name,
    units_name,
)
from pipeline.planner.staging import TILE, stage
from pipeline.storage import Storage
from pipeline.surveys import Survey

__all__ = ["Plan", "PlanSummary", "UnitSize", "extend", "keep_tiles", "open_plan", "plan"]

Choose = Callable[[Sequence[Source]], Callable[[int], Way]]
"""From a sample of the sources inside the footprint, () if there are none, to the way of a tile with so many."""

PART_ROWS = 131_072  # of a plan file: tens of MB, as it is held in memory until it is written
EXAMPLES = 10  # row numbers that a message gives for each cause


def whole_files(sample: Sequence[Source]) -> Callable[[int], Way]:
    """A `Choose` that fetches every file whole."""
    return lambda sources: "file"


@dataclass(frozen=True)
class Division:
    """How sources are divided into units and chunks, and by which ways their pixels come."""

    size: UnitSize = field(default_factory=UnitSize)
    choose: Choose = whole_files


def plan(
    batches: Iterable[pa.RecordBatch],
    survey: Survey,
    storage: Storage,
    *,
    division: Division = Division(),
    skip_invalid: bool = False,
    fingerprint: str = "",
) -> Plan:
    """Plan the sources of `batches` (see sources.py) and store the plan; plan.json last.

    `skip_invalid` puts rows that are no sources in unplaced.parquet; of a repeated id the first row stays.
    The temporary folder (TMPDIR) must hold about three times the sources' bytes.
    Raises InvalidSources with row numbers, JobError where nothing is left to plan, CatalogueError where the
    storage has a plan already.
    """
    if open_plan(storage) is not None:
        raise CatalogueError(f"{storage.shown} has a plan already")
    target = _Target(storage, FOLDER, skip_invalid, None)
    return Plan(storage, _planned(batches, survey, target, division, fingerprint))


def extend(
    before: Plan,
    batches: Iterable[pa.RecordBatch],
    survey: Survey,
    *,
    division: Division = Division(),
    skip_invalid: bool = False,
    fingerprint: str = "",
) -> Plan:
    """Plan those sources of `batches` that a plan has not, by their identifiers, in units of their own.

    The plan stays as it is, also where its sources have gone from the table or have changed there. Raises as `plan`
    does, and JobError where the columns of the table are not those of the plan.
    """
    target = _Target(before.storage, folder_name(before.updates + 2), skip_invalid, before)
    summary = _planned(batches, survey, target, division, fingerprint)
    if not summary.sources and fingerprint == before.summary.fingerprint:
        before.storage.delete_folder(target.folder)  # nothing new: the plan says all
        return before
    return Plan(before.storage, merged([before.summary, summary]), before.updates + 1)


@dataclass(frozen=True)
class _Target:
    """Where a plan goes, and what is planned already."""

    storage: Storage
    folder: str
    skip_invalid: bool
    before: Plan | None


def _planned(
    batches: Iterable[pa.RecordBatch], survey: Survey, target: _Target, division: Division, fingerprint: str
) -> PlanSummary:
    _remove_unfinished(target)
    with tempfile.TemporaryDirectory(prefix="plan-") as name:
        folder = Path(name)
        staged = stage(batches, survey, folder)
        if target.before is not None and staged.schema != target.before.schema:
            differing = {f"{each.name} ({each.type})" for each in {*staged.schema} ^ {*target.before.schema}}
            raise JobError(f"the columns of the sources are not those of the plan: {', '.join(sorted(differing))}")
        known = () if target.before is None else target.before.object_ids()
        with in_sky_order(staged, folder, known) as ordered:
            invalid = _invalid(ordered, staged.rows, target)
            sample = ordered.sample()
            writer = _PlanWriter(target.storage, target.folder, ordered.schema, division.size, division.choose(sample))
            writer.write(ordered)
            summary = writer.summary(fingerprint, invalid, sample)
            planned = summary.rows_in + ordered.known
    if planned != staged.rows:
        raise CatalogueError(f"planned {planned} rows of {staged.rows}: row numbers are not unique")
    _create(target.storage, summary_name(target.folder), summary.model_dump_json(indent=1).encode())
    return summary


@dataclass
class _PlanWriter:
    """Writes units to plan files as they are cut, and counts them."""

    storage: Storage
    folder: str
    schema: pa.Schema
    size: UnitSize
    way: Callable[[int], Way]
    units: list[pa.RecordBatch] = field(default_factory=list)
    parts: int = 0
    sources: int = 0
    outside: int = 0
    tiles: int = 0
    chunks: int = 0
    pieces: dict[Way, Counter[int]] = field(default_factory=dict)

    def write(self, ordered: Ordered) -> None:
        """Every unit, in the order of the plan. Rows outside the footprint make units of their own."""
        self.tiles = ordered.tile_count()
        self.outside = sum(ordered.tile_rows(outside=True))
        counts = chain(
            unit_rows(ordered.tile_rows(outside=False), self.size.sources),
            unit_rows(ordered.tile_rows(outside=True), self.size.sources),
        )
        held: list[pa.Table] = []
        for table in slices(ordered.rows(), counts):
            if held and sum(unit.num_rows for unit in held) + table.num_rows > PART_ROWS:
                self._write_part(held)
                held = []
            held.append(table)
        if held:
            self._write_part(held)
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, UNIT_SCHEMA, compression="zstd") as writer:
            writer.write_table(pa.Table.from_batches(self.units, UNIT_SCHEMA))
        _create(self.storage, units_name(self.folder), sink.getvalue().to_pybytes())

    def summary(self, fingerprint: str, invalid: dict[str, int], sample: tuple[Source, ...]) -> PlanSummary:
        text = pa.types.is_string(self.schema.field("object_id").type)
        return PlanSummary(
            fingerprint=fingerprint,
            size=self.size,
            id_type="string" if text else "int64",
            sources=self.sources,
            outside=self.outside,
            tiles=self.tiles,
            units=sum(batch.num_rows for batch in self.units),
            chunks=self.chunks,
            pieces={way: dict(sorted(counts.items())) for way, counts in self.pieces.items()},
            sample=sample,
            parts=self.parts,
            invalid=invalid,
        )

    def _write_part(self, tables: list[pa.Table]) -> None:
        name = part_name(self.folder, self.parts)
        units, start = [], 0
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, self.schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table, row_group_size=table.num_rows)
                units.append(self._unit(table, name, start))
                start += table.num_rows
        _create(self.storage, name, sink.getvalue().to_pybytes())
        self.parts += 1
        self.sources += start
        self.chunks += sum(len(unit.chunks) for unit in units)
        self.units.append(_unit_batch(units))

    def _unit(self, rows: pa.Table, part: str, start: int) -> WorkUnit:
        tiles = rows.column(TILE).combine_chunks()
        chunks = chunk_rows(tiles, self.size.chunk)
        outside = tiles[0].as_py() == ""
        counts = np.diff(tile_ends(tiles), prepend=0)
        ways: list[tuple[Way, int]] = []
        if not outside:
            ways = [(self.way(int(count)), int(count)) for count in counts]
            self._count(ways, pieces(tiles, chunks))
        return WorkUnit(
            unit_id=unit_id(rows),
            part=part,
            start=start,
            stop=start + rows.num_rows,
            chunks=chunks,
            tiles=0 if outside else len(counts),
            ways=_runs(ways),
        )

    def _count(self, ways: list[tuple[Way, int]], ends: NDArray[np.int64]) -> None:
        """Add the parts of tiles that end at the rows `ends`, each to the way of its tile."""
        tile_stops = np.cumsum([rows for _, rows in ways])
        tiles = np.searchsorted(tile_stops, ends, side="left")
        for tile, rows in zip(tiles.tolist(), np.diff(ends, prepend=0).tolist(), strict=True):
            self.pieces.setdefault(ways[tile][0], Counter())[rows] += 1


def _runs(ways: list[tuple[Way, int]]) -> tuple[tuple[Way, int], ...]:
    """The same ways with equal neighbours joined."""
    return tuple((way, sum(rows for _, rows in run)) for way, run in groupby(ways, key=lambda pair: pair[0]))


def _unit_batch(units: list[WorkUnit]) -> pa.RecordBatch:
    columns = [[getattr(unit, name) for unit in units] for name in UNIT_SCHEMA.names[:-1]]
    columns.append([[{"way": way, "rows": rows} for way, rows in unit.ways] for unit in units])
    return pa.RecordBatch.from_arrays(
        [pa.array(values, type_) for values, type_ in zip(columns, UNIT_SCHEMA.types, strict=True)],
        schema=UNIT_SCHEMA,
    )


def _invalid(ordered: Ordered, rows: int, target: _Target) -> dict[str, int]:
    """Reason -> number of rows that are no sources, stored in unplaced.parquet if they are to be skipped."""
    counts = ordered.rejected()
    total = sum(counts.values())
    if total and not target.skip_invalid:
        causes = [_cause(reason, count, ordered.examples(reason, EXAMPLES)) for reason, count in counts.items()]
        raise InvalidSources(f"{total} of {rows} rows are no sources (rows count from 0): " + "; ".join(causes))
    if total == rows:
        raise JobError(f"none of {rows} rows is a source: {', '.join(counts)}")
    if total:
        table = ordered.rejected_rows()
        status = pa.array([Status.INVALID.value] * table.num_rows, pa.string())
        sink = pa.BufferOutputStream()
        pq.write_table(table.append_column("status", status), sink, compression="zstd")
        target.storage.replace(UNPLACED, sink.getvalue().to_pybytes())
    return counts


def _cause(reason: str, count: int, examples: list[int]) -> str:
    more = ", ..." if count > len(examples) else ""
    return f"{reason}: {count} (row {', '.join(map(str, examples))}{more})"


def _create(storage: Storage, name: str, data: bytes) -> None:
    if not storage.create(name, data):
        raise CatalogueError(f"{storage.shown}/{name} appeared while the plan was written: is another run planning?")


def _remove_unfinished(target: _Target) -> None:
    """What a planner that was cut short left; the survey's table of tiles stays."""
    unplaced = [UNPLACED] if target.before is None else []
    for name in [*target.storage.list(target.folder), *unplaced]:
        if name != TILES:
            target.storage.delete(name)
