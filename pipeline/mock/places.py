"""Where the mock galaxies and stars stand: some on purpose on edges, corners and gaps, the rest at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.mock.bricks import MARGIN, PIXEL, Brick, MockSky

MIN_RADIUS = 1.5  # arcsec, half-light
_FIELD = 4.25  # half of the image contract's field of view, in half-light radii
_EDGE_RADIUS = 6.5  # arcsec: with 8.5 radii across, a cutout on an edge leaves its brick image by 6 arcsec
_BRIGHT_RADIUS = 7.0  # arcsec: half of the BRIGHT mask of a star of 12th magnitude
_TRIES = 400


@dataclass(frozen=True, slots=True)
class Place:
    """A position with the size of the galaxy that fits there."""

    ra: float  # deg
    dec: float  # deg
    radius: float  # arcsec


@dataclass(frozen=True, slots=True)
class Gap:
    """The empty corner: no band has data where ra < `ra` and dec < `dec` (deg)."""

    ra: float
    dec: float


def empty_corner(bricks: tuple[Brick, ...]) -> Gap:
    """A sixteenth of the first brick's cell, at its south-western corner: the edge of the survey."""
    brick = bricks[0]
    return Gap(brick.ra1 + (brick.ra2 - brick.ra1) / 4, brick.dec1 + (brick.dec2 - brick.dec1) / 4)


def galaxy_places(
    sky: MockSky, bricks: tuple[Brick, ...], smallest: Sequence[float], rng: np.random.Generator
) -> list[Place]:
    """One place a galaxy: the special ones first, then random ones that leave each other room.

    `smallest` are the least half-light radii, arcsec, of the galaxies that take the places in turn.
    """
    places = list(_special(sky, bricks))
    for least in smallest[len(places) :]:
        radius = float(np.clip(rng.lognormal(np.log(2.6), 0.55), least, sky.max_radius))
        ra, dec = _roomiest(radius, places, bricks, rng)
        places.append(Place(ra, dec, radius))
    return places


def star_places(
    sky: MockSky, bricks: tuple[Brick, ...], galaxies: list[Place], bright: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """(ra, dec) of each star. The first stands three radii from the largest random galaxy, to mask part of it.

    Bright ones keep off the galaxies and each other; faint ones may fall in front of the galaxies' outskirts.
    """
    target = max(galaxies[-sky.galaxies // 2 :], key=lambda place: place.radius)
    places = [(target.ra + 3 * target.radius / 3600, target.dec)]
    west, east, south, north = _bounds(bricks)
    while len(places) < sky.stars:
        ra, dec = rng.uniform(west, east, _TRIES), rng.uniform(south, north, _TRIES)
        clear = _BRIGHT_RADIUS if len(places) < bright else 1.0
        taken = galaxies + [Place(*place, _BRIGHT_RADIUS) for place in places[:bright]]
        best = _first_with_room(_clearance(ra, dec, clear, taken))
        places.append((float(ra[best]), float(dec[best])))
    return places[: sky.stars]


def _special(sky: MockSky, bricks: tuple[Brick, ...]) -> Iterator[Place]:
    """Edges and corners that bricks share, the empty corner and its border, the brick without z."""
    for n, brick in enumerate(bricks):
        last_column, last_row = (n + 1) % sky.columns == 0, n + sky.columns >= len(bricks)
        if not last_column:
            yield Place(brick.ra2 - 0.4 / 3600, brick.dec, _EDGE_RADIUS)
        if not last_row:
            yield Place(brick.ra, brick.dec2 - 0.7 / 3600, _EDGE_RADIUS)
        if not last_column and not last_row:
            yield Place(brick.ra2 + 0.3 / 3600, brick.dec2 + 0.5 / 3600, _EDGE_RADIUS + 0.5)
    gap, first, last = empty_corner(bricks), bricks[0], bricks[-1]
    yield Place((first.ra1 + gap.ra) / 2, (first.dec1 + gap.dec) / 2, MIN_RADIUS)
    yield Place(gap.ra + 2.0 / 3600, (first.dec1 + gap.dec) / 2, 2.5)
    yield Place(last.ra, last.dec, 3.0)


def _roomiest(
    radius: float, places: list[Place], bricks: tuple[Brick, ...], rng: np.random.Generator
) -> tuple[float, float]:
    """A random (ra, dec) with room on every side and whole fields of view, away from the empty corner."""
    west, east, south, north = _bounds(bricks)
    gap = empty_corner(bricks)
    inset = max(2.0, _FIELD * radius + 2 - MARGIN * PIXEL) / 3600  # deg
    ra = rng.uniform(west + inset, east - inset, _TRIES)
    dec = rng.uniform(south + inset, north - inset, _TRIES)
    to_gap = np.maximum(ra - gap.ra, dec - gap.dec) * 3600 - _FIELD * radius
    best = _first_with_room(np.minimum(_clearance(ra, dec, radius, places), to_gap))
    return float(ra[best]), float(dec[best])


def _first_with_room(room: NDArray[np.float64]) -> int:
    """Index of the first positive entry, or of the largest where the sky is too full for one."""
    return int(np.argmax(room > 0) if (room > 0).any() else np.argmax(room))


def _clearance(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float, places: list[Place]
) -> NDArray[np.float64]:
    """(T,) arcsec from each position to the nearest galaxy, beyond twice the radii of both."""
    ras, decs, radii = np.array([(p.ra, p.dec, p.radius) for p in places]).T
    east = (ras - ra[:, None]) * np.cos(np.radians(decs))
    apart = np.hypot(east, decs - dec[:, None]) * 3600  # (T, places)
    return np.min(apart - 2 * (radii + radius) - 2, axis=1)


def _bounds(bricks: tuple[Brick, ...]) -> tuple[float, float, float, float]:
    """Edges of the block of cells: lowest and highest RA, then Dec (deg)."""
    return bricks[0].ra1, bricks[-1].ra2, bricks[0].dec1, bricks[-1].dec2
