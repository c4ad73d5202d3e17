"""The survey's own sweep tables as sources: the selection, the seam, the files that a region needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.archives.files import ArchiveFiles
from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.sources.batches import Region, Selection
from pipeline.sources.sweeps import PASS_THROUGH, meets, sweep_batches, sweep_box, target_ids
from pipeline.surveys.legacy import LegacyConfig
from tests.standins.fast import fast_access


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
    with ArchiveFiles(str(root)) as files:
        return pa.Table.from_batches(sweep_batches(files, config.sweeps, selection, **options))


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


def test_a_preset_is_a_published_selection_of_which_keys_may_be_changed(tmp_path: Path) -> None:
    write_sweep(
        tmp_path, "sweep-150p000-160p005.fits", sweep(4, type=["PSF", "EXP", "EXP", "DUP"], flux_r=[100, 100, 1, 100])
    )
    chosen = Selection.model_validate({"preset": "gz_desi"})
    assert swept(tmp_path, selection=chosen)["objid"].to_pylist() == [1]  # the third has r = 22.3
    assert Selection.model_validate(chosen.model_dump()) == chosen
    fainter = Selection.model_validate({"preset": "gz_desi", "max_mag_r": 23.0})
    assert swept(tmp_path, selection=fainter)["objid"].to_pylist() == [1, 2]
    with pytest.raises(ValueError, match="gz_desi"):
        Selection.model_validate({"preset": "gz_dezi"})


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


def test_a_cone_may_meet_a_box_between_its_corners() -> None:
    box = (30.0, 40.0, 60.0, 65.0)  # from (0, 60): 14.87 deg to the lower corner, 14.56 to the upper, 14.48 between
    assert meets(Region(ra=0, dec=60, radius=14.52), box)
    assert not meets(Region(ra=0, dec=60, radius=14.45), box)


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


def test_a_server_that_does_not_answer_is_an_unreachable_archive() -> None:
    root = "http://127.0.0.1:9"  # the discard port: nothing listens
    with ArchiveFiles(root, fast_access(root)) as files, pytest.raises(ArchiveUnreachable, match="cannot list"):
        next(iter(sweep_batches(files, LegacyConfig().sweeps, None)))


def test_a_damaged_sweep_is_an_error_that_names_it(mock_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(mock_tree / "dr10/south/sweep", tmp_path / "dr10/south/sweep")
    damaged = next((tmp_path / "dr10/south/sweep/10.1").glob("*.fits"))
    damaged.write_bytes(damaged.read_bytes()[:5760])
    with pytest.raises((JobError, ArchiveUnreachable), match=damaged.name):
        swept(tmp_path)
