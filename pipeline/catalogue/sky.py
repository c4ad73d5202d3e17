"""Positions on the sphere: HEALPix pixels in NESTED numbering, and which of them a cone touches.

HEALPix: Gorski et al. 2005, ApJ 622, 759. The library `healpix` needs numpy alone: a query needs no astropy.
"""

from __future__ import annotations

from functools import lru_cache

import healpix
import numpy as np
from numpy.typing import NDArray

ORDER = 29  # of the column `_healpix_29`: 0.4 milliarcsec, the finest that fits int64
ROUNDING = 1e-9  # rad, 0.2 milliarcsec: a position on the edge of a pixel may be counted to its neighbour


def healpix29(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) order-29 NESTED pixels of ICRS positions, 0 <= ra <= 360 and -90 <= dec <= 90 degrees.

    Raises ValueError for any other: the library would give a pixel, for NaN too.
    """
    wrong = ~((ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"row {row}: ra {ra[row]}, dec {dec[row]} is no position on the sky")
    pixels: NDArray[np.int64] = healpix.ang2pix(1 << ORDER, ra, dec, nest=True, lonlat=True).astype(np.int64)
    return pixels


def pixel_range(order: int, pixel: int) -> tuple[int, int]:
    """The order-29 pixels [first, stop) inside one pixel of a coarser order."""
    shift = 2 * (ORDER - order)
    return pixel << shift, (pixel + 1) << shift


def cone_ranges(ra: float, dec: float, radius: float) -> NDArray[np.int64]:
    """(R, 2) ranges [first, stop) of order-29 pixels that cover a cone, in ascending order.

    All arguments in degrees. Pixels are refined from the twelve base pixels down until they are smaller than the
    cone, so that there are a few tens of ranges at any radius; they cover more than the cone, never less.
    """
    centre = unit_vectors(np.array([ra]), np.array([dec]))[0]
    wanted = np.radians(radius) + ROUNDING
    pixels = np.arange(12)
    for order in range(ORDER + 1):
        reach = pixel_radius(order)
        middles = np.stack(healpix.pix2vec(1 << order, pixels, nest=True), axis=1)
        pixels = pixels[angles(middles, centre) <= wanted + reach]
        if 2 * reach < wanted or order == ORDER:
            break
        pixels = (4 * pixels[:, None] + np.arange(4)).ravel()
    shift = 2 * (ORDER - order)
    return merged(np.stack([pixels << shift, (pixels + 1) << shift], axis=1))


@lru_cache(maxsize=ORDER + 1)
def pixel_radius(order: int) -> float:
    """Largest angle between the centre of a pixel and its corners, in radians.

    The largest pixels are those that touch the circle z = 2/3 between the polar caps and the equatorial belt
    (Gorski et al. 2005, sec. 5): the angle is that from the centre at z = 2/3, phi = pi / 4N to the corner at
    z = 1 - (1 - 1/N)^2 / 3, phi = 0, with N = 2^order.
    """
    sides = 1 << order
    z, phi = 2 / 3, np.pi / (4 * sides)
    corner = 1 - (1 - 1 / sides) ** 2 / 3
    middle = np.array([np.sqrt(1 - z * z) * np.cos(phi), np.sqrt(1 - z * z) * np.sin(phi), z])
    edge = np.array([np.sqrt(1 - corner * corner), 0.0, corner])
    return float(angles(middle[None], edge)[0])


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) directions of positions in degrees."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    level = np.cos(latitude)
    return np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=1)


def angles(vectors: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) radians between unit vectors (N, 3) and one (3,), exact for small angles and for opposite points.

    Twice the angle between their difference and their sum (Kahan 2006, "How futile are mindless assessments of roundoff
    in floating-point computation?", sec. 12).
    """
    apart, along = vectors - centre, vectors + centre
    chord, sum_ = (np.sqrt(np.einsum("ni,ni->n", each, each)) for each in (apart, along))
    found: NDArray[np.float64] = 2 * np.arctan2(chord, sum_)
    return found


def merged(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending ranges with those that touch joined."""
    starts = np.r_[True, ranges[1:, 0] > ranges[:-1, 1]] if len(ranges) else np.empty(0, bool)
    stops = np.r_[starts[1:], True] if len(ranges) else starts
    return np.stack([ranges[starts, 0], ranges[stops, 1]], axis=1)
