"""The plan: every source once, in units of neighbouring tiles, the same for the same sources."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source, WorkUnit
from pipeline.errors import CatalogueError, InvalidSources, JobError, NoCoverage
from pipeline.estimate import EDGE_FRACTION, IMAGE_BYTES, MASK_BYTES, estimate
from pipeline.grouping import chunk_rows, openings, unit_id, unit_rows
from pipeline.planner import Plan, UnitSize, keep_tiles, open_plan, plan
from pipeline.storage import Storage
from pipeline.surveys import OpenProduct

SMALL = UnitSize(sources=100, chunk=20)


class Squares:
    """A survey whose tiles are squares of one degree north of the equator."""

    bands: tuple[str, ...] = ("g", "r", "z")

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        assert np.isfinite(ra).all() and np.isfinite(dec).all(), "a survey never sees what is no position"
        names = [f"{int(x):03d}p{int(y):02d}" if y >= 0 else "" for x, y in zip(ra, dec, strict=True)]
        return np.array(names, dtype=np.str_)

    def products(self, tile: str) -> tuple[Product, ...]:
        images = [Product(tile, "image", band, f"{tile}/{band}.fits.fz") for band in self.bands]
        return (*images, Product(tile, "maskbits", None, f"{tile}/mask.fits.fz"))

    def cut(self, open_product: OpenProduct, source: Source, width: float | None) -> Cutout:
        raise NoCoverage("positions only")


def sky(rows: int = 500, seed: int = 1) -> pa.Table:
    """Sources over 6 x 3 tiles and the sky south of them, shuffled, with columns to pass through."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "object_id": rng.permutation(rows) + 10**12,
            "ra": rng.uniform(100, 106, rows),
            "dec": rng.uniform(-0.5, 3, rows),
            "radius": rng.gamma(2, 2, rows).astype(np.float32),
            "TYPE": pa.array(["EXP", "DEV", None]).take(pa.array(rng.integers(0, 3, rows))),
            "type": pa.array(rng.integers(0, 9, rows), pa.int16()),
        }
    )


def planned(table: pa.Table, where: Path | str, batch: int = 64, **options: Any) -> Plan:
    return plan(table.to_batches(max_chunksize=batch), Squares(), Storage(str(where)), **{"size": SMALL, **options})


def everything(made: Plan) -> pa.Table:
    return pa.concat_tables(made.rows(unit) for unit in made.units())


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An output on disk and one in an object store."""
    if request.param == "folder":
        yield str(tmp_path / "output")
        return
    url = "memory://test-planner/output"
    yield url
    Storage(url).filesystem.rm("/test-planner", recursive=True)


def test_every_source_is_planned_once_with_its_columns(store: str) -> None:
    table = sky()
    made = planned(table, store)
    found = everything(made)
    assert found.column_names == ["object_id", "ra", "dec", "radius", "tile", "TYPE", "type"]
    assert found.schema.equals(made.schema)
    assert (
        found.drop_columns("tile")
        .sort_by("object_id")
        .equals(table.sort_by("object_id").cast(found.drop_columns("tile").schema))
    )
    tiles = Squares().tiles(found["ra"].to_numpy(), found["dec"].to_numpy())
    assert found["tile"].to_pylist() == tiles.tolist()


def test_a_plan_opens_from_its_address_alone(store: str) -> None:
    made = planned(sky(), store, fingerprint="of this job")
    again = open_plan(Storage(store))
    assert again is not None
    assert again.summary == made.summary
    assert again.summary.fingerprint == "of this job"
    assert everything(again).equals(everything(made))


def test_another_process_reads_the_same_plan(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    script = (
        "import sys; from pipeline.plan import open_plan; from pipeline.storage import Storage\n"
        "plan = open_plan(Storage(sys.argv[1])); last = list(plan.units())[-1]\n"
        "sys.stdout.write(f'{last.unit_id} {plan.rows(last, 0).num_rows} {\"duckdb\" in sys.modules}')"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    last = list(made.units())[-1]
    assert answer.stdout == f"{last.unit_id} {last.chunks[0]} False"


def test_the_same_sources_in_any_order_and_batches_make_the_same_units(tmp_path: Path) -> None:
    table = sky()
    first = planned(table, tmp_path / "a", batch=500)
    second = planned(table.take(np.random.default_rng(5).permutation(500)), tmp_path / "b", batch=7)
    assert list(first.units()) == list(second.units())
    assert everything(first).equals(everything(second))


def test_a_unit_is_one_row_group_of_whole_tiles_and_its_chunks_are_its_rows(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    groups = pq.ParquetFile(tmp_path / "plan/part-00000.parquet").metadata
    units = list(made.units())
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [unit.rows for unit in units]
    seen: set[str] = set()
    for unit in units:
        rows = made.rows(unit)
        assert unit.rows <= SMALL.sources
        assert max(unit.chunks) <= SMALL.chunk
        assert pa.concat_tables(made.rows(unit, i) for i in range(len(unit.chunks))).equals(rows)
        tiles = set(rows["tile"].to_pylist())
        assert unit.tiles == len(tiles - {""})
        assert not seen & (tiles - {""}), "the tiles here are small: none is split"
        seen |= tiles
    assert sum(len(unit.chunks) for unit in units) == made.summary.chunks
    assert len(units) == made.summary.units


def test_units_hold_neighbouring_tiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(0, 1, 4000)))
    made = planned(pa.table({"object_id": np.arange(4000), "ra": ra, "dec": dec}), tmp_path)
    spread = [pc.stddev(made.rows(unit)["dec"]).as_py() for unit in made.units()]
    assert np.median(spread) < 0.3 * np.std(dec)  # 40 units over a hemisphere; sources at random would have 1.0


def test_sources_outside_the_footprint_have_units_of_their_own(tmp_path: Path) -> None:
    table = sky()
    made = planned(table, tmp_path)
    outside = pc.sum(pc.less(table["dec"], 0)).as_py()
    assert made.summary.outside == outside > 0
    empty = [unit for unit in made.units() if unit.tiles == 0]
    assert sum(unit.rows for unit in empty) == outside
    assert all(set(made.rows(unit)["tile"].to_pylist()) == {""} for unit in empty)


def test_a_crowded_tile_is_split_into_nearly_equal_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {"object_id": np.arange(250), "ra": rng.uniform(100, 101, 250), "dec": rng.uniform(0, 1, 250)}
    made = planned(pa.table(columns), tmp_path)
    assert [unit.rows for unit in made.units()] == [84, 83, 83]
    assert made.summary.tiles == 1


def test_the_tile_of_a_source_with_a_path_is_the_path(tmp_path: Path) -> None:
    paths = [f"cutouts/{i % 40:03d}.fits" for i in range(120)]
    table = sky(120).append_column("path", pa.array(paths))
    made = planned(table, tmp_path)
    found = everything(made)
    assert made.summary.tiles == 40
    assert "path" not in found.column_names
    by_id = dict(zip(table["object_id"].to_pylist(), paths, strict=True))
    assert found["tile"].to_pylist() == [by_id[i] for i in found["object_id"].to_pylist()]
    assert [unit.tiles for unit in made.units()] == [33, 7]


BROKEN = [
    ("ra", float("nan"), "no position"),
    ("dec", float("inf"), "no position"),
    ("dec", None, "no position"),
    ("ra", -0.001, "ra outside [0, 360]"),
    ("ra", 360.001, "ra outside [0, 360]"),
    ("dec", 90.001, "dec outside [-90, 90]"),
    ("object_id", None, "no object_id"),
]


def broken(table: pa.Table, column: str, rows: list[int], value: object) -> pa.Table:
    values = table[column].to_pylist()
    for row in rows:
        values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, pa.array(values, table.schema.field(column).type))


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_rows_that_are_no_sources_are_refused_with_their_numbers(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    rows = list(range(90, 490, 8))
    with pytest.raises(InvalidSources) as raised:
        planned(broken(sky(), column, rows, value), tmp_path)
    assert f"50 of 500 rows are no sources (rows count from 0): {reason}: 50 (row 90, 98, 106," in str(raised.value)
    assert str(raised.value).count(",") < 20, "ten examples are enough"
    assert open_plan(Storage(str(tmp_path))) is None


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_rows_that_are_no_sources_can_be_set_aside(tmp_path: Path, column: str, value: object, reason: str) -> None:
    table = broken(sky(), column, [3, 300], value)
    made = planned(table, tmp_path, skip_invalid=True)
    assert made.summary.invalid == {reason: 2}
    assert made.summary.sources == 498
    assert made.summary.rows_in == 500
    aside = pq.read_table(tmp_path / "unplaced.parquet")
    assert aside["row"].to_pylist() == [3, 300]
    assert aside["status"].to_pylist() == ["invalid", "invalid"]
    assert aside["reason"].to_pylist() == [reason, reason]
    expected = [None if i is None else str(i) for i in table["object_id"].take([3, 300]).to_pylist()]
    assert aside["object_id"].to_pylist() == expected


def test_the_same_id_twice_is_refused_and_with_skip_invalid_the_first_stays(tmp_path: Path) -> None:
    table = sky()
    twice = pa.concat_tables([table, table.slice(7, 2), table.slice(7, 1)])
    with pytest.raises(InvalidSources, match=r"object_id seen before: 3 \(row 500, 501, 502\)"):
        planned(twice, tmp_path)
    made = planned(twice, tmp_path, skip_invalid=True)
    assert made.summary.invalid == {"object_id seen before": 3}
    assert list(made.units()) == list(planned(table, tmp_path / "once").units())


def test_row_numbers_of_the_table_survive_a_filter_before_the_plan(tmp_path: Path) -> None:
    numbered = broken(sky(), "ra", [20], float("nan")).append_column("source_row", pa.array(np.arange(500) * 10))
    with pytest.raises(InvalidSources, match=r"\(row 200\)"):
        planned(numbered, tmp_path)


def test_an_empty_text_is_no_id(tmp_path: Path) -> None:
    table = pa.table({"object_id": ["a", "", "c"], "ra": [1.0, 2.0, 3.0], "dec": [1.0, 1.0, 1.0]})
    made = planned(table, tmp_path, skip_invalid=True)
    assert made.summary.id_type == "string"
    assert sorted(everything(made)["object_id"].to_pylist()) == ["a", "c"]


def test_ra_360_is_0_and_a_radius_that_is_none_becomes_null(tmp_path: Path) -> None:
    radius = [2.5, 0.0, -1.0, float("nan"), float("inf"), None]
    columns = {"object_id": range(6), "ra": [360.0] * 6, "dec": [1.0] * 6, "radius": radius}
    found = everything(planned(pa.table(columns), tmp_path)).sort_by("object_id")
    assert found["ra"].to_pylist() == [0.0] * 6
    assert found["radius"].to_pylist() == [2.5, None, None, None, None, None]


def test_nothing_to_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no sources"):
        planned(sky().slice(0, 0), tmp_path)
    with pytest.raises(JobError, match="none of 5 rows is a source: no position"):
        planned(broken(sky(5), "ra", list(range(5)), None), tmp_path, skip_invalid=True)


def test_a_plan_cut_short_does_not_open_and_is_made_anew(tmp_path: Path) -> None:
    planned(sky(seed=9), tmp_path, skip_invalid=True)
    (tmp_path / "plan/plan.json").unlink()  # written last
    (tmp_path / "plan/part-00001.parquet").write_bytes(b"left over")
    keep_tiles(Storage(str(tmp_path)), pa.table({"brick": ["0001p000"]}))
    assert open_plan(Storage(str(tmp_path))) is None
    made = planned(sky(), tmp_path)
    assert everything(made).equals(everything(planned(sky(), tmp_path / "fresh")))
    assert not (tmp_path / "plan/part-00001.parquet").exists()
    kept = made.tile_table()
    assert kept is not None and kept["brick"].to_pylist() == ["0001p000"]


def test_a_second_plan_in_the_same_place_is_refused(tmp_path: Path) -> None:
    planned(sky(), tmp_path)
    with pytest.raises(CatalogueError, match="has a plan already"):
        planned(sky(), tmp_path)


def test_a_unit_that_the_plan_does_not_hold_is_an_error(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    stranger = replace(next(made.units()), stop=3)
    with pytest.raises(CatalogueError, match="holds no unit of rows 0 to 3"):
        made.rows(stranger)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "c"], pa.large_string()),
        pa.array(["x", "y", None]).dictionary_encode(),
        pa.array([2**64 - 1, None, 0], pa.uint64()),
        pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        pa.array([1, None, 3], pa.timestamp("ns", "UTC")),
        pa.array([True, None, False]),
        pa.array([b"\xff", None, b""]),
        pa.array(np.array([1, np.nan, -0.0], np.float16)),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_that_pass_through_keep_type_and_values(tmp_path: Path, column: pa.Array) -> None:
    columns = {"object_id": [1, 2, 3], "ra": [5.0, 5.1, 5.2], "dec": [1.0, 1.0, 1.0], 'odd "name"': column}
    found = everything(planned(pa.table(columns), tmp_path)).sort_by("object_id")['odd "name"']
    assert found.type == column.type
    assert str(found.to_pylist()) == str(column.to_pylist())


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
    assert openings(names, (7, 6, 10, 2)) == 4  # c is opened twice
    assert openings(pa.array([""] * 4), (2, 2)) == 0


def test_the_estimate_counts_what_chunks_open(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    assert made.summary.openings > made.summary.tiles
    found = estimate(made, Squares(), "nowhere", networks=1, gflops=4.839)
    assert found.files == made.summary.tiles * 4
    inside = made.summary.sources - made.summary.outside
    neighbours = round(made.summary.openings * (1 - (1 - EDGE_FRACTION) ** (inside / made.summary.openings)))
    assert found.requests == 4 * (made.summary.openings + neighbours)
    assert found.bytes_in == round(found.requests / 4 * (3 * IMAGE_BYTES + MASK_BYTES))
    assert found.gpu_seconds == pytest.approx(inside * 4.839e9 / 20e12)
    two = estimate(made, Squares(), "nowhere", networks=2, gflops=4.839)
    assert two.bytes_out - found.bytes_out == pytest.approx(2 * 388 * made.summary.sources, abs=1)


def test_the_estimate_uses_the_sizes_of_files_that_are_on_this_disk(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path / "output")
    for tile in {name for unit in made.units() for name in made.rows(unit)["tile"].to_pylist() if name}:
        for product in Squares().products(tile):
            path = tmp_path / "mirror" / product.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1000)
    found = estimate(made, Squares(), str(tmp_path / "mirror"), networks=1, gflops=1)
    assert found.bytes_in == found.requests * 1000


def test_units_know_their_chunks() -> None:
    unit = WorkUnit("a", "plan/part-00000.parquet", 100, 130, (12, 12, 6))
    assert [unit.chunk_rows(i) for i in range(3)] == [(100, 112), (112, 124), (124, 130)]
