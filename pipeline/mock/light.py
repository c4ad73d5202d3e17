"""How the light of each class is spread: GalSim profiles on the sky, one a component, with a flux a band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import galsim
import numpy as np
from numpy.typing import NDArray

from pipeline.mock.bricks import PIXEL
from pipeline.mock.sources import BANDS, ZEROPOINT, Galaxy, Star

# Full width at half maximum, arcsec: median of the delivered images of DECaLS, Dey et al. 2019,
# arXiv:1804.08657, table 4. Moffat wings with the exponent 3.
SEEING = {"g": 1.29, "r": 1.18, "z": 1.11}
MOFFAT = 3.0
STEP = 1e-4  # nanomaggies a pixel: the quantisation of coadds (archives.md 1.3)
# g - r and r - z of the stellar populations: chosen, red for old and blue for young ones.
_OLD, _DISC, _YOUNG = (0.85, 0.65), (0.60, 0.45), (0.25, 0.15)
_GRID = 160  # pixels a side of a map of arms or tails
_EXTENT = 4.0  # half-width of such a map, in half-light radii


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """Part of a galaxy: a profile of unit flux in GalSim's sky frame (u west, v north, arcsec)."""

    profile: galsim.GSObject
    flux: NDArray[np.float64]  # (C,) nanomaggies


@cache
def psf(seeing: float) -> galsim.GSObject:
    """The point-spread function of a coadd, pixel included: images sample it at pixel centres. Seeing in arcsec."""
    return galsim.Moffat(beta=MOFFAT, fwhm=seeing)


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A source that is ready to be drawn on any brick."""

    ra: float  # deg
    dec: float  # deg
    extent: float  # arcsec from the centre beyond which it is too faint to be stored
    parts: tuple[Component, ...]
    seeing: Mapping[str, float] = field(default_factory=lambda: SEEING)  # arcsec, a band each

    @property
    def flux(self) -> NDArray[np.float64]:
        """(C,) nanomaggies in all."""
        return np.sum([part.flux for part in self.parts], axis=0)

    def seen(self, band: str) -> galsim.GSObject:
        """The source in one band as the telescope sees it."""
        index = BANDS.index(band)
        return galsim.Convolve(galsim.Sum([p.profile * p.flux[index] for p in self.parts]), psf(self.seeing[band]))


def light(source: Galaxy | Star) -> Light:
    """How a source shines."""
    if isinstance(source, Star):
        flux = 10 ** (0.4 * (ZEROPOINT - np.array(source.mags)))
        return Light(source.ra, source.dec, _wings(float(flux.max())), (Component(galsim.DeltaFunction(), flux),))
    parts = components(source)
    extent = (6 if source.kind != "merger" else 5) * source.radius + _wings(float(parts[0].flux.max()) / 10)
    return Light(source.ra, source.dec, extent, parts)


def _wings(flux: float) -> float:
    """Arcsec at which the wings of a point source fall to half of the step in which coadds are stored."""
    core = max(SEEING.values()) / (2 * (2 ** (1 / MOFFAT) - 1) ** 0.5)
    peak = flux * (MOFFAT - 1) / (np.pi * core**2) * PIXEL**2
    return float(core * max(peak / (0.5 * STEP), 1.0) ** (0.5 / MOFFAT))


def components(galaxy: Galaxy) -> tuple[Component, ...]:
    """The parts of a galaxy; their r fluxes add up to its r magnitude."""
    rng = np.random.default_rng(galaxy.seed)
    shapes = {
        "round": _smooth, "in_between": _smooth, "cigar": _smooth,
        "edge_on": _edge_on, "spiral": _spiral, "merger": _merger,
    }  # fmt: skip
    return tuple(shapes[galaxy.kind](galaxy, rng))


def sersic_index(galaxy: Galaxy) -> float:
    """Of the smooth classes and of the bulges."""
    if galaxy.kind == "cigar":
        return (1.0, 2.0)[galaxy.seed % 2]
    return (4.0, 2.5)[galaxy.seed % 2]


def _smooth(galaxy: Galaxy, rng: np.random.Generator) -> list[Component]:
    """An elliptical: one Sersic profile."""
    return [_part(galaxy, _tilted(_sersic(sersic_index(galaxy), galaxy.radius), galaxy), 1.0, _OLD)]


def _edge_on(galaxy: Galaxy, rng: np.random.Generator) -> list[Component]:
    """A disc seen from the side, its midplane dimmed by dust (more in g than in z), and a small bulge."""
    turn = _turn(galaxy)
    tilt = rng.uniform(86, 90) * galsim.degrees
    disc = galsim.InclinedExponential(tilt, half_light_radius=galaxy.radius, scale_h_over_r=galaxy.axis_ratio)
    lane = galsim.InclinedExponential(
        90 * galsim.degrees, half_light_radius=0.8 * galaxy.radius, scale_h_over_r=galaxy.axis_ratio / 5
    )
    bulge = _sersic(2.5, 0.2 * galaxy.radius).shear(q=0.8, beta=0 * galsim.degrees)
    fraction = rng.uniform(0.1, 0.3)
    dust = rng.uniform(0.0, 0.09) * np.array([1.0, 0.8, 0.4])
    parts = [
        _part(galaxy, bulge.rotate(turn), fraction, _OLD),
        _part(galaxy, disc.rotate(turn), 1 - fraction, _DISC),
    ]
    return [*parts, Component(lane.rotate(turn), -dust * parts[1].flux)]


def _spiral(galaxy: Galaxy, rng: np.random.Generator) -> list[Component]:
    """A bulge, a disc, and two to four blue arms along logarithmic spirals."""
    bulge = rng.uniform(0.06, 0.2)
    arms = rng.uniform(0.35, 0.5)
    return [
        _part(galaxy, _tilted(_sersic(2.5, 0.2 * galaxy.radius), galaxy), bulge, _OLD),
        _part(galaxy, _tilted(_sersic(1.0, galaxy.radius), galaxy), 1 - bulge - arms, _DISC),
        _part(galaxy, _tilted(_drawn(_arms(rng), galaxy.radius), galaxy), arms, _YOUNG),
    ]


def _merger(galaxy: Galaxy, rng: np.random.Generator) -> list[Component]:
    """Two galaxies that overlap, each with a tidal tail of its own strength, in a common envelope.

    The catalogue position is that of the larger one; the other stands a little over one radius away.
    """
    share = rng.uniform(0.3, 0.48)  # of the light that is in the companion
    away = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(1.0, 1.5) * np.array([np.cos(away), np.sin(away)])  # half-light radii
    turns = rng.uniform(0.5, 1.7, size=2) * rng.choice((-1.0, 1.0))
    strengths = rng.permutation((1.0, rng.uniform(0.1, 0.8)))
    tails = strengths[0] * _tail((0.0, 0.0), away + np.pi + rng.normal(0, 0.5), turns[0])
    tails += strengths[1] * _tail((offset[0], offset[1]), away + rng.normal(0, 0.5), turns[1])
    first = _sersic(2.5, 0.42 * galaxy.radius).shear(q=galaxy.axis_ratio, beta=_turn(galaxy))
    second = _sersic(1.0, 0.36 * galaxy.radius).shear(
        q=rng.uniform(0.45, 0.9), beta=rng.uniform(0, 180) * galsim.degrees
    )
    envelope = _sersic(1.0, 1.1 * galaxy.radius).shift(*(galaxy.radius * offset / 2))
    shift = tuple(galaxy.radius * offset)
    return [
        _part(galaxy, first, 0.68 * (1 - share), _OLD),
        _part(galaxy, second.shift(*shift), 0.68 * share, _DISC),
        _part(galaxy, envelope, 0.18, _DISC),
        _part(galaxy, _drawn(tails, galaxy.radius), 0.14, _DISC),
    ]


def _part(galaxy: Galaxy, profile: galsim.GSObject, share: float, colour: tuple[float, float]) -> Component:
    """A component with this share of the r flux."""
    mags = galaxy.r_mag + np.array([colour[0], 0.0, -colour[1]])
    return Component(profile, share * 10 ** (0.4 * (ZEROPOINT - mags)))


def _sersic(index: float, radius: float) -> galsim.GSObject:
    """A Sersic profile, cut at six half-light radii unless it is an exponential, which has no wings."""
    if index == 1.0:
        return galsim.Exponential(half_light_radius=radius)
    return galsim.Sersic(n=index, half_light_radius=radius, trunc=6 * radius)


def _turn(galaxy: Galaxy) -> galsim.Angle:
    """From GalSim's u axis (west) to the major axis, for a position angle that runs from north to east."""
    return (90 + galaxy.angle) * galsim.degrees


def _tilted(round_profile: galsim.GSObject, galaxy: Galaxy) -> galsim.GSObject:
    """A circular profile flattened along the minor axis; its major axis keeps its length."""
    return round_profile.dilate(galaxy.axis_ratio**0.5).shear(q=galaxy.axis_ratio, beta=_turn(galaxy))


def _drawn(surface: NDArray[np.float64], radius: float) -> galsim.GSObject:
    """A profile of unit flux from a map in half-light radii."""
    image = galsim.Image(surface.astype(np.float32), scale=2 * _EXTENT * radius / _GRID)
    return galsim.InterpolatedImage(image, normalization="flux", flux=1.0, x_interpolant="cubic")


def _plane() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the pixels of a map, in half-light radii."""
    axis = (np.arange(_GRID) + 0.5) / _GRID * 2 * _EXTENT - _EXTENT
    x, y = np.meshgrid(axis, axis)
    return x, y


def _arms(rng: np.random.Generator) -> NDArray[np.float64]:
    """Surface brightness of spiral arms, face on: ridges along r = r0 exp(phi tan(pitch)), with knots."""
    x, y = _plane()
    radius = np.hypot(x, y)
    number = int(rng.choice((2, 2, 2, 3, 4)))
    pitch = np.radians(rng.uniform(14, 28)) * rng.choice((-1.0, 1.0))
    phase = np.arctan2(y, x) - np.log(np.maximum(radius, 0.05)) / np.tan(pitch) - rng.uniform(0, 2 * np.pi)
    ridge = np.exp(rng.uniform(3.0, 5.0) * (np.cos(number * phase) - 1))
    envelope = np.exp(-1.2 * radius) * radius**2 / (radius**2 + 0.15) / (1 + np.exp(6 * (radius - 2.6)))
    surface = ridge * envelope
    where = rng.choice(surface.size, size=40, p=(surface * radius).ravel() / np.sum(surface * radius))
    knots = np.zeros_like(surface)
    for spot, width in zip(where, rng.uniform(0.05, 0.12, size=40), strict=True):
        knots += _spot(x, y, x.ravel()[spot], y.ravel()[spot], width)
    return surface * (1 + 0.9 * knots)


def _tail(start: tuple[float, float], angle: float, turn: float) -> NDArray[np.float64]:
    """Surface brightness of a tidal tail: an arc through `turn` radians that widens and fades to nothing."""
    x, y = _plane()
    surface = np.zeros_like(x)
    for t in np.linspace(0, 1, 36):
        reach, direction = 0.4 + 2.1 * t, angle + turn * t
        at = start[0] + reach * np.cos(direction), start[1] + reach * np.sin(direction)
        surface += np.exp(-t) * (1 - t) * _spot(x, y, *at, 0.12 + 0.14 * t)
    return surface


def _spot(x: NDArray[np.float64], y: NDArray[np.float64], x0: float, y0: float, width: float) -> NDArray[np.float64]:
    """A round Gaussian of unit height."""
    return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2))
