"""Neighbouring HEALPix pixels against a second library, distances and pairs against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.catalogue.cells import Points, corners, distances, neighbours, pairs
from pipeline.catalogue.sky import ORDER, angles, healpix29, unit_vectors

ARCSEC = np.radians(1 / 3600)


def pixels_of(order: int) -> NDArray[np.int64]:
    """All pixels of an order, or many: along the rims of the base pixels above all."""
    count = 12 << 2 * order
    if count < 20_000:
        return np.arange(count)
    random = np.random.default_rng(order)
    face = random.integers(0, 12, 4000) << 2 * order
    inside = random.integers(0, 1 << 2 * order, 4000)
    x = 0x5555555555555555 & ((1 << 2 * order) - 1)
    rims = [face + part for part in (inside, inside & x, inside & ~x, inside | x, inside | x << 1)]
    vertices = [(np.arange(12) << 2 * order) + part for part in (0, x, x << 1, x | x << 1)]
    return np.concatenate(rims + vertices)


@pytest.mark.parametrize("order", [0, 1, 2, 5, 8, 13, 20])
def test_the_neighbours_are_those_of_cdshealpix(order: int) -> None:
    from cdshealpix.nested import neighbours as reference

    pixels = pixels_of(order)
    expected = reference(pixels.astype(np.uint64), order).astype(np.int64)
    for pixel, ours, theirs in zip(pixels, neighbours(order, pixels), expected, strict=True):
        assert set(ours) == set(theirs) - {-1, pixel}


@pytest.mark.parametrize("order", [0, 3, 13])
def test_the_corners_are_shared_with_the_neighbours(order: int) -> None:
    pixels = pixels_of(order)[:300]
    around = corners(order, neighbours(order, pixels))  # (N, 8, 4, 3)
    found = np.linalg.norm(around[:, :, :, None] - corners(order, pixels)[:, None, None], axis=-1)
    assert (found.min(axis=(1, 2)) < 0.01 * ARCSEC).all()


def test_the_distance_to_a_pixel_is_that_to_the_nearest_point_of_its_rim() -> None:
    random = np.random.default_rng(0)
    order, inner = 13, 8
    pixels = random.integers(0, 12 << 2 * order, 40)
    shift = 2 * (ORDER - order - inner)
    side = np.arange(1 << inner)
    bits = np.arange(inner)
    spread = (((side[:, None] >> bits) & 1) << 2 * bits).sum(axis=1)  # along x from the southern corner
    x = int(spread[-1])
    rim = np.concatenate([spread, spread << 1, spread | x << 1, x | spread << 1])
    cells = ((pixels[:, None] << 2 * inner) | rim) << shift
    import healpix

    points = np.stack(healpix.pix2vec(1 << ORDER, cells, nest=True), axis=-1)  # (N, R, 3)
    middle = corners(order, pixels).mean(axis=1)
    outside = middle + 1.5 * (corners(order, pixels)[:, random.integers(4)] - middle)
    outside /= np.linalg.norm(outside, axis=1, keepdims=True)
    brute = np.linalg.norm(points - outside[:, None], axis=-1).min(axis=1)
    np.testing.assert_allclose(distances(outside, order, pixels), brute, atol=0.2 * ARCSEC)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(0.0, 89.99), (123.0, -89.99), (0.0, 41.81), (359.99, 0.0), (45.0, 0.0), (200.0, -30.0)]),
    st.sampled_from([0.5, 3.0, 10.0, 70.0]),
    st.integers(0, 1000),
)
def test_the_pairs_are_those_of_brute_force(centre: tuple[float, float], radius: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = []
    for count in (150, 200):
        dec = np.clip(centre[1] + random.uniform(-0.03, 0.03, count), -90, 90)
        ra = (centre[0] + random.uniform(-0.03, 0.03, count) / np.cos(np.radians(dec))) % 360
        pixels = healpix29(ra, dec)
        order = np.argsort(pixels)
        points.append(Points.of(pixels[order], ra[order], dec[order]))
    left, right, angle = pairs(points[0], points[1], radius * ARCSEC)
    separations = np.stack([angles(points[1].vectors, each) for each in points[0].vectors])
    assert list(zip(left, right, strict=True)) == list(zip(*np.nonzero(separations <= radius * ARCSEC), strict=True))
    np.testing.assert_allclose(angle, separations[left, right], atol=1e-12)


def test_a_radius_beyond_a_degree_is_refused() -> None:
    none = Points(np.empty(0, np.int64), unit_vectors(np.empty(0), np.empty(0)))
    assert [len(part) for part in pairs(none, none, ARCSEC)] == [0, 0, 0]
    with pytest.raises(ValueError, match="at most a degree"):
        pairs(none, none, 0.1)
