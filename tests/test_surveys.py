"""What every survey promises, by each way to its pixels. A new survey joins with one line in SURVEYS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, Source, Way
from pipeline.errors import ArchiveError, BadImage, SourceError
from pipeline.job import survey_kinds
from pipeline.surveys import OpenProduct, Survey, TileImage
from pipeline.surveys.euclid import EuclidConfig
from pipeline.surveys.files import FilesConfig
from pipeline.surveys.first import FirstConfig
from pipeline.surveys.hips import HipsConfig
from pipeline.surveys.legacy import LegacyConfig
from pipeline.surveys.panstarrs import PanstarrsConfig
from pipeline.surveys.sdss import SdssConfig
from pipeline.surveys.tiles import TilesConfig
from pipeline.surveys.wcs import linearised
from tests.skies import PIXEL, ArrayImage, Blob, BrickSky, matrix, path, tan_header
from tests.survey_services import FirstServer, Fitscut, Hips2fits, Viewer
from tests.survey_trees import (
    Archive,
    corners_of,
    drawn_on,
    euclid_mosaics,
    footprint_table,
    sdss_fields,
    sky_of,
    turned_header,
)


@dataclass(frozen=True)
class Case:
    """A survey, an archive of it in memory, and one source that it covers in full."""

    survey: Survey
    archive: OpenProduct
    source: Source
    way: Way = "file"
    pixel: float = PIXEL  # arcsec
    angle: float = 0.0  # deg: of the pixels against north
    width: float = 20.0  # arcsec that hold the light of the source
    moved: float = 0.01  # pixels by which the second band's light may be off


BLOB = Blob(30.0, 31.0, 0.8, 20.0)  # well inside the brick EN
NEAR = Blob(8.0, -9.0, 0.8, 20.0)  # well inside smaller tiles
LOBE = Blob(30.0, 31.0, 6.0, 20.0)  # as wide as radio maps resolve
RA, DEC = 150.0, 2.0
LANCZOS = 0.02  # pixels: Lanczos-3 does not keep the first moment, by 0.0197 at most, 0.2 from a pixel's centre


def _legacy() -> Case:
    sky = BrickSky(ra=150.0, dec=2.0, blobs=(BLOB,))
    source = Source(1, *sky.position(BLOB.east, BLOB.north), "south/EN")
    return Case(LegacyConfig().build(sky.table()), sky, source)


def _legacy_service() -> Case:
    return replace(_legacy(), archive=Viewer(sky_of(RA, DEC, BLOB)), way="cutout")


def _files() -> Case:
    sky = BrickSky(ra=150.0, dec=2.0, blobs=(BLOB,))
    planes = np.stack([sky.images[path("EN", band)].pixels for band in "grz"])
    header = {**tan_header(*sky.centres["EN"], sky.size), "SURVEY": "sky", "IMAGETYP": "image", "BANDS": "grz"}
    image = ArrayImage(planes, header)
    source = Source(1, *sky.position(BLOB.east, BLOB.north), "mine.fits")
    return Case(FilesConfig().build(None), lambda product: image, source)


def _sdss() -> Case:
    sky, shape, angle = sky_of(RA, DEC, NEAR), (420, 400), 93.0
    archive = Archive()
    for number, band in enumerate("gri"):  # each on pixels of its own
        header = turned_header(RA, DEC, shape, 0.396, angle, (7.3 * number, -4.6 * number))
        image = drawn_on(sky, header, shape, lambda light: light * 0.396**2, BUNIT="nanomaggy", FILTER=band)
        archive.files[f"dr17/eboss/photoObj/frames/301/752/3/frame-{band}-000752-3-0045.fits.bz2"] = image
    fields = sdss_fields({"752/3/45": (RA - 0.02, RA + 0.02, DEC - 0.02, DEC + 0.02)})
    source = Source(1, *sky.position(NEAR.east, NEAR.north), "752/3/45")
    return Case(SdssConfig().build(fields), archive, source, pixel=0.396, angle=angle, moved=LANCZOS)


def _sdss_service() -> Case:
    return replace(_sdss(), archive=Viewer(sky_of(RA, DEC, NEAR), pixel=0.396), way="cutout", angle=0.0)


def _panstarrs() -> Case:
    """A skycell as it is published: asinh magnitudes, old PC cards, CDELT1 above zero."""
    sky, shape, seconds, offset, softening = sky_of(RA, DEC, NEAR), (400, 400), 1200.0, 1.5, 400.0

    def luptitudes(light: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arcsinh((light * 0.25**2 * 10 * seconds - offset) / 2 / softening) * 2.5 / np.log(10)

    survey = PanstarrsConfig().build(None)
    source = Source(1, *sky.position(NEAR.east, NEAR.north), str(survey.tiles(np.array([RA]), np.array([DEC]))[0]))
    header = turned_header(RA, DEC, shape, 0.25)
    image = drawn_on(sky, header, shape, luptitudes, BSOFTEN=softening, BOFFSET=offset, EXPTIME=seconds)
    cards = {key: value for key, value in image.header.items() if not key.startswith("CD")}
    cards |= {"CDELT1": 0.25 / 3600, "CDELT2": 0.25 / 3600, "PC001001": -1.0, "PC001002": 0.0}
    image.header = cards | {"PC002001": 0.0, "PC002002": 1.0}
    archive = Archive({product.path: image for product in survey.products(source.tile)})
    return Case(survey, archive, source, pixel=0.25)


def _panstarrs_service() -> Case:
    return replace(_panstarrs(), archive=Fitscut(sky_of(RA, DEC, NEAR)), way="cutout")


def _euclid() -> Case:
    sky, shape, zero_point = sky_of(RA, DEC, NEAR), (720, 720), 24.6
    header = turned_header(RA, DEC, shape, 0.1)
    archive, keys = Archive(), {}

    def counts(light: NDArray[np.float64]) -> NDArray[np.float64]:
        return light * 0.1**2 * 10 ** ((zero_point - 22.5) / 2.5)

    image = drawn_on(sky, header, shape, counts, MAGZERO=zero_point)
    for band, folder in (("VIS", "VIS"), ("Y", "NISP"), ("H", "NISP")):
        key = f"q1/MER/102018211/{folder}/EUC_MER_BGSUB-MOSAIC-{band}_TILE102018211-ABC_20241018T142710.fits"
        archive.files[key] = image
        keys[key] = band, corners_of(header, shape)
    survey = EuclidConfig(bands=("VIS", "Y", "H")).build(euclid_mosaics(keys))
    source = Source(1, *sky.position(NEAR.east, NEAR.north), "102018211")
    return Case(survey, archive, source, pixel=0.1)


def _tiles() -> Case:
    """Two bands in files of their own, turned, on other pixels, and no unit but the zero point of the job."""
    sky, shape, angle = sky_of(RA, DEC, NEAR), (350, 350), -30.0
    archive, rows = Archive(), {}
    for band, shift in (("r", 0.0), ("i", 5.4)):
        header = turned_header(RA, DEC, shape, 0.3, angle, (shift, 2 * shift))
        archive.files[f"{band}.fits"] = drawn_on(sky, header, shape, lambda light: light * 0.3**2 * 10 ** (4.5 / 2.5))
        rows["field1", band] = f"{band}.fits", corners_of(header, shape)
    survey = TilesConfig(bands=("r", "i"), zero_point=27.0).build(footprint_table(rows))
    source = Source(1, *sky.position(NEAR.east, NEAR.north), "field1")
    return Case(survey, archive, source, pixel=0.3, angle=angle, moved=LANCZOS)


def _hips() -> Case:
    survey, sky = HipsConfig().build(None), sky_of(RA, DEC, BLOB)
    return _by_object(Case(survey, Hips2fits(sky), Source(1, *sky.position(BLOB.east, BLOB.north), ""), "cutout"))


def _first() -> Case:
    survey, sky = FirstConfig().build(None), sky_of(RA, DEC, LOBE)
    source = Source(1, *sky.position(LOBE.east, LOBE.north), "")
    return _by_object(Case(survey, FirstServer(sky), source, "cutout", pixel=1.8, width=100.0))


def _by_object(case: Case) -> Case:
    place = np.array([case.source.ra]), np.array([case.source.dec])
    return replace(case, source=replace(case.source, tile=str(case.survey.tiles(*place)[0])))


SURVEYS: dict[str, Callable[[], Case]] = {
    "legacy": _legacy,
    "legacy cutout": _legacy_service,
    "sdss": _sdss,
    "sdss cutout": _sdss_service,
    "first": _first,
    "panstarrs": _panstarrs,
    "panstarrs cutout": _panstarrs_service,
    "euclid": _euclid,
    "hips": _hips,
    "tiles": _tiles,
    "files": _files,
}


@pytest.fixture(params=SURVEYS, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return SURVEYS[request.param]()


def _cut(case: Case, width: float | None = None, archive: OpenProduct | None = None) -> Cutout:
    return case.survey.cut(archive or case.archive, case.source, width or case.width, case.way)


def test_every_kind_of_survey_is_held_to_this() -> None:
    assert {name.split()[0] for name in SURVEYS} == {config.model_fields["kind"].default for config in survey_kinds()}


def test_a_survey_says_by_which_ways_it_can_be_read(case: Case) -> None:
    assert case.way in case.survey.ways
    assert set(case.survey.ways) <= set(get_args(Way))
    asked = case.survey.cutouts(case.source, 20.0, 80)
    assert bool(asked) == ("cutout" in case.survey.ways)
    assert all(product.kind == "cutout" and "://" in product.path for product in asked)


def test_a_cutout_has_every_band_in_one_shape_and_type(case: Case) -> None:
    cutout = _cut(case)
    assert cutout.flux.shape == cutout.bad.shape == (len(case.survey.bands), *cutout.flux.shape[1:])
    assert cutout.flux.dtype == np.float32
    assert cutout.flux.dtype.isnative
    assert cutout.bad.dtype == np.bool_
    assert np.isfinite(cutout.flux).all()


def test_a_cutout_reaches_beyond_its_width_on_every_side(case: Case) -> None:
    for width in (5.0, 15.0, case.width, 40.0):
        cutout = _cut(case, width)
        x, y = cutout.grid.centre
        height, length = cutout.flux.shape[1:]
        reach = width / 2 / cutout.grid.pixel_scale + 3
        assert min(x, length - 1 - x, y, height - 1 - y) >= reach
        assert not cutout.bad.any()


def test_flux_is_nanomaggies_per_square_arcsecond(case: Case) -> None:
    cutout = _cut(case)
    background = 0.01 * cutout.flux[0].size
    total = (cutout.flux.sum(axis=(1, 2), dtype=np.float64) - background) * cutout.grid.pixel_scale**2
    assert total == pytest.approx(BLOB.flux, rel=1e-3)  # all blobs have as much


def test_the_source_stands_where_the_grid_says(case: Case) -> None:
    cutout = _cut(case)
    light = cutout.flux[min(1, len(cutout.flux) - 1)].astype(np.float64) - 0.01
    y, x = np.indices(light.shape)
    centroid = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    assert centroid == pytest.approx(cutout.grid.centre, abs=case.moved)
    assert cutout.grid.pixel_scale == pytest.approx(case.pixel, rel=1e-4)
    assert cutout.grid.matrix == pytest.approx(matrix(case.pixel, case.angle), abs=0.01)


def test_products_have_paths_of_their_own(case: Case) -> None:
    products = case.survey.products(case.source.tile) or case.survey.cutouts(case.source, 20.0, 80)
    assert len({product.path for product in products}) == len(products) > 0
    assert all(product.tile == case.source.tile for product in products)


@pytest.mark.parametrize("error", [ArchiveError("the archive is away"), BadImage("x.fits: broken")])
def test_what_the_archive_says_comes_through(case: Case, error: SourceError) -> None:
    def away(product: Product) -> TileImage:
        raise error

    with pytest.raises(type(error), match=str(error)):
        _cut(case, archive=away)


def test_an_archive_without_the_files_is_an_error_of_the_source(case: Case) -> None:
    def empty(product: Product) -> TileImage:
        raise FileNotFoundError(product.path)

    with pytest.raises(SourceError, match=re.escape(case.source.tile)):
        _cut(case, archive=empty)


def test_zeros_and_nans_are_not_data(case: Case) -> None:
    def holed(product: Product) -> TileImage:
        image = case.archive(product)
        if product.kind == "maskbits":
            return image
        height, length = image.shape[-2:]
        centre = linearised(image.header, (height, length), (case.source.ra, case.source.dec), product.path).centre
        row = round(centre[1])
        pixels = image.section(0, height, 0, length)
        pixels[..., row + 2 : row + 10, :] = 0
        pixels[..., row + 10 : row + 14, :] = np.nan
        return ArrayImage(pixels, image.header)

    cutout = _cut(case, archive=holed)
    assert 6 < np.count_nonzero(cutout.bad.all(axis=(0, 2))) < 16
    assert np.isfinite(cutout.flux).all()
    assert (cutout.flux[cutout.bad] == 0).all()
