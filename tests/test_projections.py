"""Every way in which surveys write a projection gives the pixels that astropy gives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from pipeline.errors import BadImage
from pipeline.surveys.tan import Tan, is_plain
from pipeline.surveys.wcs import projection

PLACE: dict[str, Any] = {"CRVAL1": 359.9, "CRVAL2": 54.0, "CRPIX1": 120.5, "CRPIX2": 80.0}
TAN: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **PLACE}
STEP = 0.4 / 3600
STEPS: dict[str, Any] = {**TAN, "CDELT1": -STEP, "CDELT2": STEP}
TURN = {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}
MIRROR = {"PC001001": -1.0, "PC001002": 0.0, "PC002001": 0.0, "PC002002": 1.0}
HEADERS: dict[str, tuple[dict[str, Any], bool]] = {  # cards, and whether they are read without astropy
    "four cards": ({**TAN, "CD1_1": -STEP, "CD1_2": 1e-5, "CD2_1": 2e-5, "CD2_2": STEP}, True),
    "two cards": ({**TAN, "CD1_1": -STEP, "CD2_2": STEP}, True),  # HSC
    "sdss": ({**TAN, "CD1_1": 2.7e-9, "CD1_2": STEP, "CD2_1": STEP, "CD2_2": 1.2e-9}, True),
    "steps": (STEPS, True),
    "turned steps": ({**STEPS, **TURN}, True),
    "panstarrs": ({**STEPS, "CDELT1": STEP, **MIRROR}, True),
    "old turn": ({**STEPS, "CROTA2": 30.0}, False),
    "turned pole": ({**STEPS, "LONPOLE": 90.0}, False),
    "usual pole": ({**STEPS, "LONPOLE": 180.0, "LATPOLE": 54.0}, True),
    "no turn of the pole": ({**STEPS, "LONPOLE": 0.0}, False),
    "north pole": ({**STEPS, "CRVAL2": 90.0}, True),
    "north pole, usual turn": ({**STEPS, "CRVAL2": 90.0, "LONPOLE": 180.0}, True),
    "south pole": ({**STEPS, "CRVAL2": -90.0}, True),
    "sine": ({**STEPS, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, False),
    "distorted": (
        {**TAN, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CD1_1": -STEP, "CD2_2": STEP}
        | {"A_ORDER": 2, "A_2_0": 1e-6, "B_ORDER": 2, "B_0_2": -2e-6},
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_means_what_astropy_reads_in_it(name: str) -> None:
    header, plain = HEADERS[name]
    found = projection(header, "x.fits")
    assert isinstance(found, Tan) == is_plain(header) == plain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = WCS(Header(header))
    x, y = np.random.default_rng(4).uniform(0, 200, (2, 60))
    sky = theirs.all_pix2world(x, y, 0)
    ra, dec = found.to_sky(x, y)
    assert np.cos(np.radians(ra - sky[0])) == pytest.approx(1, abs=1e-13)
    assert dec == pytest.approx(sky[1], abs=1e-9)
    assert np.stack(found.to_pixels(ra, dec)) == pytest.approx(np.stack([x, y]), abs=1e-4)
    grid = found.grid_at(float(ra[0]), float(dec[0]))
    assert grid.centre == pytest.approx((x[0], y[0]), abs=1e-4)
    assert 0.39 < grid.pixel_scale < 0.41


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "x.fits: has no WCS"),
        ({**TAN}, "no usable WCS: 'CDELT1'"),
        ({**TAN, "CD1_1": 0.0, "CD2_2": STEP}, "no usable WCS"),
        ({**TAN, "CTYPE1": "FREQ", "CTYPE2": "STOKES", "CDELT1": 1.0, "CDELT2": 1.0}, "not of the sky"),
    ],
)
def test_a_header_without_a_projection_is_a_bad_image(header: dict[str, Any], message: str) -> None:
    with pytest.raises(BadImage, match=message):
        projection(header, "x.fits")


def test_the_far_side_of_the_sky_has_no_pixels() -> None:
    for name in ("four cards", "sine"):
        x, _ = projection(HEADERS[name][0], "x").to_pixels(np.array([179.9]), np.array([-54.0]))
        assert np.isnan(x).all(), name
