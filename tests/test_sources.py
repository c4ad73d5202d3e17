"""Tables in, batches of sources out: every format alike, by name and unit, inside the sky that was asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fitsio
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from numpy.typing import NDArray

from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.sources.batches import Columns, Region, source_batches
from tests.source_tables import COLUMNS, SKY, WRITERS, as_parquet, read, written

FORMATS = pytest.mark.parametrize("name", WRITERS)


@FORMATS
def test_every_format_gives_the_same_sources(tmp_path: Path, name: str) -> None:
    found = read(written(tmp_path, name), pass_through=["TYPE"])
    assert found.schema.names == ["object_id", "ra", "dec", "radius", "source_row", "TYPE"]
    assert found.schema.types[:5] == [pa.int64(), pa.float64(), pa.float64(), pa.float32(), pa.int64()]
    assert found["object_id"].to_pylist() == [11, 12, 13, 14]
    assert found["ra"].to_pylist() == SKY["RA"].to_pylist()
    assert found["radius"].to_pylist() == [1.5, 0.0, 2.5, 3.5]
    assert found["source_row"].to_pylist() == [0, 1, 2, 3]
    assert found["TYPE"].to_pylist() == ["EXP", "DEV", "REX", "E"]


@FORMATS
def test_every_format_is_read_from_an_address_as_from_a_disk(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    store = fsspec.filesystem("memory")
    store.put(str(path), f"/test-sources/{name}", recursive=True)
    try:
        assert read(f"memory://test-sources/{name}").equals(read(path))
    finally:
        store.rm("/test-sources", recursive=True)


@FORMATS
def test_a_damaged_table_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    damaged = path / "part-1.parquet" if path.is_dir() else path
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2] + b'\n"')
    with pytest.raises(JobError, match=str(damaged)):
        read(path)


@FORMATS
def test_an_empty_table_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match="has no rows"):
        read(written(tmp_path, name, SKY.slice(0, 0)))


@pytest.mark.parametrize("name", [*WRITERS, "sky.txt"])
def test_a_table_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError, match=f"there is no table {tmp_path / name}"):
        read(tmp_path / name)


def test_a_table_of_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sky.txt").write_text("1 2 3")
    with pytest.raises(JobError, match=r"should end in one of \.parquet"):
        read(tmp_path / "sky.txt")


@pytest.mark.parametrize("name", ["sky.parquet", "sky.fits"])
def test_columns_pass_through_with_their_types_and_all_do_by_default(tmp_path: Path, name: str) -> None:
    found = read(written(tmp_path, name))
    assert found.schema.names[5:] == ["TYPE", "FLUX"]
    assert found.schema.field("FLUX").type == pa.list_(pa.float32(), 2)
    assert found["FLUX"].to_pylist() == SKY["FLUX"].to_pylist()


@pytest.mark.parametrize("name", ["sky.vot", "sky.ecsv"])
def test_a_masked_value_is_null(tmp_path: Path, name: str) -> None:
    made = Table({"OBJID": [1, 2], "RA": [1.0, 2.0], "DEC": [1.0, 2.0], "n": [7, 8]}, masked=True)
    made["n"].mask = [True, False]
    made.write(tmp_path / name, format="votable" if name.endswith("vot") else "ascii.ecsv")
    assert read(tmp_path / name, Columns(object_id="OBJID"))["n"].to_pylist() == [None, 8]


def test_a_missing_column_is_named_with_the_table_and_the_nearest_names(tmp_path: Path) -> None:
    path = written(tmp_path, "sky.parquet")
    with pytest.raises(
        JobError, match=r"sky\.parquet has no column 'object_id'; the nearest are OBJID.*object_id=NAME"
    ):
        read(path, Columns())
    with pytest.raises(JobError, match="no column 'zebra'; it has OBJID, RA, DEC"):
        read(path, pass_through=["zebra"])


def test_case_decides_only_where_two_columns_differ_by_nothing_else(tmp_path: Path) -> None:
    both = SKY.append_column("ra", pa.array([1.0, 2.0, 3.0, 4.0]))
    path = written(tmp_path, "sky.parquet", both)
    assert read(path, pass_through=[])["ra"].to_pylist() == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(JobError, match=r"'Ra' of .* could be any of RA, ra"):
        read(path, COLUMNS.model_copy(update={"ra": "Ra"}))


@pytest.mark.parametrize("wrong", ["hourangle", "rad", "arcmin"])
def test_a_position_in_another_unit_is_refused(tmp_path: Path, wrong: str) -> None:
    made = Table({"OBJID": [1], "RA": [1.0], "DEC": [1.0]})
    made["RA"].unit = wrong
    made.write(tmp_path / "sky.ecsv")
    with pytest.raises(JobError, match=f"'RA' of .* is in '{wrong}', ra is wanted in deg"):
        read(tmp_path / "sky.ecsv", Columns(object_id="OBJID"))


@pytest.mark.parametrize("values", [pa.array([1, 2], pa.int16()), pa.array([1, 2**63 - 1], pa.uint64())])
def test_integer_ids_become_int64(tmp_path: Path, values: pa.Array) -> None:
    as_parquet(tmp_path / "ids.parquet", pa.table({"object_id": values, "ra": [1, 2], "dec": [1, 2]}))
    found = read(tmp_path / "ids.parquet", Columns())
    assert found["object_id"].type == pa.int64()
    assert found["object_id"].to_pylist() == values.to_pylist()


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_ids_become_strings(tmp_path: Path, type_: pa.DataType) -> None:
    ids = pa.array(["a", None, "c"], pa.string()).cast(type_)
    as_parquet(tmp_path / "ids.parquet", pa.table({"object_id": ids, "ra": [1.0] * 3, "dec": [1.0] * 3}))
    found = read(tmp_path / "ids.parquet", Columns())["object_id"]
    assert found.type == pa.string()
    assert found.to_pylist() == ["a", None, "c"]


def test_ids_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    position = {"ra": [1.0] * 4, "dec": [1.0] * 4}
    wide = pa.array([1, 2, None, 2**63], pa.uint64())
    as_parquet(tmp_path / "wide.parquet", pa.table({"object_id": wide, **position}))
    with pytest.raises(JobError, match="row 3: the id does not fit int64"):
        read(tmp_path / "wide.parquet", Columns())
    as_parquet(tmp_path / "float.parquet", pa.table({"object_id": [1.0] * 4, **position}))
    with pytest.raises(JobError, match=r"'object_id' of .*float\.parquet holds double"):
        read(tmp_path / "float.parquet", Columns())


def test_sexagesimal_positions_are_refused(tmp_path: Path) -> None:
    as_parquet(tmp_path / "s.parquet", pa.table({"object_id": [1], "ra": ["10:00:00"], "dec": [1.0]}))
    with pytest.raises(JobError, match=r"'ra' of .* holds string: decimal degrees"):
        read(tmp_path / "s.parquet", Columns())


def test_a_column_with_a_name_of_the_plan_cannot_pass_through(tmp_path: Path) -> None:
    table = SKY.append_column("radius", pa.array([1.0] * 4))
    path = written(tmp_path, "sky.parquet", table)
    with pytest.raises(JobError, match=r"'radius' of .* cannot pass through"):
        read(path)
    assert "radius" in read(path, pass_through=["TYPE"]).column_names


def test_a_path_column_comes_as_path(tmp_path: Path) -> None:
    path = written(tmp_path, "sky.fits")
    assert read(path, Columns(object_id="objid", path="type"))["path"].to_pylist() == ["EXP", "DEV", "REX", "E"]


def brute_force(region: Region, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    def vector(ra: Any, dec: Any) -> NDArray[np.float64]:
        ra, dec = np.radians(ra), np.radians(dec)
        return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])

    difference = vector(ra, dec) - vector(region.ra, region.dec)[:, None]
    return np.asarray(np.linalg.norm(difference, axis=0) <= 2 * np.sin(np.radians(region.radius) / 2))


@pytest.mark.parametrize("cone", [(0.1, 0.0, 1.0), (359.9, 60, 3), (200, 89.5, 2), (10, -90, 5), (50, 10, 180)])
def test_a_region_is_a_cone_on_the_sphere(cone: tuple[float, float, float]) -> None:
    region = Region(ra=cone[0], dec=cone[1], radius=cone[2])
    rng = np.random.default_rng(4)
    ra = (region.ra + rng.uniform(-180, 180, 4000)) % 360
    dec = np.clip(region.dec + rng.uniform(-2, 2, 4000) * min(region.radius, 45), -90, 90)
    expected = brute_force(region, ra, dec)
    assert 0 < expected.sum() < 4000 or region.radius == 180
    assert np.array_equal(region.contains(ra, dec), expected)
    assert not region.contains(np.array([np.nan]), np.array([0.0])).any()


def test_region_and_limit_keep_the_first_rows_inside_and_their_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    table = pa.table({"object_id": np.arange(200_000), "ra": rng.uniform(0, 360, 200_000), "dec": np.zeros(200_000)})
    pq.write_table(table, tmp_path / "sky.parquet")
    region = Region(ra=1, dec=0, radius=10)
    inside = np.flatnonzero(brute_force(region, table["ra"].to_numpy(), table["dec"].to_numpy()))
    found = read(tmp_path / "sky.parquet", Columns(), region=region, limit=5000)
    assert found["source_row"].to_pylist() == found["object_id"].to_pylist() == inside[:5000].tolist()


def test_rows_are_streamed(tmp_path: Path) -> None:
    table = pa.table({"OBJID": np.arange(150_000), "RA": np.ones(150_000), "DEC": np.ones(150_000)})
    pq.write_table(table, tmp_path / "sky.parquet")
    fitsio.write(tmp_path / "sky.fits", table.to_pandas().to_records(index=False))
    for name in ("sky.parquet", "sky.fits"):
        sizes = [batch.num_rows for batch in source_batches(str(tmp_path / name), Columns(object_id="OBJID"))]
        assert sum(sizes) == 150_000
        assert max(sizes) <= 65_536


def test_a_server_that_does_not_answer_is_an_unreachable_archive() -> None:
    with pytest.raises(ArchiveUnreachable, match="cannot fetch the table"):
        read("http://127.0.0.1:9/sky.parquet")  # the discard port: nothing listens


def test_messages_do_not_repeat_the_secrets_of_an_address() -> None:
    with pytest.raises(ArchiveUnreachable) as raised:
        read("http://me:hunter2@127.0.0.1:9/sky.parquet?token=s3cret")
    with pytest.raises(JobError) as missing:
        read("memory://sky.parquet?token=s3cret")
    chain = f"{raised.value}{raised.value.__cause__}{missing.value}"
    assert "hunter2" not in chain and "s3cret" not in chain


REAL = Path(os.environ.get("GALAXY_SHARED_DATA", Path(__file__).parents[2] / "shared/data")) / "catalogues"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real catalogues in {REAL}")
@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("nsa_decals_targets.csv", Columns(object_id="objID", radius="petroth50"), 790),
        ("visual_mergers.csv", Columns(object_id="ID", ra="RA", dec="DEC"), 587),
        ("ls_dr9_new_lenses.tsv", Columns(object_id="inds"), 1192),
    ],
)
def test_real_tables_of_positions_are_read(name: str, columns: Columns, rows: int) -> None:
    found = read(REAL / name, columns, pass_through=[])
    assert found.num_rows == rows
    assert Region(ra=0, dec=0, radius=180).contains(found["ra"].to_numpy(), found["dec"].to_numpy()).all()


def test_ids_with_leading_zeros_stay_the_text_that_they_are(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("object_id,ra,dec,plate\n0012,150.0,2.0,7\n0013,150.1,2.0,8\n")
    (batch,) = source_batches(str(table))
    assert batch.column("object_id").to_pylist() == ["0012", "0013"]
    assert batch.column("plate").to_pylist() == [7, 8]
