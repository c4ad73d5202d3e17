"""The rows of a published catalogue that are wanted, read with as few bytes as that takes.

A file at a time: which row groups a region touches (by the footer), which of their rows are inside (by the position
columns), which of those fulfil the condition (by its columns), and only then the columns that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.conditions import rows_where
from pipeline.catalogue.published import PIXEL, Footer, Published, Reader, plain
from pipeline.catalogue.regions import Ranges, Region

_FILES = 8  # read at once: an object store answers in tens of milliseconds


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is asked of a catalogue; all of it holds."""

    columns: tuple[str, ...]
    positions: tuple[str, str]  # the columns of right ascension and declination
    regions: tuple[Region, ...] = ()
    identifiers: pa.Array | None = None
    condition: str = ""  # SQL, over
    condition_columns: tuple[str, ...] = ()
    most: int | None = None  # rows


def rows_of(table: Published, wanted: Wanted, ranges: Ranges | None) -> pa.Table:
    """The wanted rows, in the order of the sky. `ranges` are pixels that cover all regions, None for the whole sky."""
    files = list(range(len(table.partitions))) if ranges is None else table.overlapping(ranges)
    files = sorted(files, key=lambda index: int(table.ranges[index, 0]))
    schema = pa.schema([table.schema.field(name) for name in wanted.columns])
    parts: list[pa.Table] = []
    left = wanted.most
    for part in _parts(table, wanted, ranges, files):
        parts.append(part if left is None else part.slice(0, left))
        if left is not None:
            left -= parts[-1].num_rows
            if left <= 0:
                break
    rows = pa.concat_tables(parts) if parts else schema.empty_table()
    return pa.table(rows.columns, schema=schema)


def _parts(table: Published, wanted: Wanted, ranges: Ranges | None, files: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of one file after the other; several files are read at once where all their rows are wanted."""
    one = partial(_rows_of_file, table, wanted, ranges)
    if wanted.most is not None or len(files) < 2:
        yield from map(one, files)
        return
    with ThreadPoolExecutor(min(_FILES, len(files))) as pool:
        yield from pool.map(one, files)


def _rows_of_file(table: Published, wanted: Wanted, ranges: Ranges | None, index: int) -> pa.Table:
    with table.opened(index) as read:
        footer = table.footer(index)
        return _wanted_rows(_Found(table.schema, footer, read, footer.touched(ranges)), wanted)


def _wanted_rows(found: _Found, wanted: Wanted) -> pa.Table:
    if wanted.regions:
        names = [*wanted.positions, *([PIXEL] if PIXEL in found.schema.names else [])]
        place = found.columns(names)
        ra, dec = (place[name].to_numpy() for name in wanted.positions)
        pixels = place[PIXEL].to_numpy() if PIXEL in names else np.zeros(len(ra), np.int64)
        inside = np.ones(len(ra), bool)
        for region in wanted.regions:
            inside &= region.contains(ra, dec, pixels)
        found.keep(np.flatnonzero(inside))
    if wanted.identifiers is not None:
        ids = found.columns(["object_id"])["object_id"]
        found.keep(np.flatnonzero(pc.is_in(ids, value_set=wanted.identifiers).to_numpy()))
    if wanted.condition:
        found.keep(rows_where(wanted.condition, found.columns(wanted.condition_columns)))
    if wanted.most is not None:
        found.keep(np.arange(min(wanted.most, found.count)))
    return found.columns(wanted.columns)


@dataclass
class _Found:
    """Rows of one file, ever fewer: row groups without any are not read again."""

    schema: pa.Schema
    footer: Footer
    read: Reader
    groups: list[int]
    _rows: NDArray[np.int64] | None = None  # numbers within the groups, None for all
    _held: dict[str, pa.ChunkedArray] = field(default_factory=dict)  # columns of the rows, read already

    @property
    def count(self) -> int:
        return self._total if self._rows is None else len(self._rows)

    def keep(self, chosen: NDArray[np.int64]) -> None:
        """Keep the rows of these numbers, ascending."""
        if len(chosen) == self.count:
            return
        rows = chosen if self._rows is None else self._rows[chosen]
        sizes = self.footer.rows[self.groups]
        ends = np.cumsum(sizes)
        owner = np.searchsorted(ends, rows, side="right")
        kept, place = np.unique(owner, return_inverse=True)
        starts = np.cumsum(sizes[kept]) - sizes[kept]
        self._rows = rows - (ends - sizes)[owner] + starts[place]
        self.groups = [self.groups[number] for number in kept.tolist()]
        taken = pa.array(chosen)
        self._held = {name: values.take(taken) for name, values in self._held.items()}

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the rows."""
        missing = [name for name in names if name not in self._held]
        if missing and self.groups:
            table = self.read(self.groups, missing)
            if self._rows is not None:
                table = table.take(pa.array(self._rows))
            self._held |= dict(zip(missing, table.columns, strict=True))
        schema = pa.schema([self.schema.field(name).remove_metadata() for name in names])
        if not self.groups:
            return schema.empty_table()
        return plain(pa.table({name: self._held[name] for name in names})).cast(schema)

    @property
    def _total(self) -> int:
        return int(self.footer.rows[self.groups].sum())
