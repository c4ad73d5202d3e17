"""What training changes about an image, and what it must not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from pipeline.training.augment import augmented, framed
from pipeline.training.recipe import Augmentation

NOTHING = Augmentation(
    turn=False,
    mirror=False,
    scale=0.0,
    shift=0.0,
    gain=0.0,
    brightness=0.0,
    grey=0.0,
    blur=0.0,
    pedestal=0.0,
    noise=0.0,
)


def _blobs(count: int = 64, side: int = 48) -> Tensor:
    """An off-centre Gaussian, brighter in red than in blue: (N, 3, side, side) uint8."""
    y, x = np.indices((side, side)) / (side - 1) - 0.5
    light = np.exp(-((x - 0.15) ** 2 + (y - 0.05) ** 2) / (2 * 0.06**2))
    planes = np.stack([light * 200, light * 120, light * 60]) + 10
    return torch.from_numpy(planes.astype(np.uint8)).expand(count, -1, -1, -1).contiguous()


def _changed(**changes: object) -> Tensor:
    how = Augmentation(**{**NOTHING.__dict__, **changes})
    return augmented(_blobs(), torch.ones(64), 48, how, Generator().manual_seed(3))


def _centroids(planes: Tensor) -> Tensor:
    """(N, 2) x and y from the middle, in sides, of the light above the sky."""
    light = (planes.sum(1) - planes.sum(1).amin((1, 2), keepdim=True)).double()
    side = torch.linspace(-0.5, 0.5, planes.shape[-1], dtype=torch.float64)
    total = light.sum((1, 2))
    return torch.stack([(light * side).sum((1, 2)) / total, (light * side[:, None]).sum((1, 2)) / total], 1)


def _colours(planes: Tensor) -> Tensor:
    return planes.amax((2, 3))


def test_a_frame_of_the_whole_image_at_its_size_is_the_image() -> None:
    images = _blobs(4)
    torch.testing.assert_close(framed(images, torch.ones(4), 48, "reflection"), images.float() / 255)
    torch.testing.assert_close(
        augmented(images, torch.ones(4), 48, NOTHING, Generator()), images.float() / 255, rtol=0, atol=1e-6
    )


def test_half_the_frame_shows_the_middle_at_twice_the_scale() -> None:
    images = _blobs(2)
    got = framed(images, torch.tensor([1.0, 0.5]), 24, "zeros")
    assert _centroids(got)[1] == pytest.approx(2 * _centroids(got)[0], abs=0.02)


def test_beyond_the_edge_the_image_is_mirrored_or_black() -> None:
    images = _blobs(1)
    wide = torch.tensor([2.0])
    assert float(framed(images, wide, 48, "zeros")[0, :, 0, 0].max()) == 0
    assert float(framed(images, wide, 48, "reflection")[0, :, 0, 0].min()) > 0


def test_a_turn_is_a_turn_about_the_middle_by_every_angle() -> None:
    places = _centroids(_changed(turn=True))
    start = _centroids(_blobs(1).float())[0]
    torch.testing.assert_close(places.norm(dim=1), start.norm().expand(64), rtol=0.03, atol=0)
    angles = torch.atan2(places[:, 1], places[:, 0])
    for quarter in range(4):
        low = -math.pi + quarter * math.pi / 2
        assert ((angles > low) & (angles < low + math.pi / 2)).sum() > 5


def test_half_of_the_images_are_mirrored() -> None:
    places = _centroids(_changed(mirror=True))
    start = _centroids(_blobs(1).float())[0]
    flipped = (places - start * torch.tensor([1.0, -1.0])).norm(dim=1) < 1e-3
    kept = (places - start).norm(dim=1) < 1e-3
    assert bool((flipped ^ kept).all())
    assert 16 < int(flipped.sum()) < 48


def test_the_scale_spreads_evenly_about_the_frame_rule() -> None:
    factors = _centroids(_changed(scale=0.25)).norm(dim=1) / _centroids(_blobs(1).float())[0].norm()
    assert float(factors.min()) > 1 / 1.27
    assert float(factors.max()) < 1.27
    assert float(factors.log().mean()) == pytest.approx(0, abs=0.06)
    assert float(factors.std()) > 0.08


def test_colour_augmentation_moves_no_galaxy() -> None:
    got = _changed(gain=0.3, brightness=0.2)
    torch.testing.assert_close(_centroids(got), _centroids(_blobs(64).float()), rtol=0, atol=0.02)
    ratios = _colours(got)[:, 0] / _colours(got)[:, 2]
    assert float(ratios.std()) > 0.3


def test_grey_takes_the_colours_from_some_images() -> None:
    got = _changed(grey=0.5)
    grey = (got[:, 0] == got[:, 2]).all(2).all(1)
    assert 16 < int(grey.sum()) < 48
    torch.testing.assert_close(got[~grey], _blobs(64).float()[~grey] / 255)


def test_blur_keeps_the_light_and_lowers_the_peak() -> None:
    got, plain = _changed(blur=1.0, blur_sigma=4.0), _blobs(64).float() / 255
    assert float(got.amax()) < float(plain.amax()) * 0.98
    torch.testing.assert_close(got.mean((1, 2, 3)), plain.mean((1, 2, 3)), rtol=0.02, atol=0)


def test_the_pedestal_lifts_the_sky_and_leaves_the_order_of_brightness() -> None:
    plain = _blobs(64).float() / 255
    got = _changed(pedestal=0.18)
    sky = got[:, :, 0, 0]  # a corner
    assert float(sky.min()) < 0.08 < 0.17 < float(sky.max()) < 0.26
    assert float((sky / sky.mean(1, keepdim=True)).std()) < 0.15  # nearly white
    assert float(got.amax()) <= 1
    assert bool((got >= plain - 1e-6).all())  # what is bright is not darkened
    peak, dim = got[:, 0].amax((1, 2)), got[:, 0, 0, 0]
    assert bool((peak > dim + 0.5).all())
    high = plain[:, 0].amax((1, 2))
    torch.testing.assert_close((1 - peak) / (1 - high), (1 - dim) / (1 - plain[:, 0, 0, 0]))  # the range shrinks alike


def test_noise_is_correlated_as_resampling_leaves_it() -> None:
    left = _changed(noise=0.12) - _blobs(64).float() / 255
    lit = left[:, :, 12:36, 20:40]
    beside = (lit[..., 1:] * lit[..., :-1]).mean() / lit.square().mean()
    assert 0.1 < float(beside) < 0.9


def test_noise_has_no_sign_and_its_own_strength_in_each_image() -> None:
    plain = _blobs(64).float() / 255
    lit = plain[0] > 0.25  # far from the black at which values are cut
    left = (_changed(noise=0.05) - plain)[:, lit]
    assert float(left.mean()) == pytest.approx(0, abs=1e-3)
    spread = left.std(1)
    assert float(spread.min()) < 0.01 < 0.035 < float(spread.max()) < 0.06


def test_the_same_generator_gives_the_same_images() -> None:
    first, again = (
        augmented(_blobs(8), torch.ones(8), 32, Augmentation(), Generator().manual_seed(1)) for _ in range(2)
    )
    other = augmented(_blobs(8), torch.ones(8), 32, Augmentation(), Generator().manual_seed(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1


def test_one_channel_has_no_colour_to_lose() -> None:
    images = _blobs(4)[:, :1]
    assert augmented(images, torch.ones(4), 20, Augmentation(grey=1.0), Generator()).shape == (4, 1, 20, 20)
