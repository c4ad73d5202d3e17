"""The plan: every source once, in units of neighbouring tiles, the same for the same sources."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.errors import CatalogueError, DiskFull
from pipeline.planner.planning import keep_tiles, open_plan, plan
from pipeline.storage import Storage
from tests.plans import SMALL, Squares, everything, planned, sky


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
        "import sys; from pipeline.planner.plan import open_plan; from pipeline.storage import Storage\n"
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
        assert unit.rows <= SMALL.size.sources
        assert max(unit.chunks) <= SMALL.size.chunk
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


def test_files_of_one_position_stay_together(tmp_path: Path) -> None:
    columns = {"object_id": range(30), "ra": [5.0] * 30, "dec": [1.0] * 30, "path": ["c", "a", "b"] * 10}
    found = everything(planned(pa.table(columns), tmp_path))
    assert found["tile"].to_pylist() == ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    assert found["object_id"].to_pylist()[:10] == list(range(1, 30, 3))


def test_ra_360_is_0_and_a_radius_that_is_none_becomes_null(tmp_path: Path) -> None:
    radius = [2.5, 0.0, -1.0, float("nan"), float("inf"), None]
    columns = {"object_id": range(6), "ra": [360.0] * 6, "dec": [1.0] * 6, "radius": radius}
    found = everything(planned(pa.table(columns), tmp_path)).sort_by("object_id")
    assert found["ra"].to_pylist() == [0.0] * 6
    assert found["radius"].to_pylist() == [2.5, None, None, None, None, None]


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


class FullDisk(Storage):
    """A disk with room for plan files only."""

    def create(self, name: str, data: bytes) -> bool:
        if "part-" not in name:
            raise DiskFull(f"no room for {name}")
        return super().create(name, data)


def test_a_plan_that_could_not_be_written_whole_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        plan(sky().to_batches(), Squares(), FullDisk(str(tmp_path)), division=SMALL)
    assert (tmp_path / "plan/part-00000.parquet").exists()
    assert open_plan(Storage(str(tmp_path))) is None


def test_a_second_plan_in_the_same_place_is_refused(tmp_path: Path) -> None:
    planned(sky(), tmp_path)
    with pytest.raises(CatalogueError, match="has a plan already"):
        planned(sky(), tmp_path)


def test_a_unit_that_the_plan_does_not_hold_is_an_error(tmp_path: Path) -> None:
    made = planned(sky(), tmp_path)
    stranger = replace(next(made.units()), stop=3, chunks=(3,), ways=())
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
