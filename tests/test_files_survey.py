"""FITS cutouts of the user's own: real ones where the shared data is there, and every layout that is promised."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from pipeline.archives.opener import Opener
from pipeline.data import Cutout, ImageContract, PixelGrid, RowFlag, Source, Status
from pipeline.errors import BadImage, JobError
from pipeline.preprocess import contract_image, judge
from pipeline.surveys.files import FilesConfig, FilesSurvey
from pipeline.surveys.wcs import linearised
from tests.skies import PIXEL, Blob, drawn, matrix, tan_header

DATA = Path(os.environ.get("GALAXY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no survey data at {DATA} (GALAXY_SHARED_DATA)")
SURVEY = FilesSurvey(FilesConfig())
CONTRACT = ImageContract()
RA, DEC, SIZE = 150.0, 2.0, 81
SKY = drawn([Blob(0, 0), Blob(4, 6, 0.9, 20)], PixelGrid((40.0, 40.0), matrix(PIXEL)), (SIZE, SIZE))
PLANES = SKY.flux + np.float32(0.01)  # nanomaggies / arcsec2
SERVICE = {"SURVEY": "LegacySurvey", "VERSION": "DR9", "IMAGETYP": "image"}


def _cut(path: Path, width: float | None = None, position: tuple[float, float] = (RA, DEC)) -> Cutout:
    with Opener(None) as opener:
        return SURVEY.cut(opener, Source(1, *position, str(path)), width)


def _cards(**more: Any) -> dict[str, Any]:
    return {**tan_header(RA, DEC, SIZE), **more}


def _cube(path: Path, planes: Any, cards: dict[str, Any], **how: Any) -> Path:
    fitsio.write(str(path), np.asarray(planes, np.float32), header=cards, **how)
    return path


def _per_band(path: Path, unit: str = "nanomaggy") -> Path:
    """Bands in another order than the survey's, an inverse variance beside them."""
    with fitsio.FITS(str(path), "rw") as file:
        for band in (2, 0, 1):
            cards = _cards(FILTER="grz"[band], BUNIT=unit)
            file.write(PLANES[band] * np.float32((band + 1) * PIXEL**2), header=cards)
        file.write(PLANES[0], header=_cards(FILTER="g", IMAGETYP="invvar"))
    return path


def _gzipped(path: Path) -> Path:
    plain = _per_band(path.with_suffix(""))
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def _compressed(path: Path) -> Path:
    planes = PLANES * np.arange(1, 4, dtype=np.float32)[:, None, None] * np.float32(PIXEL**2)
    how = {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 3}
    return _cube(path, planes, _cards(**SERVICE, BANDS="grz"), **how)


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "bands.fits": _per_band, "bands.fits.gz": _gzipped, "cube.fits.fz": _compressed,
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_cutout(name: str, tmp_path: Path) -> None:
    cutout = _cut(LAYOUTS[name](tmp_path / name))
    expected = PLANES * np.arange(1, 4, dtype=np.float32)[:, None, None]
    step = 1e-4 / PIXEL**2 if name.endswith("fz") else 1e-6
    assert np.abs(cutout.flux - expected).max() <= step
    assert not cutout.bad.any()
    assert cutout.grid.centre == pytest.approx((40.0, 40.0), abs=1e-6)


@pytest.mark.parametrize("scale", [0.1, 0.262, 0.5])
def test_a_unit_of_its_own_counts_by_the_pixel_and_the_service_s_by_the_native_pixel(
    scale: float, tmp_path: Path
) -> None:
    cards = {**tan_header(RA, DEC, SIZE, scale), "BANDS": "grz"}
    named = _cube(tmp_path / "named.fits", PLANES * scale**2, cards | {"BUNIT": "nanomaggies"})
    service = _cube(tmp_path / "service.fits", PLANES * PIXEL**2, cards | SERVICE)
    for path in (named, service):
        assert np.allclose(_cut(path).flux, PLANES, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("planes", "cards", "message"),
    [
        (PLANES, _cards(BANDS="grz"), "BUNIT is ''"),
        (PLANES, _cards(BANDS="grz", BUNIT="Jy/beam"), "BUNIT is 'Jy/beam'"),
        (PLANES[0], _cards(FILTER="g", BUNIT="nanomaggy"), "holds bands g; needed: g, r, z"),
        (PLANES[0], _cards(), r"1 plane\(s\) of no named band"),
        (PLANES, _cards(**SERVICE, BANDS="uvw"), "holds bands u, v, w; needed"),
        (PLANES, _cards(**SERVICE, BANDS="ggr"), "a band twice"),
        (PLANES, {**SERVICE, "BANDS": "grz"}, "neither a WCS nor a PIXSCALE"),
        (PLANES, _cards(**SERVICE, BANDS="grz") | {"CRVAL1": 40.0}, "the source is at pixel|does not reach"),
        (PLANES, _cards(**SERVICE, BANDS="grz") | {"CTYPE1": "FREQ", "CTYPE2": "STOKES"}, "not of the sky"),
        (PLANES, _cards(**SERVICE, BANDS="grz") | {"CD1_1": 0.0, "CD2_2": 0.0}, "no usable WCS"),
    ],
)
def test_what_cannot_be_used_is_a_bad_image_by_name(
    planes: Any, cards: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = _cube(tmp_path / "mine.fits", planes, cards)
    with pytest.raises(BadImage, match=message) as error:
        _cut(path)
    assert str(path) in str(error.value)


def test_two_of_three_bands_are_partial(tmp_path: Path) -> None:
    cutout = _cut(_cube(tmp_path / "gr.fits", PLANES[:2], _cards(**SERVICE, BANDS="gr")))
    assert cutout.bad.all(axis=(1, 2)).tolist() == [False, False, True]
    assert judge(cutout, CONTRACT) == (Status.PARTIAL, RowFlag.MISSING_BAND, "no data in z")


def test_without_a_wcs_the_pixel_scale_will_do(tmp_path: Path) -> None:
    cards = {**SERVICE, "BANDS": "grz", "PIXSCALE": 0.5}
    grid = _cut(_cube(tmp_path / "scale.fits", PLANES, cards), None, (12.0, -3.0)).grid
    assert grid.centre == (40.0, 40.0)
    assert grid.matrix.tolist() == [[-2.0, 0.0], [0.0, 2.0]]


def test_a_width_reads_only_its_box(tmp_path: Path) -> None:
    path = _cube(tmp_path / "wide.fits", PLANES, _cards(**SERVICE, BANDS="grz"))
    cutout, whole = _cut(path, 8.0), _cut(path)
    x0, y0 = (round(40.0 - centre) for centre in cutout.grid.centre)
    height, length = cutout.flux.shape[1:]
    assert (height, length) < (SIZE, SIZE)
    assert cutout.flux.tobytes() == whole.flux[:, y0 : y0 + height, x0 : x0 + length].tobytes()


def test_positions_do_not_tell_the_file() -> None:
    with pytest.raises(JobError, match="column of paths"):
        SURVEY.tiles(np.array([1.0]), np.array([1.0]))


def test_a_distorted_wcs_is_followed_to_the_position() -> None:
    """A DECam plane with TPV terms, far from its tangent point, turned by 90 deg."""
    cards = _cards(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", CRPIX1=-11345.2, CRPIX2=5577.3)
    cards |= {
        "CD1_1": 0.0,
        "CD1_2": 7.286e-5,
        "CD2_1": -7.286e-5,
        "CD2_2": 0.0,
        "PV1_1": 1.0,
        "PV1_7": 4e-4,
        "PV2_1": 1.0,
    }
    cards |= {"PV2_7": 7e-5}
    theirs = WCS(fits.Header(cards))
    ra, dec = (float(v) for v in theirs.all_pix2world(100.3, 120.6, 0))
    grid = linearised(cards, (256, 256), (ra, dec), "decam.fits")
    assert grid.centre == pytest.approx((100.3, 120.6), abs=1e-3)
    x, y = grid.centre + grid.matrix @ np.array([20.0, -30.0])
    expected = theirs.all_world2pix(ra + 20 / 3600 / np.cos(np.radians(dec - 30 / 3600)), dec - 30 / 3600, 0)
    assert (x, y) == pytest.approx([float(v) for v in expected], abs=0.05)


@REAL
def test_real_cutouts_get_the_verdict_that_eyes_give_them() -> None:
    verdicts = {}
    for name, position in _real().items():
        try:
            cutout = _cut(DATA / name, None, position)
            verdicts[name] = judge(cutout, CONTRACT)
        except BadImage as error:
            verdicts[name] = (Status.BAD_IMAGE, RowFlag(0), str(error))
    by_status = {status: [name for name, verdict in verdicts.items() if verdict[0] == status] for status in Status}
    assert len(by_status[Status.OK]) == 6
    assert [Path(name).name for name in by_status[Status.PARTIAL]] == ["decals_147.4567+1.0926_example_bad_pix.fits"]
    _, flags, reason = verdicts[by_status[Status.PARTIAL][0]]
    assert flags == RowFlag.PARTIAL_COVERAGE
    assert reason == "covered in part: g 24%, r 27%"
    broken = by_status[Status.BAD_IMAGE]
    assert len(broken) == 8
    for name in broken:
        assert Path(name).name in verdicts[name][2]
        expected = "cut short" if "truncated" in name else "contradict their DATASUM"  # as astropy says of them
        assert expected in verdicts[name][2]


@REAL
def test_one_galaxy_served_at_two_pixel_scales_gives_one_image() -> None:
    """Two releases, two depths, one galaxy: the colours agree only where the unit does not depend on the scale."""
    images = []
    for name in ("example_a", "temp_small"):
        file = f"decals_fits/decals_146.7142-1.0413_{name}.fits"
        cutout = _cut(DATA / file, 36.0, _real()[file])
        images.append(contract_image(cutout, CONTRACT, 36.0).astype(int))
    difference = np.abs(images[0] - images[1])
    assert np.median(difference) <= 5  # the noise of DR3 against DR5
    assert np.abs(images[0].mean(axis=(1, 2)) - images[1].mean(axis=(1, 2))).max() < 2


@REAL
def test_a_real_file_cut_anywhere_is_a_bad_image(tmp_path: Path) -> None:
    source = DATA / "decals_fits/decals_147.1764-0.3540_example_c.fits"
    for size in (0, 1000, 2880, 5760, 700_000, source.stat().st_size - 1):
        path = tmp_path / f"{size}.fits"
        shutil.copyfile(source, path)
        with path.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(BadImage, match=path.name):
            _cut(path, None, (147.176446949, -0.354030416643))


def _real() -> dict[str, tuple[float, float]]:
    with (DATA / "fits_manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("decals_fits/")]
    return {
        row["file"]: (float(row["ra"] or 18.066262308), float(row["dec"] or -6.05180745469))
        for row in rows
        if row["file"].endswith(".fits")
    }
