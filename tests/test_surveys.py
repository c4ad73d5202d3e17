"""What every survey promises, by each way to its pixels. A new survey joins with one line in SURVEYS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest

from pipeline.data import Cutout, Product, Source, Way
from pipeline.errors import ArchiveError, BadImage, SourceError
from pipeline.job import survey_kinds
from pipeline.surveys import OpenProduct, Survey, TileImage
from pipeline.surveys.files import FilesConfig
from pipeline.surveys.legacy import LegacyConfig
from pipeline.surveys.wcs import linearised
from tests.skies import PIXEL, ArrayImage, Blob, BrickSky, matrix, path, tan_header
from tests.survey_services import Viewer


@dataclass(frozen=True)
class Case:
    """A survey, an archive of it in memory, and one source that it covers in full."""

    survey: Survey
    archive: OpenProduct
    source: Source
    way: Way = "file"
    pixel: float = PIXEL  # arcsec
    angle: float = 0.0  # deg: of the pixels against north


BLOB = Blob(30.0, 31.0, 0.8, 20.0)  # well inside the brick EN


def _legacy() -> Case:
    sky = BrickSky(ra=150.0, dec=2.0, blobs=(BLOB,))
    source = Source(1, *sky.position(BLOB.east, BLOB.north), "south/EN")
    return Case(LegacyConfig().build(sky.table()), sky, source)


def _legacy_service() -> Case:
    case, sky = _legacy(), BrickSky(ra=150.0, dec=2.0, blobs=(BLOB,))
    return replace(case, archive=Viewer(sky), way="cutout")


def _files() -> Case:
    sky = BrickSky(ra=150.0, dec=2.0, blobs=(BLOB,))
    planes = np.stack([sky.images[path("EN", band)].pixels for band in "grz"])
    header = {**tan_header(*sky.centres["EN"], sky.size), "SURVEY": "sky", "IMAGETYP": "image", "BANDS": "grz"}
    image = ArrayImage(planes, header)
    source = Source(1, *sky.position(BLOB.east, BLOB.north), "mine.fits")
    return Case(FilesConfig().build(None), lambda product: image, source)


SURVEYS: dict[str, Callable[[], Case]] = {"legacy": _legacy, "legacy cutout": _legacy_service, "files": _files}


@pytest.fixture(params=SURVEYS, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return SURVEYS[request.param]()


def _cut(case: Case, width: float | None = 20.0, archive: OpenProduct | None = None) -> Cutout:
    return case.survey.cut(archive or case.archive, case.source, width, case.way)


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
    for width in (5.0, 20.0, 40.0):
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
    assert total == pytest.approx(BLOB.flux, rel=1e-3)


def test_the_source_stands_where_the_grid_says(case: Case) -> None:
    cutout = _cut(case)
    light = cutout.flux[1].astype(np.float64) - 0.01
    y, x = np.indices(light.shape)
    centroid = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    assert centroid == pytest.approx(cutout.grid.centre, abs=0.01)
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

    with pytest.raises(SourceError, match=case.source.tile):
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
