"""Tables in, batches of sources out: every format alike, the sky that was asked for, and the survey's own sweeps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fitsio
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from numpy.typing import NDArray

from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.sources import Columns, Region, Selection, source_batches
from pipeline.surveys.legacy import LegacyConfig
from pipeline.sweeps import PASS_THROUGH, meets, sweep_batches, sweep_box, target_ids

COLUMNS = Columns(object_id="OBJID", ra="ra", dec="dec", radius="shape_r")
SKY = pa.table(
    {
        "OBJID": pa.array([11, 12, 13, 14], pa.int32()),
        "RA": [359.5, 0.25, 10.0, 180.0],
        "DEC": [0.5, -0.25, 80.0, -89.5],
        "SHAPE_R": pa.array([1.5, 0.0, 2.5, 3.5], pa.float32()),
        "TYPE": ["EXP", "DEV", "REX", "E"],
        "FLUX": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], pa.list_(pa.float32(), 2)),
    }
)


def as_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=3)


def as_folder(path: Path, table: pa.Table) -> None:
    path.mkdir()
    pq.write_table(table.slice(0, 1), path / "part-0.parquet")
    pq.write_table(table.slice(1), path / "part-1.parquet")


def as_csv(path: Path, table: pa.Table) -> None:
    pyarrow.csv.write_csv(table.drop_columns("FLUX"), path)


def as_fits(path: Path, table: pa.Table) -> None:
    names = [name for name in table.column_names if name != "FLUX"]
    columns = [table[name].to_numpy() for name in names]
    columns[names.index("TYPE")] = columns[names.index("TYPE")].astype("S6")
    units = {"RA": "deg", "DEC": "deg", "SHAPE_R": "arcsec"}
    flux = np.array(table["FLUX"].to_pylist(), np.float32).reshape(-1, 2)
    fitsio.write(path, [*columns, flux], names=[*names, "FLUX"], units=[*(units.get(n, "") for n in names), ""])


def as_astropy(path: Path, table: pa.Table, kind: str) -> None:
    made = Table({name: table[name].to_numpy() for name in table.column_names if name != "FLUX"})
    made["TYPE"] = made["TYPE"].astype(np.str_)
    made["RA"].unit = made["DEC"].unit = "deg"
    made.write(path, format=kind)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "sky.parquet": as_parquet,
    "sky": as_folder,
    "sky.csv": as_csv,
    "sky.fits": as_fits,
    "sky.fits.gz": as_fits,
    "sky.vot": partial(as_astropy, kind="votable"),
    "sky.ecsv": partial(as_astropy, kind="ascii.ecsv"),
}
FORMATS = pytest.mark.parametrize("name", WRITERS)


def read(table: Path | str, columns: Columns = COLUMNS, **options: Any) -> pa.Table:
    return pa.Table.from_batches(source_batches(str(table), columns, **options))


def written(folder: Path, name: str, table: pa.Table = SKY) -> Path:
    WRITERS[name](folder / name, table)
    return folder / name


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
    with pytest.raises(JobError, match=r"sky\.parquet has no column 'object_id'; the nearest are OBJID"):
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


# The Legacy Surveys' sweeps


def sweep(rows: int, **columns: Any) -> pa.Table:
    """A sweep table of galaxies at (150.5, 2.5) unless `columns` say otherwise."""
    values: dict[str, Any] = {
        "RELEASE": np.full(rows, 10000, np.int16),
        "BRICKID": np.full(rows, 343000, np.int32),
        "OBJID": np.arange(rows, dtype=np.int32),
        "TYPE": np.array(["EXP"] * rows),
        "RA": np.full(rows, 150.5),
        "DEC": np.full(rows, 2.5),
        "SHAPE_R": np.full(rows, 2.0, np.float32),
        "MASKBITS": np.zeros(rows, np.int32),
        "PSFSIZE_R": np.ones(rows, np.float32),
    }
    for band in "GRZ":
        values[f"FLUX_{band}"] = np.full(rows, 100.0, np.float32)
        values[f"MW_TRANSMISSION_{band}"] = np.full(rows, 0.8, np.float32)
        values[f"FRACFLUX_{band}"] = np.zeros(rows, np.float32)
        values[f"NOBS_{band}"] = np.full(rows, 2, np.int16)
    return {**values, **{name.upper(): np.asarray(column) for name, column in columns.items()}}


def write_sweep(root: Path, name: str, table: Any, tree: str = "dr10/south/sweep/10.1") -> None:
    (root / tree).mkdir(parents=True, exist_ok=True)
    columns = [column.astype("S4") if column.dtype.kind == "U" else column for column in table.values()]
    fitsio.write(root / tree / name, columns, names=list(table))


def swept(root: Path | str, *, selection: Selection | None = None, **options: Any) -> pa.Table:
    config = options.pop("config", LegacyConfig())
    return pa.Table.from_batches(sweep_batches(str(root), config, selection, **options))


def test_the_packed_id_is_desis_targetid() -> None:
    packed = target_ids(np.array([9010], np.int16), np.array([285251], np.int32), np.array([4963], np.int32))
    assert packed.tolist() == [39627595494462307]  # published


def test_sweeps_of_the_mock_sky_give_every_galaxy_with_its_photometry(mock_tree: Path) -> None:
    found = swept(mock_tree)
    truth = pq.read_table(mock_tree / "truth/truth.parquet")
    assert found.num_rows == truth.num_rows
    assert found.column_names == ["object_id", "ra", "dec", "radius", *PASS_THROUGH]
    assert found["object_id"].equals(found["targetid"])
    assert set(found["photsys"].to_pylist()) == {"S"}
    assert not set(found["type"].to_pylist()) & {"PSF", "DUP"}
    assert found["radius"].to_pylist() == found["shape_r"].to_pylist()


def test_stars_duplicates_and_faint_galaxies_are_left_out(tmp_path: Path) -> None:
    types = ["PSF", "DUP", "REX", "EXP", "DEV", "SER", "EXP", "EXP", "EXP"]
    flux = np.array([100, 100, 100, 100, 100, 100, 100 / 2.5, -1, np.nan], np.float32)
    write_sweep(tmp_path, "sweep-150p000-160p005.fits", sweep(9, type=types, flux_r=flux))
    assert swept(tmp_path)["objid"].to_pylist() == [2, 3, 4, 5, 6, 7, 8]
    # 22.5 - 2.5 log10(100 / 0.8) = 17.258 without the Milky Way's dust; 17.5 with it
    assert swept(tmp_path, selection=Selection(max_mag_r=17.3))["objid"].to_pylist() == [2, 3, 4, 5]
    assert swept(tmp_path, selection=Selection(max_mag_r=17.2)).num_rows == 0
    assert swept(tmp_path, selection=Selection(types=("PSF",)))["objid"].to_pylist() == [0]


def test_maskbits_exclude_only_those_that_are_named(tmp_path: Path) -> None:
    bits = np.array([0, 1 << 1, 1 << 12, (1 << 12) | (1 << 11)], np.int32)
    write_sweep(tmp_path, "sweep-150p000-160p005.fits", sweep(4, maskbits=bits))
    assert swept(tmp_path).num_rows == 4
    assert swept(tmp_path, selection=Selection(exclude_maskbits=(1, 11)))["objid"].to_pylist() == [0, 2]


def test_dereddened_magnitudes_are_null_without_a_positive_flux(tmp_path: Path) -> None:
    flux = np.array([100, 0, -5, np.nan], np.float32)
    write_sweep(tmp_path, "sweep-150p000-160p005.fits", sweep(4, flux_g=flux))
    found = swept(tmp_path)
    assert found["dered_mag_g"].to_pylist() == [pytest.approx(22.5 - 2.5 * np.log10(125), abs=1e-5), None, None, None]
    assert found["flux_g"].to_pylist()[:3] == [100, 0, -5]


def test_a_type_that_is_no_type_stops_the_run(tmp_path: Path) -> None:
    write_sweep(tmp_path, "sweep-150p000-160p005.fits", sweep(2, type=["EXP", "G3"]))  # TYPE and REF_CAT swapped
    with pytest.raises(JobError, match=r"TYPE holds \['G3'\]"):
        swept(tmp_path)


def test_at_the_seam_each_galaxy_comes_from_the_tree_that_owns_it(tmp_path: Path) -> None:
    positions = {"ra": [200.0, 200.0, 20.0], "dec": [32.374, 32.375, 33.0]}  # the last is south of the galactic plane
    for tree in ("north", "south"):
        write_sweep(tmp_path, "sweep-000p030-360p035.fits", sweep(3, **positions), f"dr9/{tree}/sweep/9.0")
    found = swept(tmp_path, config=LegacyConfig(release="dr9", regions=("north", "south")))
    assert dict(zip(found["objid"].to_pylist(), found["photsys"].to_pylist(), strict=True)) == {0: "S", 1: "N", 2: "S"}
    assert found.num_rows == 3


def test_only_sweep_files_that_meet_the_region_are_read(tmp_path: Path) -> None:
    write_sweep(tmp_path, "sweep-150p000-160p005.fits", sweep(2))
    (tmp_path / "dr10/south/sweep/10.1/sweep-170p000-180p005.fits").write_bytes(b"not read")
    (tmp_path / "dr10/south/sweep/10.1/sweep-150p000-160p005-pz.fits").write_bytes(b"another table")
    assert swept(tmp_path, region=Region(ra=150.5, dec=2.5, radius=1)).num_rows == 2
    assert swept(tmp_path, region=Region(ra=150.5, dec=2.5, radius=1), limit=1).num_rows == 1
    with pytest.raises((JobError, ArchiveUnreachable), match="sweep-170p000"):
        swept(tmp_path)


@pytest.mark.parametrize(
    ("name", "box"),
    [("sweep-000m010-010m005.fits", (0, 10, -10, -5)), ("sweep-350p085-360p090.fits", (350, 360, 85, 90))],
)
def test_a_sweep_file_says_its_box_by_its_name(name: str, box: tuple[int, ...]) -> None:
    assert sweep_box(name) == box
    assert sweep_box(name.replace(".fits", "-pz.fits")) is None


def test_a_cone_meets_a_box_if_and_only_if_it_holds_a_point_of_it() -> None:
    rng = np.random.default_rng(8)
    outcomes = []
    for _ in range(400):
        box = (
            float(ra1 := rng.integers(0, 36) * 10),
            float(ra1 + 10),
            float(dec1 := rng.integers(-18, 18) * 5),
            float(dec1 + 5),
        )
        region = Region(ra=rng.uniform(0, 360), dec=rng.uniform(-90, 90), radius=rng.uniform(1, 60))
        ra, dec = (
            axis.ravel() for axis in np.meshgrid(np.linspace(box[0], box[1], 81), np.linspace(box[2], box[3], 41))
        )
        wider = region.model_copy(update={"radius": region.radius + 0.2})  # the points are 0.125 degrees apart
        assert meets(region, box) or not region.contains(ra, dec).any()
        assert not meets(region, box) or wider.contains(ra, dec).any()
        outcomes.append(meets(region, box))
    assert 50 < sum(outcomes) < 350


def test_pass_through_may_name_any_sweep_column_in_any_case(mock_tree: Path) -> None:
    found = swept(mock_tree, pass_through=["SERSIC", "flux_i", "TARGETID"])
    assert found.column_names[4:] == ["sersic", "flux_i", "targetid"]
    with pytest.raises(JobError, match="no column 'seric'; the nearest are SERSIC"):
        swept(mock_tree, pass_through=["seric"])
    with pytest.raises(JobError, match="names ra, which the plan has already"):
        swept(mock_tree, pass_through=["ra"])


def test_a_tree_without_sweeps_asks_for_a_table(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no sweep tables in dr10/south/sweep/10\.1: give the sources with --sources"):
        swept(tmp_path)
    with pytest.raises(JobError, match="release dr11: give the sources with --sources"):
        swept(tmp_path, config=LegacyConfig(release="dr11"))


@pytest.fixture
def served(mock_tree: Path) -> Iterator[str]:
    """The mock tree behind a web server of this machine, with index pages."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mock_tree))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_sweeps_come_from_a_web_server_as_from_a_disk(served: str, mock_tree: Path) -> None:
    assert swept(served).sort_by("object_id").equals(swept(mock_tree).sort_by("object_id"))


def test_a_server_that_does_not_answer_is_an_unreachable_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="cannot list"):
        swept("http://127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(ArchiveUnreachable, match="cannot fetch the table"):
        read("http://127.0.0.1:9/sky.parquet")


def test_a_damaged_sweep_is_an_error_that_names_it(mock_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(mock_tree / "dr10/south/sweep", tmp_path / "dr10/south/sweep")
    damaged = next((tmp_path / "dr10/south/sweep/10.1").glob("*.fits"))
    damaged.write_bytes(damaged.read_bytes()[:5760])
    with pytest.raises((JobError, ArchiveUnreachable), match=damaged.name):
        swept(tmp_path)


def test_maskbits_of_every_galaxy_of_the_mock_are_its_own(mock_tree: Path) -> None:
    found = swept(mock_tree, pass_through=["maskbits"])
    assert pc.max(found["maskbits"]).as_py() > 0
