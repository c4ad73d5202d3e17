"""Where the mock galaxies and stars stand: some on purpose on edges, corners and gaps, the rest at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.mock.bricks import MARGIN, PIXEL, Brick, MockSky

MIN_RADIUS = 1.5  # arcsec, half-light
_FIELD = 4.25  # half of the image contract's field of view, in half-light radii
_EDGE_RADIUS = 6.5  # arcsec: with 8.5 radii across, a cutout on an edge leaves its brick image by 6 arcsec
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


def galaxy_places(sky: MockSky, bricks: tuple[Brick, ...], rng: np.random.Generator) -> list[Place]:
    """One place a galaxy: the special ones first, then random ones that leave each other room."""
    places = list(_special(sky, bricks))
    while len(places) < sky.galaxies:
        radius = float(np.clip(rng.lognormal(np.log(2.6), 0.55), MIN_RADIUS, sky.max_radius))
        places.append(_roomiest(radius, places, bricks, rng))
    return places


def star_places(
    sky: MockSky, bricks: tuple[Brick, ...], galaxies: list[Place], bright: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """(ra, dec) of each star. The first stands three radii from the largest random galaxy, to mask part of it.

    The other bright ones keep off the galaxies; faint ones may fall in front of their outskirts.
    """
    target = max(galaxies[-sky.galaxies // 2 :], key=lambda place: place.radius)
    places = [(target.ra + 3 * target.radius / 3600, target.dec)]
    west, east, south, north = _bounds(bricks)
    while len(places) < sky.stars:
        clear = 18.0 if len(places) < bright else 3.0  # arcsec
        for _ in range(_TRIES):
            ra, dec = rng.uniform(west, east), rng.uniform(south, north)
            if _clearance(ra, dec, clear, galaxies) > 0:
                break
        places.append((ra, dec))
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


def _roomiest(radius: float, places: list[Place], bricks: tuple[Brick, ...], rng: np.random.Generator) -> Place:
    """The first random place with room on every side, or the one with most room of all that were tried."""
    west, east, south, north = _bounds(bricks)
    gap = empty_corner(bricks)
    inset = max(2.0, _FIELD * radius + 2 - MARGIN * PIXEL) / 3600  # deg
    best, best_room = None, -np.inf
    for _ in range(_TRIES):
        ra, dec = rng.uniform(west + inset, east - inset), rng.uniform(south + inset, north - inset)
        to_gap = max(ra - gap.ra, dec - gap.dec) * 3600 - _FIELD * radius
        room = min(_clearance(ra, dec, radius, places), to_gap)
        if room > best_room:
            best, best_room = Place(ra, dec, radius), room
        if room > 0:
            break
    if best is None:
        raise ValueError(f"no room for a galaxy of {radius:.1f} arcsec on this sky")
    return best


def _clearance(ra: float, dec: float, radius: float, places: list[Place]) -> float:
    """Arcsec between this source and the nearest galaxy beyond twice their radii."""
    table = np.array([(p.ra, p.dec, p.radius) for p in places])
    east = (table[:, 0] - ra) * np.cos(np.radians(dec))
    return float(np.min(np.hypot(east, table[:, 1] - dec) * 3600 - 2 * (table[:, 2] + radius) - 2))


def _bounds(bricks: tuple[Brick, ...]) -> tuple[float, float, float, float]:
    """Edges of the block of cells: lowest and highest RA, then Dec (deg)."""
    return bricks[0].ra1, bricks[-1].ra2, bricks[0].dec1, bricks[-1].dec2
