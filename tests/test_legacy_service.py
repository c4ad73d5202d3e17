"""The Legacy Surveys' cutout service: what is asked of it, its traps, and the seam between the telescopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.data import RowFlag, Source
from pipeline.errors import BadImage, JobError, NoCoverage
from pipeline.job import load_job
from pipeline.surveys.bricks import SEAM_DEC
from pipeline.surveys.legacy import LegacyConfig, LegacySurvey
from tests.skies import PIXEL, BrickSky, brick_sky
from tests.survey_services import Viewer, asked


def _survey(sky: BrickSky, **settings: Any) -> LegacySurvey:
    return LegacySurvey(LegacyConfig(**settings), sky.table())


def _middle(sky: BrickSky) -> Source:
    return Source(1, *sky.position(20.0, 25.0), "south/EN")


def test_the_native_pixel_scale_is_asked_for_whatever_the_width() -> None:
    survey, source = _survey(brick_sky()), _middle(brick_sky())
    for width in (20.0, 200.0):
        (product,) = survey.cutouts(source, width, 300)
        wanted = asked(product)
        assert (wanted["pixscale"], wanted["size"], wanted["bands"]) == ("0.262", "300", "grz")
        assert (product.expected.shape, product.expected.bands) == ((300, 300), "grz")
        assert (float(wanted["ra"]), float(wanted["dec"])) == pytest.approx((source.ra, source.dec), abs=1e-7)


@pytest.mark.parametrize(
    ("settings", "layer"),
    [
        ({}, "ls-dr10-south"),
        ({"bands": ("g", "r", "i", "z")}, "ls-dr10-south"),
        ({"release": "dr9"}, "ls-dr9-south"),
        ({"release": "dr11"}, "ls-dr11-south"),
        ({"release": "dr11", "bands": ("g", "r", "i")}, "ls-dr11-south-griz"),  # the plain layer gives grz instead
    ],
)
def test_the_layer_is_the_region_s_own(settings: dict[str, Any], layer: str) -> None:
    sky = BrickSky(bands=tuple(settings.get("bands", "grz")), size=200)
    (product,) = _survey(sky, **settings).cutouts(Source(1, 0.001, 0.001, "south/EN"), 20.0, 80)
    assert asked(product)["layer"] == layer


def test_dr10_s_north_is_dr9_s() -> None:
    config = LegacyConfig(regions=("south", "north"))
    assert [found.path for found in config.tile_lists] == [
        "dr10/south/survey-bricks-dr10-south.fits.gz",
        "dr9/north/survey-bricks-dr9-north.fits.gz",
    ]
    assert config.sweeps == {"south": "dr10/south/sweep/10.1", "north": "dr9/north/sweep/9.0"}
    with pytest.raises(ValueError, match="the north has no i band"):
        LegacyConfig(regions=("south", "north"), bands=("g", "r", "i", "z"))


def test_the_service_gives_the_brick_s_own_light() -> None:
    sky = brick_sky()
    survey, source = _survey(sky), _middle(sky)
    brick, service = survey.cut(sky, source, 20.0), survey.cut(Viewer(sky), source, 20.0, "cutout")
    assert service.grid.pixel_scale == pytest.approx(PIXEL, rel=1e-9)
    sums = [
        cutout.flux.sum(axis=(1, 2)) * PIXEL**2 - 0.01 * cutout.flux[0].size * PIXEL**2 for cutout in (brick, service)
    ]
    assert sums[0] == pytest.approx(sums[1], rel=0.02)
    assert np.isnan(service.masked_fraction)


@pytest.mark.parametrize(
    ("trap", "message"),
    [
        ({"most": 60}, r"60x60 pixels came, \(\d+, \d+\) were asked for"),
        ({"answers": "griz"}, "the bands griz came, grz were asked for"),
    ],
)
def test_an_answer_that_was_not_asked_for_is_a_bad_image(trap: dict[str, Any], message: str) -> None:
    sky = brick_sky()
    with pytest.raises(BadImage, match=message):
        _survey(sky).cut(Viewer(sky, **trap), _middle(sky), 20.0, "cutout")


def test_more_pixels_than_the_service_gives_are_never_asked_for() -> None:
    sky = brick_sky()
    viewer = Viewer(sky)
    with pytest.raises(BadImage, match="gives 3000 at most"):
        _survey(sky).cut(viewer, _middle(sky), 800.0, "cutout")
    with pytest.raises(NoCoverage):
        _survey(sky).cut(viewer, Source(1, 40.0, 0.0, ""), 20.0, "cutout")
    assert viewer.asked == []


def test_a_job_without_the_service_has_no_such_way() -> None:
    survey = _survey(brick_sky(), cutout_service=None)
    assert survey.ways == ("file", "ranges")
    assert survey.cutouts(_middle(brick_sky()), 20.0, 80) == ()


def test_a_cutout_across_the_seam_is_flagged() -> None:
    for ra, dec, seam in (
        (200.0, SEAM_DEC - 5 / 3600, True),
        (200.0, SEAM_DEC + 5 / 3600, True),
        (200.0, SEAM_DEC - 60 / 3600, False),
        (20.0, SEAM_DEC - 5 / 3600, False),  # south of the galactic plane there is one telescope only
    ):
        sky = BrickSky(ra=ra, dec=dec - 20 / 3600, size=350)
        cutout = _survey(sky).cut(sky, Source(1, ra + 0.008, dec, "south/EN"), 30.0)
        assert bool(cutout.flags & RowFlag.SEAM) == seam, (ra, dec)


def test_a_release_whose_sweeps_nobody_knows_needs_a_table_or_their_folder() -> None:
    with pytest.raises(JobError, match=r"legacy dr11 has no source table of its own: it needs sources\.table"):
        load_job("decals", ["survey.release=dr11"], environment={})
    job = load_job("decals", ["survey.release=dr11", "survey.sweep_folder=sweep/11.0"], environment={})
    assert job.survey.sweeps == {"south": "dr11/south/sweep/11.0"}
