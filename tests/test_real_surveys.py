"""Real files of other surveys than the Legacy Surveys: SDSS frames, HSC and HST cutouts, and what must be refused."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from pipeline.archives.images import FitsImage
from pipeline.archives.opener import Opener
from pipeline.data import Cutout, ImageContract, Source, Status
from pipeline.errors import BadImage, NoCoverage
from pipeline.models.images import IMAGES
from pipeline.preprocess import contract_image, judge
from pipeline.surveys.first import FirstConfig
from pipeline.surveys.sdss import SdssConfig
from pipeline.surveys.tiles import TilesConfig
from pipeline.surveys.wcs import projection
from tests.skies import Array
from tests.survey_trees import footprint_table

DATA = Path(os.environ.get("GALAXY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
FRAMES = "dr17/eboss/photoObj/frames/301/2583/2"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no survey data at {DATA} (GALAXY_SHARED_DATA)")


@pytest.fixture(scope="module")
def sas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of one field in the tree of the SAS."""
    root = tmp_path_factory.mktemp("sas")
    (root / FRAMES).mkdir(parents=True)
    for file in (DATA / "bricks/sdss_frame").glob("*.bz2"):
        (root / FRAMES / file.name.replace("_x0-1500", "")).symlink_to(file)
    return root


@pytest.fixture(scope="module")
def stars(sas: Path) -> Array:
    """(5, 2) ra, dec in degrees, by astropy, of stars that stand alone in the r frame."""
    with warnings.catch_warnings(), fits.open(sas / FRAMES / "frame-r-002583-2-0136.fits.bz2") as file:
        warnings.simplefilter("ignore")
        pixels, wcs = file[0].data, WCS(file[0].header)
    found: list[tuple[float, float]] = []
    for row, column in ((r, c) for r in range(80, 1400, 60) for c in range(80, 1400, 60)):
        box = pixels[row - 30 : row + 30, column - 30 : column + 30]
        y, x = np.unravel_index(box.argmax(), box.shape)
        around = box[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16].copy()
        around[max(0, min(y, 15) - 4) : min(y, 15) + 5, max(0, min(x, 15) - 4) : min(x, 15) + 5] = 0
        if 5 < box.max() < 60 and around.max() < 0.05 * box.max() and 16 < y < 44 and 16 < x < 44:
            found.append((column - 30 + x, row - 30 + y))
    return np.stack(wcs.all_pix2world(np.array(found[:5]), 0))


@pytest.fixture(scope="module")
def frames(sas: Path) -> Iterator[Opener]:
    with Opener(str(sas)) as opener:
        yield opener


def _cut(frames: Opener, ra: float, dec: float) -> Cutout:
    return SdssConfig(fields=None).build(None).cut(frames, Source(1, ra, dec, "2583/2/136"), 24.0)


def test_the_bands_of_a_frame_lie_on_each_other(frames: Opener, stars: Array) -> None:
    """Their pixels do not: by up to 10, in this field."""
    assert len(stars) == 5
    for ra, dec in stars:
        cutout = _cut(frames, float(ra), float(dec))
        for plane in cutout.flux:
            assert _centroid(plane, cutout.grid.centre) == pytest.approx(cutout.grid.centre, abs=0.6)
        g, r, i = (_centroid(plane, cutout.grid.centre) for plane in cutout.flux)
        assert g == pytest.approx(r, abs=0.25)
        assert i == pytest.approx(r, abs=0.25)


def test_north_is_up_and_east_is_left(frames: Opener, stars: Array) -> None:
    contract = ImageContract(bands=("g", "r", "i"), planes=("r",), size=49, scales=(1, 1, 1), softening=0.01)
    ra, dec = (float(value) for value in stars[0])
    for north, east, row, column in ((0, 0, 24, 24), (8, 0, 40, 24), (0, 8, 24, 8)):
        place = ra + east / 3600 / np.cos(np.radians(dec)), dec + north / 3600
        image = contract_image(_cut(frames, *place), contract, 24.5)[0].astype(float)
        y, x = np.unravel_index(image.argmax(), image.shape)
        # Who looks 8 arcsec north of a star sees it below the middle; 8 east of it, to the right: west.
        expected = (row, column if not east else 48 - column)
        assert (y, x) == pytest.approx(expected, abs=1)


def test_a_field_s_corner_that_is_missing_is_said(sas: Path, frames: Opener) -> None:
    with warnings.catch_warnings(), fits.open(sas / FRAMES / "frame-r-002583-2-0136.fits.bz2") as file:
        warnings.simplefilter("ignore")
        ra, dec = (float(value) for value in WCS(file[0].header).all_pix2world(1490, 20, 0))
    status, _, reason = judge(_cut(frames, ra, dec), IMAGES["sdss"].contract, 24.0)
    assert status == Status.PARTIAL
    assert reason.startswith("covered in part: g ")


@pytest.mark.parametrize(
    ("folder", "band", "zero_point", "count"), [("hsc_pdr2", "i", 27.0, 8), ("hst_a2744", "F105W", 26.27, 3)]
)
def test_tiles_of_other_telescopes_are_cut(folder: str, band: str, zero_point: float, count: int) -> None:
    files = sorted((DATA / "other_fits" / folder).glob("*.fits*"))
    rows, places = {}, {}
    for file in files:
        image = FitsImage(file, file.name)
        found, (height, width) = projection(image.header, file.name), image.shape[-2:]
        x, y = np.array([0.0, width, width, 0.0]) - 0.5, np.array([0.0, 0.0, height, height]) - 0.5
        rows[file.name, band] = str(file), np.stack(found.to_sky(x, y), axis=1)
        places[file.name] = found.to_sky(np.array([width / 2]), np.array([height / 2]))
        image.close()
    survey = TilesConfig(bands=(band,), zero_point=zero_point).build(footprint_table(rows))
    contract = ImageContract(bands=(band,), planes=(band,) * 3, scales=(1.0,), min_bands=1, size=64)
    assert len(files) == count
    with Opener(None) as opener:
        for name, (ra, dec) in places.items():
            assert survey.tiles(ra, dec).tolist() == [name]
            cutout = survey.cut(opener, Source(1, float(ra[0]), float(dec[0]), name), 4.0)
            assert judge(cutout, contract, 4.0)[0] == Status.OK, name
            assert contract_image(cutout, contract, 4.0)[:, 24:40, 24:40].max() > 60, name


def test_a_picture_without_a_wcs_is_no_tile() -> None:
    image = FitsImage(DATA / "other_fits/statmorph_slice.fits", "slice.fits")
    with pytest.raises(BadImage, match=r"slice\.fits: has no WCS"):
        projection(image.header, "slice.fits")
    image.close()


def test_display_units_are_no_radio_map() -> None:
    """fits_from_png was made of 8-bit pictures, and says so in BUNIT."""
    survey, file = FirstConfig().build(None), sorted((DATA / "first/fits_from_png").glob("*.fits"))[0]
    image = FitsImage(file, file.name)
    place = float(image.header["CRVAL1"]), float(image.header["CRVAL2"])
    with pytest.raises(BadImage, match="BUNIT is '8-bit display units', expected Jy/beam"):
        survey.cut(lambda product: image, Source(1, *place, "x"), 270.0)
    image.close()
    with pytest.raises(NoCoverage):
        survey.cut(lambda product: image, Source(1, *place, ""), 270.0)


def _centroid(plane: Array, about: tuple[float, float]) -> tuple[float, float]:
    """x, y of the light within 4 pixels."""
    y, x = np.indices(plane.shape)
    light = np.where(np.hypot(x - about[0], y - about[1]) < 4, plane - np.median(plane), 0).clip(min=0)
    return float((light * x).sum() / light.sum()), float((light * y).sum() / light.sum())
