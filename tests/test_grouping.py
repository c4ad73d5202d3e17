"""How tiles become units and chunks, and what a unit is called."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import WorkUnit
from pipeline.planner.grouping import chunk_rows, pieces, unit_id, unit_rows
from tests.plans import broken, sky


@pytest.mark.parametrize("column", ["object_id", "ra", "radius", "TYPE", "type"])
def test_any_value_that_changes_changes_the_id_of_its_unit(column: str) -> None:
    rows = sky(50)
    value = {"object_id": 5, "ra": 1.5, "radius": None, "TYPE": "SER", "type": -1}[column]
    assert unit_id(rows) != unit_id(broken(rows, column, [30], value))
    assert unit_id(rows) == unit_id(pa.concat_tables([rows.slice(0, 13), rows.slice(13)]))


def test_texts_that_only_join_alike_have_different_ids() -> None:
    assert unit_id(pa.table({"a": ["x", "yz"]})) != unit_id(pa.table({"a": ["xy", "z"]}))
    assert unit_id(pa.table({"a": ["", "x"]})) != unit_id(pa.table({"a": [None, "x"]}))


counts = st.lists(st.integers(1, 60), max_size=40)


@given(counts, st.integers(1, 50))
def test_units_hold_whole_tiles_in_order_and_never_too_many_rows(tiles: list[int], limit: int) -> None:
    units = list(unit_rows(tiles, limit))
    assert sum(units) == sum(tiles)
    assert all(0 < rows <= limit for rows in units)
    unit_ends = set(np.cumsum(units).tolist())
    tile_ends = set(np.cumsum(tiles).tolist())
    large = {
        int(i)
        for end, rows in zip(np.cumsum(tiles), tiles, strict=True)
        if rows > limit
        for i in range(end - rows, end)
    }
    assert unit_ends <= tile_ends | large, "a unit ends inside a tile only where the tile alone is too large"


@given(counts.filter(bool), st.integers(1, 50))
def test_chunks_are_at_most_the_limit_and_half_full_but_for_the_last(tiles: list[int], limit: int) -> None:
    names = pa.array([str(i) for i, rows in enumerate(tiles) for _ in range(rows)])
    chunks = chunk_rows(names, limit)
    assert sum(chunks) == len(names)
    assert max(chunks) <= limit
    assert all(rows >= limit / 2 for rows in chunks[:-1])
    ends = set(np.cumsum(tiles).tolist())
    assert all(end in ends for end, rows in zip(np.cumsum(chunks), chunks, strict=True) if rows < limit)


def test_chunks_are_cut_between_tiles() -> None:
    names = pa.array(["a"] * 7 + ["b"] * 6 + ["c"] * 12)
    assert chunk_rows(names, 10) == (7, 6, 10, 2)
    assert pieces(names, (7, 6, 10, 2)).tolist() == [7, 13, 23, 25]  # c is opened twice


def test_units_know_their_chunks() -> None:
    unit = WorkUnit("a", "plan/part-00000.parquet", 100, 130, (12, 12, 6))
    assert [unit.chunk_rows(i) for i in range(3)] == [(100, 112), (112, 124), (124, 130)]
