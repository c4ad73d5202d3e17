"""What shines on the mock sky: galaxies of six classes and foreground stars, before any image is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.mock.bricks import MockSky
from pipeline.mock.places import Place

CLASSES = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")
BANDS = ("g", "r", "z")
ZEROPOINT = 22.5  # AB magnitude of one nanomaggy (archives.md 1.2)

# Minor over major axis. Round, in-between and cigar are cut at 0.8 and 0.52 where smooth galaxies of Galaxy
# Zoo are split by axis ratio (shared data, README, gz_sdss); the gaps keep the classes apart.
_AXIS_RATIOS = {
    "round": (0.85, 1.0),
    "in_between": (0.56, 0.76),
    "cigar": (0.28, 0.45),
    "edge_on": (0.10, 0.18),
    "spiral": (0.6, 1.0),
    "merger": (0.6, 1.0),
}
# Mean surface brightness within the half-light ellipse, r mag / arcsec2: chosen, so that half-light radii of
# 1.5 to 10 arcsec come with the magnitudes of `_R_MAG`.
_BRIGHTNESS = {
    "round": 20.3, "in_between": 20.4, "cigar": 20.3, "edge_on": 20.2, "spiral": 21.2, "merger": 21.0,
}  # fmt: skip
# Arcsec, half-light: below these the seeing hides what makes the class. Chosen.
SMALLEST = {"round": 1.5, "in_between": 1.5, "cigar": 1.8, "edge_on": 2.0, "spiral": 3.0, "merger": 3.0}
_R_MAG = (15.5, 18.9)  # r < 19 is the limit of Galaxy Zoo DESI (archives.md 1.4)


@dataclass(frozen=True, slots=True)
class Galaxy:
    """One galaxy, or one merging pair, as a catalogue would list it."""

    kind: str  # one of CLASSES
    ra: float  # deg
    dec: float  # deg
    radius: float  # arcsec, half-light, along the major axis
    axis_ratio: float
    angle: float  # deg, position angle of the major axis, east of north
    r_mag: float
    seed: int  # of its own details: arms, tails, companion


@dataclass(frozen=True, slots=True)
class Star:
    """One foreground star."""

    ra: float  # deg
    dec: float  # deg
    mags: tuple[float, float, float]  # AB, in the order of BANDS


def deal(count: int, rng: np.random.Generator) -> list[str]:
    """Classes in turn, six by six in a random order, so that each has its share of every kind of place."""
    hands = (rng.permutation(len(CLASSES)) for _ in range(-(-count // len(CLASSES))))
    return [CLASSES[k] for hand in hands for k in hand][:count]


def galaxies(kinds: Sequence[str], places: Sequence[Place], rng: np.random.Generator) -> tuple[Galaxy, ...]:
    """One galaxy a place, each of its class."""
    return tuple(_galaxy(kind, place, rng) for kind, place in zip(kinds, places, strict=True))


def stars(places: list[tuple[float, float]], bright: int, rng: np.random.Generator) -> tuple[Star, ...]:
    """One star a place; the first `bright` are bright enough for the survey's star masks."""
    return tuple(_star(ra, dec, n < bright, rng) for n, (ra, dec) in enumerate(places))


def bright_stars(sky: MockSky) -> int:
    """How many stars are brighter than 13th magnitude: one in two bricks."""
    return min(sky.columns * sky.rows // 2, sky.stars)


def _galaxy(kind: str, place: Place, rng: np.random.Generator) -> Galaxy:
    axis_ratio = rng.uniform(*_AXIS_RATIOS[kind])
    brightness = rng.normal(_BRIGHTNESS[kind], 0.35)
    mag = brightness - 2.5 * np.log10(2 * np.pi * place.radius**2 * max(axis_ratio, 0.3))
    return Galaxy(
        kind=kind,
        ra=place.ra,
        dec=place.dec,
        radius=place.radius,
        axis_ratio=axis_ratio,
        angle=rng.uniform(0, 180),
        r_mag=float(np.clip(mag, *_R_MAG)),
        seed=int(rng.integers(2**31)),
    )


def _star(ra: float, dec: float, bright: bool, rng: np.random.Generator) -> Star:
    """Bright ones are drawn between 11.5 and 13 mag; the rest get more numerous to 21 mag."""
    r = rng.uniform(11.5, 12.8) if bright else 21 - 6 * rng.beta(1, 2.2)
    g_r = rng.uniform(0.3, 1.4)
    return Star(ra, dec, (r + g_r, r, r - 0.55 * g_r))
