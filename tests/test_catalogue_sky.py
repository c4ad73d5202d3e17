"""HEALPix against a second library, and cones against brute force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.catalogue.layout import partition_name
from pipeline.catalogue.partitions import merged_histogram, partitions
from pipeline.catalogue.sky import angles, cone_ranges, healpix29, pixel_radius, pixel_range, unit_vectors


def sky_positions(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions over the whole sphere, many of them at the poles, at RA 0 and where the polar caps begin."""
    random = np.random.default_rng(seed)
    ra = random.uniform(0, 360, count)
    dec = np.degrees(np.arcsin(random.uniform(-1, 1, count)))
    tenth = count // 10
    near = 10.0 ** random.uniform(-10, 0, tenth)
    dec[:tenth] = np.where(random.random(tenth) < 0.5, 90 - near, near - 90)
    ra[tenth : 2 * tenth] = np.where(random.random(tenth) < 0.5, near, 360 - near)
    dec[2 * tenth : 3 * tenth] = np.degrees(np.arcsin(2 / 3)) + near - 0.5
    return ra, dec


def test_the_pixels_are_those_of_cdshealpix() -> None:
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    ra, dec = sky_positions(200_000)
    expected = lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), 29).astype(np.int64)
    found = healpix29(ra, dec)
    same = found == expected
    assert same.mean() > 0.99999  # the rest is on an edge, to the last bit of a float
    np.testing.assert_array_equal(found >> 2 * 8, expected >> 2 * 8)  # 0.1 arcsec


@pytest.mark.parametrize("limit", [0.0, 360.0])
def test_ra_0_and_360_are_one_meridian(limit: float) -> None:
    assert healpix29(np.array([limit]), np.array([10.0])) == healpix29(np.array([0.0]), np.array([10.0]))


@pytest.mark.parametrize(
    ("ra", "dec"),
    [(np.nan, 0), (0, np.nan), (np.inf, 0), (0, -np.inf), (360.001, 0), (-0.001, 0), (0, 90.001), (0, -91)],
)
def test_what_is_no_position_has_no_pixel(ra: float, dec: float) -> None:
    import healpix

    healpix.ang2pix(1 << 29, ra, dec, nest=True, lonlat=True)  # the trap: the library gives one
    with pytest.raises(ValueError, match=r"row 1: ra .*, dec .* is no position on the sky"):
        healpix29(np.array([1.0, ra]), np.array([1.0, dec]))


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_no_corner_is_farther_from_the_centre_than_the_radius_of_a_pixel(order: int) -> None:
    import healpix
    from cdshealpix.nested import vertices

    pixels = np.arange(12 * 4**order)
    centres = np.stack(healpix.pix2vec(1 << order, pixels, nest=True), axis=1)
    longitudes, latitudes = vertices(pixels, order)
    corners = [unit_vectors(longitudes[:, k].deg, latitudes[:, k].deg) for k in range(4)]
    farthest = max(np.arccos((corner * centres).sum(axis=1)).max() for corner in corners)
    assert pixel_radius(order) == pytest.approx(farthest, rel=1e-9)


def test_angles_are_exact_for_neighbours_and_for_opposite_points() -> None:
    arcsec = 1 / 3600
    points = unit_vectors(np.array([10, 10, 190.0, 10]), np.array([20 + 1e-6 * arcsec, 20, -20, -70]))
    centre = unit_vectors(np.array([10.0]), np.array([20.0]))[0]
    np.testing.assert_allclose(np.degrees(angles(points, centre)), [1e-6 * arcsec, 0, 180, 90], rtol=1e-3, atol=0)


CENTRES = st.one_of(
    st.tuples(st.floats(0, 360), st.floats(-90, 90)),
    st.tuples(st.floats(0, 360), st.sampled_from([-90.0, -89.999, 89.999, 90.0])),
    st.tuples(st.sampled_from([0.0, 1e-4, 359.9999, 360.0]), st.floats(-90, 90)),
)


@settings(max_examples=60, deadline=None)
@given(CENTRES, st.floats(-5, 2.2).map(lambda power: 10**power), st.integers(0, 2**32 - 1))
def test_the_ranges_of_a_cone_hold_every_point_of_it(centre: tuple[float, float], radius: float, seed: int) -> None:
    ra, dec = _points_around(centre, radius, seed)
    pixels, ranges = healpix29(ra, dec), cone_ranges(*centre, radius)
    distances = angles(unit_vectors(ra, dec), unit_vectors(*(np.array([x]) for x in centre))[0])
    inside = np.flatnonzero(distances <= np.radians(radius))
    held = ((pixels[:, None] >= ranges[:, 0]) & (pixels[:, None] < ranges[:, 1])).any(axis=1)
    assert np.asarray(held)[inside].all()
    assert len(ranges) <= 60
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()


def _points_around(
    centre: tuple[float, float], radius: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """300 points within twice the radius, evenly in direction."""
    random = np.random.default_rng(seed)
    middle = unit_vectors(*(np.array([x]) for x in centre))[0]
    across = np.cross(middle, random.normal(size=(300, 3)))
    across /= np.linalg.norm(across, axis=1)[:, None]
    angle = np.radians(np.minimum(180, 2 * radius * random.random(300)))[:, None]
    points = np.cos(angle) * middle + np.sin(angle) * across
    ra = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360
    return ra, np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))


def test_a_small_cone_is_covered_tightly() -> None:
    for radius in (1 / 3600, 0.1, 5.0):
        ranges = cone_ranges(200.0, -35.0, radius)
        area = (ranges[:, 1] - ranges[:, 0]).sum() / (12 * 4**29) * 41253
        assert area < 6 * np.pi * radius**2


HISTOGRAMS = st.dictionaries(st.integers(0, 12 * 4**4 - 1), st.integers(1, 50), min_size=1, max_size=80)


@given(HISTOGRAMS, st.integers(1, 200))
def test_partitions_hold_every_row_once_and_none_is_divided_without_need(
    histogram: dict[int, int], max_rows: int
) -> None:
    found = partitions(histogram, 4, max_rows)
    assert sum(partition.rows for partition in found) == sum(histogram.values())
    ranges = [partition.range for partition in found]
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    for partition in found:
        first, stop = partition.range
        inside = sum(rows for pixel, rows in histogram.items() if first <= pixel_range(4, pixel)[0] < stop)
        assert partition.rows == inside
        assert inside <= max_rows or partition.order == 4
        if partition.order:
            parent = pixel_range(partition.order - 1, partition.pixel // 4)
            together = sum(
                rows for pixel, rows in histogram.items() if parent[0] <= pixel_range(4, pixel)[0] < parent[1]
            )
            assert together > max_rows


def test_histograms_add_up_and_files_are_named_as_hats_names_them() -> None:
    assert merged_histogram([{1: 2, 3: 4}, {3: 1}]) == {1: 2, 3: 5}
    assert partition_name(6, 18774) == "Norder=6/Dir=10000/Npix=18774.parquet"
