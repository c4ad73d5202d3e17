"""Parts of the sky that a catalogue can be asked for: a cone, a box, a coverage map (MOC), a set of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import healpix
import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue.sky import ORDER, ROUNDING, angles, cone_ranges, healpix29, merged, pixel_radius, unit_vectors
from pipeline.errors import CatalogueError

Floats = NDArray[np.float64]
Ranges = NDArray[np.int64]  # (R, 2) order-29 pixels [first, stop), ascending
_ENOUGH = 256  # pixels that a box is covered with


class Region(Protocol):
    """A part of the sky."""

    @property
    def ranges(self) -> Ranges:
        """Pixels that cover it: more than it holds, never fewer."""

    def contains(self, ra: Floats, dec: Floats, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) whether positions in degrees, with their order-29 pixels, are in it."""


@dataclass(frozen=True)
class Cone:
    """Everything within `radius` arcsec of a position in degrees. Raises CatalogueError for one that is none."""

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 180 * 3600:
            raise CatalogueError(f"a cone of {self.radius} arcsec: expected 0 to 648000")
        try:
            healpix29(np.array([self.ra]), np.array([self.dec]))
        except ValueError as error:
            raise CatalogueError(
                f"a cone around ra {self.ra}, dec {self.dec}: that is no position on the sky"
            ) from error

    @cached_property
    def ranges(self) -> Ranges:
        return cone_ranges(self.ra, self.dec, self.radius / 3600)

    def contains(self, ra: Floats, dec: Floats, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
        centre = unit_vectors(np.array([self.ra]), np.array([self.dec]))[0]
        inside: NDArray[np.bool_] = angles(unit_vectors(ra, dec), centre) <= np.radians(self.radius / 3600)
        return inside


@dataclass(frozen=True)
class Box:
    """ra1 <= ra <= ra2 and dec1 <= dec <= dec2, degrees; ra1 > ra2 is a box across RA 0.

    Raises CatalogueError for one that is none.
    """

    ra1: float
    ra2: float
    dec1: float
    dec2: float

    def __post_init__(self) -> None:
        if not (0 <= self.ra1 <= 360 and 0 <= self.ra2 <= 360 and -90 <= self.dec1 <= self.dec2 <= 90):
            raise CatalogueError(
                f"a box of ra {self.ra1} to {self.ra2}, dec {self.dec1} to {self.dec2}: expected ra 0 to 360, "
                "dec -90 to 90, the lower dec first"
            )

    @cached_property
    def ranges(self) -> Ranges:
        """From the base pixels down, every pixel whose circle meets the box."""
        pixels, order = np.arange(12), 0
        while True:
            ra, dec = healpix.pix2ang(1 << order, pixels, nest=True, lonlat=True)
            pixels = pixels[self._near(ra, dec, float(np.degrees(pixel_radius(order) + ROUNDING)))]
            if len(pixels) > _ENOUGH or order == ORDER:
                break
            pixels, order = (4 * pixels[:, None] + np.arange(4)).ravel(), order + 1
        shift = 2 * (ORDER - order)
        return merged(np.stack([pixels << shift, (pixels + 1) << shift], axis=1))

    def contains(self, ra: Floats, dec: Floats, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self._meridians(ra, 0.0) & (dec >= self.dec1) & (dec <= self.dec2)

    def _near(self, ra: Floats, dec: Floats, reach: float) -> NDArray[np.bool_]:
        """(N,) whether a circle of `reach` degrees around positions may meet the box."""
        highest = np.minimum(np.abs(dec) + reach, 90)
        polar = highest > 89.999  # the circle may hold the pole, and with it every meridian
        level = np.cos(np.radians(np.where(polar, 0, highest)))
        wide = np.degrees(np.arcsin(np.minimum(1, np.sin(np.radians(min(reach, 90))) / level)))
        return (polar | self._meridians(ra, wide)) & (dec >= self.dec1 - reach) & (dec <= self.dec2 + reach)

    def _meridians(self, ra: Floats, margin: Floats | float) -> NDArray[np.bool_]:
        """(N,) whether right ascensions are in the box, or within a margin of it."""
        width = (self.ra2 - self.ra1) % 360 if self.ra2 - self.ra1 != 360 else 360.0
        inside: NDArray[np.bool_] = (ra - self.ra1 + margin) % 360 <= width + 2 * margin
        return inside | (width + 2 * margin >= 360)


@dataclass(frozen=True, eq=False)
class PixelSet:
    """The positions whose order-29 pixels are in given ranges: a coverage map (MOC) is one."""

    ranges: Ranges

    def contains(self, ra: Floats, dec: Floats, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(self.ranges):
            return np.zeros(len(pixels), bool)
        following = np.searchsorted(self.ranges[:, 1], pixels, side="right")
        inside = following < len(self.ranges)
        inside[inside] = self.ranges[following[inside], 0] <= pixels[inside]
        return inside


def common(regions: Sequence[Region]) -> Ranges | None:
    """Pixels that cover what all regions share, None for the whole sky."""
    shared: Ranges | None = None
    for region in regions:
        shared = region.ranges if shared is None else intersection(shared, region.ranges)
    return shared


def intersection(first: Ranges, second: Ranges) -> Ranges:
    """The pixels that are in both of two sets of ascending ranges."""
    edges = np.unique(np.concatenate([first.ravel(), second.ravel()]))
    if len(edges) < 2:
        return np.empty((0, 2), np.int64)
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    nowhere = np.zeros(len(pieces))
    both = PixelSet(first).contains(nowhere, nowhere, pieces[:, 0]) & PixelSet(second).contains(
        nowhere, nowhere, pieces[:, 0]
    )
    return merged(pieces[both])
