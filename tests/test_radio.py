"""Radio maps as MiraBest draws them: noise, clip, circle, and images with nothing in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats

from pipeline.checkpoints import read
from pipeline.data import Cutout, ImageContract, PixelGrid, Status
from pipeline.errors import CheckpointError
from pipeline.models.contract import contract_differences
from pipeline.models.images import IMAGES, RADIO
from pipeline.preprocess import clipped, contract_image, judge, noise, width_to_cut
from tests.skies import Array, matrix

RADIO_IMAGE = IMAGES["first"].contract
SIDE = 310  # pixels of 1.8 arcsec: 540 arcsec and the margin


def _map(source: Array | float = 0.0, sigma: float = 1.4e-4) -> Cutout:
    """A noise map in Jy/beam with a source in it."""
    flux = np.random.default_rng(3).normal(0, sigma, (1, SIDE, SIDE)) + source
    grid = PixelGrid(((SIDE - 1) / 2, (SIDE - 1) / 2), matrix(1.8))
    return Cutout(flux.astype(np.float32), np.zeros((1, SIDE, SIDE), np.bool_), grid)


def _lobes(peak: float = 0.02) -> Array:
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    return peak * sum(np.exp(-((x - at) ** 2 + y**2) / 18) for at in (-12, 12))


def test_the_noise_is_astropy_s_sigma_clipped_one() -> None:
    for source in (0.0, _lobes(), _lobes(5.0)):
        cutout = _map(source)
        _, _, expected = sigma_clipped_stats(cutout.flux.astype(np.float64), sigma=3, maxiters=5)
        assert noise(cutout) == pytest.approx(expected, rel=1e-9)


def test_what_has_no_data_is_no_noise() -> None:
    cutout = _map(_lobes())
    bad = cutout.bad.copy()
    bad[:, :100] = True
    flux = np.where(bad, np.float32(0), cutout.flux)
    assert noise(replace(cutout, flux=flux, bad=bad)) == pytest.approx(noise(cutout), rel=0.02)
    assert noise(replace(cutout, bad=np.ones_like(bad))) == 0.0


def test_an_image_is_mirabest_s() -> None:
    """Its recipe written out: the pixels of FIRST's own grid, north up, above 3 sigma, in the circle, 0 to 255."""
    cutout = _map(_lobes())
    image = contract_image(cutout, RADIO_IMAGE, 270.0)
    middle = (SIDE - 150) // 2
    stamp = cutout.flux[0, middle : middle + 150, middle : middle + 150][::-1].astype(np.float64)  # row 0 is north
    _, _, sigma = sigma_clipped_stats(cutout.flux.astype(np.float64), sigma=3, maxiters=5)
    stamp = np.where(stamp > 3 * sigma, stamp, 0)
    y, x = np.indices((150, 150)) - 74.5
    stamp = np.where(np.hypot(x, y) <= 75, stamp, 0)
    assert image.shape == (1, 150, 150)
    assert np.abs(image[0].astype(float) - 255 * stamp / stamp.max()).max() <= 1
    assert (image.min(), image.max()) == (0, 255)
    assert not image[0, :10, :10].any()


def test_a_map_of_nothing_gives_no_nan_and_no_class() -> None:
    for flux in (np.zeros((1, 150, 150)), np.full((1, 150, 150), 0.3), np.full((1, 150, 150), -0.3)):
        image = clipped(flux.astype(np.float32), 0.0)
        assert image.dtype == np.uint8
        assert not image[:, 0].any()
    flat = replace(_map(), flux=np.full((1, SIDE, SIDE), 1e-5, np.float32))
    assert judge(flat, RADIO_IMAGE, 270.0)[0] == Status.OK  # a sea of flux above a noise of nothing
    below = replace(flat, flux=-flat.flux)
    assert judge(below, RADIO_IMAGE, 270.0)[::2] == (Status.BAD_IMAGE, "nothing is above 3 sigma of the noise")
    missing = replace(flat, bad=np.ones_like(flat.bad))
    assert judge(missing, RADIO_IMAGE, 270.0)[0] == Status.NO_COVERAGE


def test_a_bright_source_outside_the_circle_is_none() -> None:
    flux = np.zeros((1, SIDE, SIDE), np.float32)
    flux[0, 5:8, 5:8] = 1.0
    assert judge(replace(_map(), flux=flux), RADIO_IMAGE, 270.0)[0] == Status.BAD_IMAGE
    flux[0, 150, 150] = 1.0
    assert judge(replace(_map(), flux=flux), RADIO_IMAGE, 270.0)[0] == Status.OK


def test_the_sky_that_is_cut_reaches_to_where_the_noise_is_measured() -> None:
    assert width_to_cut(RADIO_IMAGE, 270.0) == 540.0
    assert width_to_cut(RADIO_IMAGE, None) is None
    assert width_to_cut(ImageContract(), 60.0) == 60.0


def test_a_mapping_of_one_band_takes_one_band() -> None:
    with pytest.raises(ValueError, match="`clipped` is for one band"):
        replace(ImageContract(), mapping="clipped")
    with pytest.raises(ValueError, match="surroundings"):
        replace(ImageContract(), surroundings=0.5)


def test_a_network_is_fitted_to_the_images_that_it_is_for() -> None:
    made = read("untrained:agcnn:0:first")
    assert (made.config.bands, made.config.classes, made.config.size) == (1, 2, 150)
    assert (made.classes, made.image) == (RADIO, RADIO_IMAGE)
    assert read("untrained:agcnn:0").image == ImageContract()
    with pytest.raises(CheckpointError, match="unknown images 'moon', expected one of decals, sdss"):
        read("untrained:agcnn:0:moon")


def test_a_radio_network_is_no_network_of_colours() -> None:
    errors, _ = contract_differences(ImageContract(), RADIO_IMAGE)
    assert any(error.startswith("mapping: expected arcsinh, got clipped") for error in errors)
