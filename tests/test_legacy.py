"""The Legacy Surveys: strips from neighbours, missing bands, masks, and headers that contradict the table."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from astropy.wcs import WCS

from pipeline.archives.opener import Opener
from pipeline.archives.tables import read_table
from pipeline.data import Cutout, ImageContract, RowFlag, Source, Status
from pipeline.errors import ArchiveError, BadImage, JobError, NoCoverage
from pipeline.preprocess import judge
from pipeline.surveys.legacy import LegacyConfig, LegacySurvey
from pipeline.surveys.tan import Tan
from tests.skies import PIXEL, ArrayImage, BrickSky, brick_sky, path, tan_header

CORNERS = [(0.0, 0.0), (150.0, 2.0), (359.99, -55.0), (10.0, -75.0)]  # deg; the first and third across RA 0


def _survey(sky: BrickSky, **settings: Any) -> LegacySurvey:
    return LegacySurvey(LegacyConfig(**settings), sky.table())


def _cut(sky: BrickSky, east: float, north: float, width: float, **settings: Any) -> tuple[Cutout, str]:
    """The cutout around a place on the sky, and its brick."""
    survey = _survey(sky, **settings)
    ra, dec = sky.position(east, north)
    tile = str(survey.tiles(np.array([ra]), np.array([dec]))[0])
    return survey.cut(sky, Source(1, ra, dec, tile), width), tile.removeprefix("south/")


def _truth(sky: BrickSky, brick: str, cutout: Cutout, east: float, north: float) -> np.ndarray[Any, Any]:
    """The sky on the pixels of the cutout, by the brick's own plane."""
    header = sky.images[path(brick, "g")].header
    x, y = Tan.of(header, brick).to_pixels(*(np.array([v]) for v in sky.position(east, north)))
    rows, columns = np.indices(cutout.flux.shape[1:], dtype=np.float64)
    return sky.brightness(header, columns - cutout.grid.centre[0] + x, rows - cutout.grid.centre[1] + y)


def _own(sky: BrickSky, brick: str, cutout: Cutout) -> tuple[slice, slice]:
    """The part of the cutout that its own brick gave."""
    y0, y1, x0, x1 = sky.images[path(brick, "g")].asked[0]
    top = cutout.flux.shape[1] - (y1 - y0) if y0 == 0 else 0
    left = cutout.flux.shape[2] - (x1 - x0) if x0 == 0 else 0
    return slice(top, top + y1 - y0), slice(left, left + x1 - x0)


@pytest.mark.parametrize("corner", CORNERS)
def test_what_leaves_the_brick_comes_from_its_neighbours(corner: tuple[float, float]) -> None:
    for east, north in ((1.0, 2.0), (-2.0, 15.0), (14.0, -1.0), (-3.0, -4.0)):
        sky = brick_sky(*corner)
        cutout, brick = _cut(sky, east, north, 60.0)
        truth = _truth(sky, brick, cutout, east, north)
        strip = np.ones(truth.shape, np.bool_)
        strip[_own(sky, brick, cutout)] = False
        assert cutout.flags == RowFlag.EDGE
        assert not cutout.bad.any()
        assert truth[strip].max() > 1
        assert np.abs(cutout.flux - truth)[:, strip].max() < 0.01 * truth[strip].max()
        assert np.abs(cutout.flux - truth)[:, ~strip].max() < 1e-4 * truth.max()


def test_the_brick_s_own_pixels_are_untouched() -> None:
    sky = brick_sky()
    cutout, brick = _cut(sky, 2.0, 3.0, 60.0)
    stored = sky.images[path(brick, "r")]
    y0, y1, x0, x1 = stored.asked[0]
    own = stored.pixels[y0:y1, x0:x1] / np.float32(Tan.of(stored.header, brick).pixel_scale ** 2)
    assert own.shape != cutout.flux.shape[1:]
    assert cutout.flux[1][_own(sky, brick, cutout)].tobytes() == own.tobytes()


def test_each_pixel_comes_from_the_brick_that_owns_most_of_the_strip() -> None:
    sky = brick_sky()
    for band in "grz":
        sky.images[path("WS", band)].pixels[:] *= 2
    cutout, brick = _cut(sky, 1.0, -12.0, 60.0)
    assert brick == "ES"
    truth = _truth(sky, brick, cutout, 1.0, -12.0)
    row = round(cutout.grid.centre[1])  # of the source: in the cell of WS, and in the margin of WN as well
    assert cutout.flux[0, row, -10:] == pytest.approx(2 * truth[row, -10:], rel=0.01)


def test_the_margin_of_another_brick_helps_where_the_owner_is_missing() -> None:
    sky = brick_sky()
    table = sky.table()
    survey = LegacySurvey(LegacyConfig(), table.filter(pa.compute.not_equal(table["brickname"], "WN")))
    cutout = survey.cut(sky, Source(1, *sky.position(1.0, 40.0), "south/EN"), 50.0)
    strip = cutout.bad[0, :, -5:]  # from 15 arcsec north of the corner, which WS still shows, to 65
    assert not strip[:10].any()
    assert strip[60:].all()


def test_a_strip_that_no_neighbour_covers_has_no_data() -> None:
    sky = brick_sky()
    outside = (sky.cell * 3600 - 5.0, 25.0)  # the far side of EN, where nothing follows
    cutout, brick = _cut(sky, *outside, 60.0)
    assert brick == "EN"
    assert cutout.flags == RowFlag.EDGE
    assert 0.05 < cutout.bad.mean() < 0.5
    assert (cutout.bad == cutout.bad[0]).all()


def test_a_brick_in_its_middle_opens_no_neighbour() -> None:
    sky = brick_sky()
    middle = sky.cell * 3600 / 2
    cutout, _ = _cut(sky, middle, middle, 40.0)
    assert cutout.flags == RowFlag(0)
    assert not any(image.asked for name, image in sky.images.items() if "EN" not in name)


def test_a_band_that_the_archive_lacks_is_all_bad_and_flagged() -> None:
    sky = brick_sky()
    for brick in sky.centres:
        if brick != "WS":  # the neighbour has it: it must not fill a band that the brick itself lacks
            del sky.images[path(brick, "z")]
    cutout, brick = _cut(sky, 1.0, 2.0, 60.0)
    assert brick == "EN"
    assert cutout.bad.all(axis=(1, 2)).tolist() == [False, False, True]
    status, flags, reason = judge(cutout, ImageContract(), 60.0)
    assert (status, flags) == (Status.PARTIAL, RowFlag.MISSING_BAND | RowFlag.EDGE)
    assert reason == "no data in z"


def test_a_brick_without_any_of_its_images_is_the_archive_s_error() -> None:
    sky = brick_sky()
    for band in "grz":
        del sky.images[path("EN", band)]
    with pytest.raises(ArchiveError, match=r"south/EN: .* promises images"):
        _cut(sky, 5.0, 5.0, 20.0)


def test_a_neighbour_without_images_leaves_its_part_without_data() -> None:
    sky = brick_sky()
    for name in ("WN", "WS"):
        for band in "grz":
            del sky.images[path(name, band)]
    cutout, brick = _cut(sky, 1.0, 30.0, 60.0)
    assert brick == "EN"
    assert cutout.flags == RowFlag.EDGE
    assert cutout.bad[0].any(axis=0).sum() > 10
    assert not cutout.bad[0].all(axis=0)[: cutout.bad.shape[2] // 2].any()  # the east is whole


def test_the_mask_counts_its_bad_bits_and_no_others() -> None:
    for bits, expected in ((0, 0.0), (1 << 0 | 1 << 8 | 1 << 12, 0.0), (1 << 1, 1.0), (1 << 11, 1.0), (1 << 15, 1.0)):
        sky = brick_sky()
        sky.images[path("EN", None)].pixels[:] = bits
        middle = sky.cell * 3600 / 2
        assert _cut(sky, middle, middle, 20.0)[0].masked_fraction == expected
    mask = sky.images[path("EN", None)].pixels
    mask[:] = 0
    mask[: mask.shape[0] // 2] = 2
    half = _cut(sky, middle, middle, 20.0)[0].masked_fraction
    assert half == pytest.approx(0.5, abs=0.02)


def test_a_mask_that_was_not_read_is_not_a_clean_one() -> None:
    sky = brick_sky()
    middle = sky.cell * 3600 / 2
    assert math.isnan(_cut(sky, middle, middle, 20.0, use_maskbits=False)[0].masked_fraction)
    assert not sky.images[path("EN", None)].asked
    del sky.images[path("EN", None)]
    assert math.isnan(_cut(sky, middle, middle, 20.0)[0].masked_fraction)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"CTYPE1": "RA---SIN"}, "expected RA---TAN"),
        ({"CD1_1": -0.4 / 3600, "CD2_2": 0.4 / 3600}, "0.40000 arcsec a pixel, expected 0.262"),
        ({"CRVAL1": 0.5}, "is at pixel"),
        ({"CRPIX2": 900.0}, "is at pixel"),
        ({"CD2_2": 0.0}, "no usable WCS"),
        ({"CRVAL2": "x"}, "no usable WCS"),
    ],
)
def test_a_header_that_cannot_be_right_is_a_bad_image_by_name(cards: dict[str, Any], message: str) -> None:
    sky = brick_sky()
    image = sky.images[path("EN", "r")]
    image.header = {**image.header, **cards}
    with pytest.raises(BadImage, match=message) as error:
        _cut(sky, 5.0, 5.0, 20.0)
    assert "legacysurvey-EN-image-r.fits.fz" in str(error.value)


def test_bands_on_different_grids_are_a_bad_image() -> None:
    sky = brick_sky()
    header = tan_header(*sky.centres["EN"], sky.size - 2)
    sky.images[path("EN", "z")] = ArrayImage(sky.images[path("EN", "z")].pixels[:-2, :-2], header)
    with pytest.raises(BadImage, match=r"image-z.*differ from those of the other bands"):
        _cut(sky, 5.0, 5.0, 20.0)


def test_outside_the_footprint_there_is_no_coverage() -> None:
    survey = _survey(brick_sky())
    assert survey.tiles(np.array([40.0]), np.array([0.0])).tolist() == [""]
    for tile in ("", "south/none", "north/EN", "x"):
        with pytest.raises(NoCoverage):
            survey.cut(brick_sky(), Source(1, 0.0, 0.0, tile), 20.0)


def test_a_band_of_which_most_of_the_brick_is_empty_is_read_all_the_same() -> None:
    """The table's number of exposures is a median: 0 says less than half, not nothing."""
    sky = brick_sky()
    table = sky.table()
    table = table.set_column(table.column_names.index("nexp_z"), "nexp_z", pa.array([0] * len(table)))
    survey = LegacySurvey(LegacyConfig(), table)
    assert [product.band for product in survey.products("south/EN")] == ["g", "r", "z", None]
    assert not survey.cut(sky, Source(1, *sky.position(5.0, 5.0), "south/EN"), 20.0).bad.any()


def test_paths_are_those_of_the_published_tree() -> None:
    products = _survey(brick_sky()).products("south/EN")
    assert products[0].path == "dr10/south/coadd/EN/EN/legacysurvey-EN-image-g.fits.fz"
    config = LegacyConfig(release="dr9", regions=("north", "south"))
    assert [(found.region, found.path) for found in config.tile_lists] == [
        ("north", "dr9/north/survey-bricks-dr9-north.fits.gz"),
        ("south", "dr9/south/survey-bricks-dr9-south.fits.gz"),
    ]


def test_a_table_without_the_columns_is_an_error_that_names_them() -> None:
    table = brick_sky().table()
    with pytest.raises(JobError, match="ra1, nexp_g"):
        LegacySurvey(LegacyConfig(), table.drop_columns(["ra1", "nexp_g"]))
    with pytest.raises(JobError, match="region"):
        LegacySurvey(LegacyConfig(), table.drop_columns(["region"]))


def test_the_projection_is_astropy_s() -> None:
    rng = np.random.default_rng(5)
    for ra, dec in ((0.05, 0.0), (150.0, 33.0), (222.0, -89.9), (10.0, 84.9)):
        header = tan_header(ra, dec, 3600)
        tan, theirs = Tan.of(header, "x"), WCS(header)
        x, y = rng.uniform(-100, 3700, (2, 50))
        sky = theirs.all_pix2world(x, y, 0)
        ours = tan.to_sky(x, y)
        assert np.allclose(np.cos(np.radians(ours[0] - sky[0])), 1, rtol=0, atol=1e-14)
        assert np.allclose(ours[1], sky[1], rtol=0, atol=1e-9)
        assert np.allclose(tan.to_pixels(*ours), (x, y), rtol=0, atol=1e-5)


def test_a_grid_is_the_projection_s_derivative() -> None:
    tan = Tan.of(tan_header(150.0, 60.0, 3600), "x")
    ra, dec = 154.0, 61.0  # so far out that the plane's stretch shows
    grid = tan.grid_at(ra, dec)
    step = 1 / 3600 / np.cos(np.radians(dec))
    x, y = tan.to_pixels(np.array([ra, ra + step, ra]), np.array([dec, dec, dec + 1 / 3600]))
    assert grid.centre == pytest.approx((x[0], y[0]), abs=1e-6)
    assert grid.matrix == pytest.approx(np.array([[x[1] - x[0], x[2] - x[0]], [y[1] - y[0], y[2] - y[0]]]), abs=1e-4)
    assert tan.grid_at(150.0, 60.0).pixel_scale == pytest.approx(PIXEL, rel=1e-12)


def test_strips_of_the_mock_sky_are_within_a_hundredth_of_the_peak(noiseless_tree: Path) -> None:
    """Against the same sky drawn on the primary brick's grid, 150 pixels further out."""
    from pipeline.mock import MockSky
    from pipeline.mock.images import brick_flux
    from pipeline.mock.tree import _scene

    label = json.loads((noiseless_tree / "mock.json").read_text())
    sky = MockSky(**{name: label[name] for name in MockSky.__dataclass_fields__})
    scene, room = _scene(sky, label["seed"]), 150
    brick = scene.bricks[1]
    wide = brick_flux(replace(brick, pixels=brick.pixels + 2 * room), scene.lights, scene.gap, None)
    config = LegacyConfig()
    table = read_table(str(noiseless_tree), config.tile_lists[0].path, config.tile_lists[0].columns)
    survey = LegacySurvey(config, table.append_column("region", pa.array(["south"] * len(table))))
    edges = [g for g in scene.galaxies if brick.owns(np.array([g.ra]), np.array([g.dec]))[0]]
    checked = 0
    with Opener(str(noiseless_tree)) as opener:
        tan = Tan.of(opener(survey.products(f"south/{brick.name}")[0]).header, brick.name)
        for galaxy in edges:
            cutout = survey.cut(opener, Source(1, galaxy.ra, galaxy.dec, f"south/{brick.name}"), 50.0)
            x, y = tan.grid_at(galaxy.ra, galaxy.dec).centre
            x0, y0 = round(x - cutout.grid.centre[0]) + room, round(y - cutout.grid.centre[1]) + room
            height, length = cutout.flux.shape[1:]
            truth = wide[:, y0 : y0 + height, x0 : x0 + length] / PIXEL**2
            off = np.where(cutout.bad, 0, np.abs(cutout.flux - truth))
            assert off.max() < 0.01 * truth.max()
            checked += cutout.flags == RowFlag.EDGE and not cutout.bad[:2].any()  # one neighbour has no z
    assert checked >= 1
