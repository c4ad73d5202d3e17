"""Neighbouring HEALPix pixels (NESTED), how far a position is from one, and which positions are close together."""

from __future__ import annotations

from dataclasses import dataclass

import healpix
import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue.sky import ORDER, merged, pixel_radius, unit_vectors

Pixels = NDArray[np.int64]
_X = 0x5555555555555555  # the bits of a NESTED index that count along x (to the north-east); y has the others
_NEAR = 0.05  # of an edge: the radius of the ring around a corner where neighbours are looked up
_RING = 16  # points of it
_FINEST = 20  # order, 0.2 arcsec: of the pixels that `pairs` looks around


@dataclass(frozen=True, eq=False)
class Points:
    """Positions in ascending order of their order-29 pixels."""

    pixels: Pixels  # (N,)
    vectors: NDArray[np.float64]  # (N, 3) unit vectors

    @classmethod
    def of(cls, pixels: Pixels, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Points:
        """Positions in degrees, sorted already."""
        return cls(pixels, unit_vectors(ra, dec))


def neighbours(order: int, pixels: Pixels) -> Pixels:
    """(N, 8) the pixels around each of (N,); where fewer are around one, some are there twice."""
    sides = (1 << order) - 1
    face, inside = pixels >> 2 * order, pixels & ((1 << 2 * order) - 1)
    x, y = inside & _X, inside & ~_X
    far_x, far_y = _spread(sides), _spread(sides) << 1
    xs = (x, ((x | ~_X) + 1) & _X, (x - 1) & _X)
    ys = (y, ((y | _X) + 1) & ~_X, (y - 1) & ~_X)
    steps = [(xs[i], ys[j]) for i in range(3) for j in range(3) if i or j]
    found = np.stack([(face << 2 * order) | step_x | step_y for step_x, step_y in steps], axis=-1)
    rim = (x == 0) | (y == 0) | (x == far_x) | (y == far_y)
    if rim.any():
        found[rim] = _looked_up(order, pixels[rim])
    return found


def corners(order: int, pixels: Pixels) -> NDArray[np.float64]:
    """(..., 4, 3) unit vectors of the corners of (...,) pixels: south, east, north, west; to 0.4 milliarcsec."""
    shift = 2 * (ORDER - order)
    x = _X & ((1 << shift) - 1)
    inner = np.array([0, x, x | x << 1, x << 1], np.int64)
    return _directions(ORDER, (pixels[..., None] << shift) | inner)


def distances(vectors: NDArray[np.float64], order: int, pixels: Pixels) -> NDArray[np.float64]:
    """(N,) radians from (N, 3) unit vectors outside small pixels (N,) to their rims, taken for straight lines.

    Pixels of order 13 and higher: over 26 arcsec the rim leaves a straight line by less than a milliarcsec.
    """
    offsets = corners(order, pixels) - vectors[:, None]  # (N, 4, 3): small angles are chords
    ends = np.roll(offsets, -1, axis=1)
    edges = ends - offsets
    along = -np.einsum("nki,nki->nk", offsets, edges) / np.einsum("nki,nki->nk", edges, edges)
    nearest = offsets + np.clip(along, 0, 1)[..., None] * edges
    shortest: NDArray[np.float64] = np.linalg.norm(nearest, axis=2).min(axis=1)
    return shortest


def pairs(first: Points, second: Points, radius: float) -> tuple[Pixels, Pixels, NDArray[np.float64]]:
    """Every (i, j) with `first[i]` within `radius` radians of `second[j]`, by i: both indices, and the angle.

    `radius` is at most a degree. Raises ValueError beyond.
    """
    if not 0 <= radius <= np.radians(1):
        raise ValueError(f"expected a radius of at most a degree, got {np.degrees(radius)}")
    order = _order_wider_than(radius)
    shift = 2 * (ORDER - order)
    parents = first.pixels >> shift
    around = np.sort(np.column_stack([parents, neighbours(order, parents)]), axis=1)
    wanted = np.column_stack([np.ones(len(parents), bool), around[:, 1:] != around[:, :-1]])
    starts = np.searchsorted(second.pixels, around << shift)
    counts = np.where(wanted, np.searchsorted(second.pixels, (around + 1) << shift) - starts, 0).ravel()
    left = np.repeat(np.arange(len(parents)), counts.reshape(-1, 9).sum(axis=1))
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    right = np.repeat(starts.ravel(), counts) + within
    chords = np.linalg.norm(first.vectors[left] - second.vectors[right], axis=1)
    angles = 2 * np.arcsin(np.minimum(chords / 2, 1))
    close = angles <= radius
    return left[close], right[close], angles[close]


def covering(pixels: Pixels, radius: float) -> NDArray[np.int64]:
    """(R, 2) ranges of order-29 pixels that hold everything within `radius` radians of positions, by their pixels."""
    order = _order_wider_than(radius)
    shift = 2 * (ORDER - order)
    cells = np.unique(pixels >> shift)
    around = np.unique(np.concatenate([cells, neighbours(order, cells).ravel()]))
    return merged(np.stack([around << shift, (around + 1) << shift], axis=1))


def _order_wider_than(radius: float) -> int:
    """The finest order whose pixels, with those around them, hold every point within `radius` of any of theirs.

    No pixel is narrower than 0.64 of the largest radius of its order; it is at the edge of the polar caps.
    """
    order = _FINEST
    while pixel_radius(order) / 2 < radius:
        order -= 1
    return order


def _spread(number: int) -> int:
    """The bits of a number with a gap after each."""
    return sum(((number >> bit) & 1) << 2 * bit for bit in range(ORDER))


def _looked_up(order: int, pixels: Pixels) -> Pixels:
    """(N, 8) neighbours of pixels at the rim of a base pixel: what lies in a small ring around each corner.

    Beyond such a rim the pixels are turned, so that no arithmetic of x and y finds them.
    """
    rim = corners(order, pixels)  # (N, 4, 3)
    along = _NEAR * (np.roll(rim, -1, axis=1) - rim)
    across = np.cross(rim, along)
    turns = np.exp(2j * np.pi * (np.arange(_RING) + 0.5) / _RING)
    ring = rim[:, :, None] + turns.real[:, None] * along[:, :, None] + turns.imag[:, None] * across[:, :, None]
    found = healpix.vec2pix(1 << order, *np.moveaxis(ring, -1, 0), nest=True).astype(np.int64)
    found = np.sort(found.reshape(len(pixels), -1), axis=1)
    new = (found != pixels[:, None]) & np.column_stack([np.ones(len(pixels), bool), found[:, 1:] != found[:, :-1]])
    order_of = np.argsort(~new, axis=1, kind="stable")[:, :8]
    taken = np.take_along_axis(found, order_of, axis=1)
    return np.where(np.take_along_axis(new, order_of, axis=1), taken, taken[:, :1])


def _directions(order: int, pixels: Pixels) -> NDArray[np.float64]:
    vectors: NDArray[np.float64] = np.stack(healpix.pix2vec(1 << order, pixels, nest=True), axis=-1)
    return vectors
