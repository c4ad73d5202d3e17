"""The job of every survey over a small sky: files on disk, services over HTTP, from positions to committed rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from botocore.exceptions import EndpointConnectionError
from fsspec import AbstractFileSystem

from pipeline.archives.access import Access
from pipeline.archives.policy import ArchivesSection, host_of
from pipeline.data import RowFlag
from pipeline.errors import ArchiveUnreachable, JobError
from pipeline.executors.forecast import plan_only
from pipeline.executors.prepare import prepare
from pipeline.executors.runner import run
from pipeline.job import Job, load_job
from pipeline.models.images import IMAGES
from pipeline.sources.footprints import footprint_table
from pipeline.storage import Storage
from tests.runs import SIZE, call, committed_rows, tiny_checkpoint
from tests.skies import Blob, BrickSky
from tests.survey_files import as_tree, serving
from tests.survey_services import FirstServer, Hips2fits
from tests.survey_trees import Archive, corners_of, drawn_on, euclid_mosaics, sdss_fields, sky_of, turned_header

RA, DEC, FIELD = 150.0, 2.0, "dr17/eboss/photoObj/frames/301/752/3/frame-{}-000752-3-0045.fits.bz2"
SKY = sky_of(RA, DEC, Blob(0, 0, 1.0, 60), Blob(10, 8, 1.2, 40))
SHAPE = (300, 300)


def _sources(folder: Path, sky: BrickSky = SKY, far: tuple[float, float] = (10.0, 80.0)) -> Path:
    """Two galaxies in the tile and one position far from it."""
    places = [sky.position(0, 0), sky.position(10, 8), far]
    ra, dec = zip(*places, strict=True)
    table = pa.table({"object_id": [1, 2, 3], "ra": list(ra), "dec": list(dec)})
    pyarrow.csv.write_csv(table, folder / "sources.csv")
    return folder / "sources.csv"


def _job(name: str, folder: Path, images: str, *settings: str) -> Job:
    contract = replace(IMAGES[images].contract, size=SIZE, fov=replace(IMAGES[images].contract.fov, fixed=20.0))
    checkpoint = tiny_checkpoint(folder, image=contract)
    common = [f"sources.table={_sources(folder)}", f"networks.dmagnet.checkpoint={checkpoint}"]
    return load_job(name, [*common, "engine.executor=local", "engine.failure_fraction=1", *settings], environment={})


def _ran(job: Job, folder: Path) -> dict[int, dict[str, Any]]:
    """object_id -> row, after the dry run's plan was made of it as well."""
    prepared, _ = plan_only(job, str(folder / "plan"))
    assert prepared.plan.summary.sources == 3
    assert run(job, str(folder / "out")).exit_code == 0
    return {row["object_id"]: row for row in committed_rows(folder / "out").to_pylist()}


def test_sdss_frames_are_classified(tmp_path: Path) -> None:
    archive = Archive()
    for number, band in enumerate("gri"):
        header = turned_header(RA, DEC, SHAPE, 0.396, 93.0, (5.0 * number, 3.0))
        archive.files[FIELD.format(band)] = drawn_on(
            SKY, header, SHAPE, lambda light: light * 0.396**2, BUNIT="nanomaggy", FILTER=band
        )
    as_tree(archive, tmp_path / "sas")
    fields = sdss_fields({"752/3/45": (RA - 0.015, RA + 0.015, DEC - 0.015, DEC + 0.015)})
    target = tmp_path / "sas/dr17/env/PHOTO_RESOLVE/window_flist.fits"
    target.parent.mkdir(parents=True)
    columns = {name.upper(): fields[name].to_numpy() for name in fields.column_names}
    columns["RERUN"] = columns["RERUN"].astype("S3")
    fitsio.write(str(target), list(columns.values()), names=list(columns))
    rows = _ran(_job("sdss", tmp_path, "sdss", f"mirror={tmp_path / 'sas'}"), tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "no_coverage"]
    assert (rows[1]["tile"], rows[1]["data_release"], rows[1]["survey"]) == ("752/3/45", "dr17", "sdss")
    assert rows[1]["pixel_scale"] == pytest.approx(0.396, rel=1e-4)


def test_panstarrs_skycells_are_classified(tmp_path: Path) -> None:
    job = _job("panstarrs", tmp_path, "decals", f"mirror={tmp_path / 'ps1'}")
    survey = job.survey.build(None)
    tile = str(survey.tiles(pa.array([RA]).to_numpy(), pa.array([DEC]).to_numpy())[0])
    header = turned_header(RA, DEC, SHAPE, 0.25)
    image = drawn_on(SKY, header, SHAPE, lambda light: light * 0.25**2 * 10 * 100, EXPTIME=100.0)
    as_tree(Archive({product.path: image for product in survey.products(tile)}), tmp_path / "ps1")
    rows = _ran(job, tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "archive_error"]  # the third skycell is not there
    assert rows[1]["tile"] == tile


def test_euclid_mosaics_are_classified(tmp_path: Path) -> None:
    key = "q1/MER/102018211/VIS/EUC_MER_BGSUB-MOSAIC-VIS_TILE102018211-ABC.fits"
    header = turned_header(RA, DEC, (500, 500), 0.1)
    image = drawn_on(SKY, header, (500, 500), lambda light: light * 0.1**2, MAGZERO=22.5)
    as_tree(Archive({key: image}), tmp_path / "bucket")
    answer = euclid_mosaics({key: ("VIS", corners_of(header, (500, 500)))})
    Table({name: answer[name].to_pylist() for name in answer.column_names}).write(
        tmp_path / "bucket/mosaics.vot", format="votable"
    )
    settings = [f"mirror={tmp_path / 'bucket'}", "survey.mosaics=mosaics.vot"]
    rows = _ran(_job("euclid", tmp_path, "euclid", *settings), tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "no_coverage"]
    assert (rows[1]["tile"], rows[1]["data_release"]) == ("102018211", "q1")


def test_tiles_of_one_s_own_are_found_and_classified(tmp_path: Path) -> None:
    archive = Archive()
    for band in "grz":
        header = turned_header(RA, DEC, SHAPE, 0.3, 20.0)
        name = f"deep/field7_{band}.fits.fz"
        archive.files[name] = drawn_on(SKY, header, SHAPE, lambda light: light * 0.3**2, BUNIT="nanomaggy")
    root = as_tree(archive, tmp_path / "tiles")
    made = call("footprint", str(root), "--pattern", r"(?P<tile>[^/]+)_(?P<band>[grz])\.fits")
    assert made.returncode == 0, made.stderr
    found = pq.read_table(root / "footprint.parquet")
    assert found["tile"].to_pylist() == ["field7"] * 3
    assert found["band"].to_pylist() == ["g", "r", "z"]
    rows = _ran(_job("tiles", tmp_path, "decals", f"mirror={root}"), tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "no_coverage"]


def test_previews_come_over_http_and_are_flagged(tmp_path: Path) -> None:
    with serving(Hips2fits(SKY), tmp_path) as (url, agents):
        settings = [f"survey.service={url}", "archives.default={rate: 1000, burst: 100}", "archives.contact=me@x.org"]
        rows = _ran(_job("hips", tmp_path, "decals", *settings), tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "no_coverage"]
    assert all(row["flags"] & RowFlag.PREVIEW and row["flags"] & RowFlag.RESAMPLED for row in rows.values())
    assert len(agents) == 9  # three bands of three sources, and nothing twice
    assert all("galaxy-pipeline" in agent and "me@x.org" in agent for agent in agents)


def test_radio_galaxies_come_over_http(tmp_path: Path) -> None:
    """The job as it ships, AG-CNN on MiraBest's images; a position without a source is no radio galaxy."""
    sky = sky_of(RA, DEC, Blob(20, 0, 6.0, 50), Blob(-25, 0, 6.0, 40))

    def server(product: Any) -> Any:
        return FirstServer(sky, empty="10.0 " in product.path or "0.666" in product.path)(product)

    with serving(server, tmp_path) as (url, _):
        settings = [f"sources.table={_sources(tmp_path, sky)}", f"survey.server={url}", "engine.executor=local"]
        settings += ["archives.default={rate: 1000, burst: 100}", "engine.failure_fraction=1"]
        rows = _ran(load_job("first", settings, environment={}), tmp_path)
    assert [rows[n]["status"] for n in (1, 2, 3)] == ["ok", "ok", "no_coverage"]
    assert rows[1]["agcnn_p_fri"] + rows[1]["agcnn_p_frii"] == pytest.approx(1, abs=1e-3)
    assert rows[1]["fov_arcsec"] == 270.0
    assert rows[1]["flags"] == 0  # the server cuts, and does not resample


def test_a_footprint_of_nothing_or_of_files_without_a_band_is_an_error(tmp_path: Path) -> None:
    with Access(ArchivesSection()) as access:
        with pytest.raises(JobError, match="there are no FITS tiles below"):
            footprint_table(str(tmp_path), None, access)
        header = turned_header(RA, DEC, (9, 9), 0.3)
        as_tree(Archive({"a.fits": drawn_on(SKY, header, (9, 9))}), tmp_path)
        with pytest.raises(JobError, match=r"a\.fits: its header does not say the band: give --pattern"):
            footprint_table(str(tmp_path), None, access)
        with pytest.raises(JobError, match=r"no FITS tiles below .* like b"):
            footprint_table(str(tmp_path), "b(?P<band>.)", access)
        with pytest.raises(JobError, match=r"--pattern \(\?P<band: missing >"):
            footprint_table(str(tmp_path), "(?P<band", access)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"NAXIS": 1, "NAXIS1": -2880}, "they promise -2880 bytes of data"),  # the next header would be this one
        ({"NAXIS": 2, "NAXIS1": 5}, "NAXIS2"),
        ({"NAXIS": "two"}, "its headers are none"),
        ({"NAXIS": 0}, "no image in the first 2880 bytes"),
    ],
)
def test_headers_elsewhere_that_are_none_are_refused(cards: dict[str, Any], message: str, tmp_path: Path) -> None:
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), *cards.items()])
    store = fsspec.filesystem("memory")
    store.pipe_file("/headers/a.fits", header.tostring().encode())
    try:
        with Access(ArchivesSection(), [host_of("memory://headers")]) as access, pytest.raises(JobError, match=message):
            footprint_table("memory://headers", None, access)
    finally:
        store.rm("/headers", recursive=True)


class Silent(AbstractFileSystem):  # type: ignore[misc]
    """A store that cannot be reached, and whose client repeats the whole address."""

    protocol = "silent"

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://user:secret@store")


def test_a_store_of_tiles_that_gives_no_answer_is_an_error_without_its_secrets() -> None:
    fsspec.register_implementation("silent", Silent, clobber=True)
    with Access(ArchivesSection()) as access, pytest.raises(ArchiveUnreachable) as caught:
        footprint_table("silent://user:secret@store/tiles", None, access)
    assert str(caught.value) == "cannot list silent://store/tiles: EndpointConnectionError"


@pytest.mark.parametrize("name", ["a.fits", "b.fits.fz"])
def test_of_a_tile_elsewhere_the_headers_are_enough(name: str, tmp_path: Path) -> None:
    header = turned_header(RA, DEC, (700, 900), 0.3, 15.0)
    as_tree(Archive({name: drawn_on(SKY, header, (700, 900), FILTER="r")}), tmp_path)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / name), f"/footprints/{name}")
    try:
        with Access(ArchivesSection(), [host_of("memory://footprints")]) as access:
            far = footprint_table("memory://footprints", None, access)
            near = footprint_table(str(tmp_path), None, access)
    finally:
        store.rm("/footprints", recursive=True)
    assert far.equals(near)
    corners = np.array([[far[f"ra{n}"][0].as_py(), far[f"dec{n}"][0].as_py()] for n in (1, 2, 3, 4)])
    assert corners == pytest.approx(corners_of(header, (700, 900)), abs=1e-9)
    assert (far["tile"][0].as_py(), far["band"][0].as_py()) == (name[0], "r")


def test_a_survey_without_its_tree_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"footprint\.parquet lies below the root .* --mirror ROOT"):
        prepare(_job("tiles", tmp_path, "decals"), str(tmp_path / "out"), "run", lambda text: None)
    assert not Storage(str(tmp_path / "out")).list("plan")
