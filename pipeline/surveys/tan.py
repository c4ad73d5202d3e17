"""The tangent-plane projection of a survey tile, read from its header and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.data import PixelGrid
from pipeline.errors import BadImage

_ARCSEC = math.radians(1 / 3600)  # rad
_TYPES = ("RA---TAN", "DEC--TAN")
_CARDS = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_DISTORTED = ("PV", "A_ORDER", "B_ORDER", "CPDIS", "D2IM", "CROTA")


def is_plain(header: Mapping[str, Any]) -> bool:
    """Whether a header's WCS is the projection of this file and nothing else: no distortion, no turned pole."""
    types = tuple(str(header.get(key, "")).strip() for key in ("CTYPE1", "CTYPE2"))
    special = [key for key in header if key.startswith(_DISTORTED) and header[key] not in (0, 0.0)]
    return types == _TYPES and header.get("LONPOLE", 180.0) == 180.0 and not special


@dataclass(frozen=True, slots=True, eq=False)
class Tan:
    """The gnomonic projection (Calabretta & Greisen 2002, A&A 395, 1077, sec. 5.1.3), 0-based pixels."""

    reference: NDArray[np.float64]  # (2,) x, y of the tangent point
    axes: NDArray[np.float64]  # (3, 3) unit vectors of the tangent point: east, north, outward
    pixels: NDArray[np.float64]  # (2, 2) pixels per radian of the tangent plane's (east, north)

    @classmethod
    def of(cls, header: Mapping[str, Any], name: str) -> Self:
        """The projection of a header. Raises BadImage, naming the file, for any other or a broken one."""
        types = tuple(str(header.get(key, "")).strip() for key in ("CTYPE1", "CTYPE2"))
        if types != _TYPES:
            raise BadImage(f"{name}: CTYPE is {types}, expected RA---TAN, DEC--TAN")
        try:
            ra, dec, x, y = (float(header[key]) for key in _CARDS)
            matrix = _degrees(header)
        except (KeyError, TypeError, ValueError) as error:
            raise BadImage(f"{name}: no usable WCS: {error}") from error
        plane = np.array(matrix).reshape(2, 2)
        if not (np.isfinite([ra, dec, x, y, *matrix]).all() and np.linalg.det(plane) != 0):
            raise BadImage(f"{name}: no usable WCS: CRVAL {ra}, {dec}, CRPIX {x}, {y}, CD {matrix}")
        # At the north pole itself LONPOLE is 0 where no card gives it (Calabretta & Greisen 2002, sec. 2.5): turned.
        axes = _axes(ra + 180.0 if dec >= 90.0 and "LONPOLE" not in header else ra, dec)
        return cls(np.array([x - 1, y - 1]), axes, np.linalg.inv(np.radians(plane)))

    @property
    def pixel_scale(self) -> float:
        """Arcsec per pixel at the tangent point."""
        return float(abs(np.linalg.det(self.pixels)) ** -0.5) / _ARCSEC

    def to_pixels(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x, y (N,) of positions in degrees; NaN for those on the far side of the sky."""
        east, north, outward = (_dot(axis, ra, dec) for axis in self.axes)
        outward = np.where(outward > 0, outward, np.nan)
        u, v = east / outward, north / outward
        x = self.reference[0] + self.pixels[0, 0] * u + self.pixels[0, 1] * v
        y = self.reference[1] + self.pixels[1, 0] * u + self.pixels[1, 1] * v
        return x, y

    def to_sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ra in [0, 360) and dec (N,) of pixel positions, degrees."""
        plane = np.linalg.inv(self.pixels)
        dx, dy = x - self.reference[0], y - self.reference[1]
        u, v = plane[0, 0] * dx + plane[0, 1] * dy, plane[1, 0] * dx + plane[1, 1] * dy
        east, north, outward = self.axes
        vector = [east[i] * u + north[i] * v + outward[i] for i in range(3)]
        ra = np.degrees(np.arctan2(vector[1], vector[0])) % 360.0
        return ra, np.degrees(np.arctan2(vector[2], np.hypot(vector[0], vector[1])))

    def grid_at(self, ra: float, dec: float) -> PixelGrid:
        """The linear map around a position: the projection's derivative there, which is exact at the position."""
        local = _axes(ra, dec)
        toward = self.axes @ local[2]  # (3,) the position along the tangent point's axes
        plane = toward[:2] / toward[2]
        steps = self.axes @ local[:2].T  # (3, 2) how those change with a step east, a step north
        derivative = (steps[:2] - plane[:, None] * steps[2]) / toward[2]
        x, y = self.reference + self.pixels @ plane
        return PixelGrid((float(x), float(y)), self.pixels @ derivative * _ARCSEC)


def _degrees(header: Mapping[str, Any]) -> list[float]:
    """Degrees a pixel, row by row: the CD cards, or CDELT and PC (Pan-STARRS1 writes these as PC001001).

    A CD card that is not there is 0 where another one is (Greisen & Calabretta 2002, A&A 395, 1061, sec. 2.1.2).
    """
    cards = [f"CD{i}_{j}" for i in (1, 2) for j in (1, 2)]
    if any(card in header for card in cards):
        return [float(header.get(card, 0.0)) for card in cards]
    turns = [header.get(f"PC{i}_{j}", header.get(f"PC00{i}00{j}", float(i == j))) for i in (1, 2) for j in (1, 2)]
    steps = [float(header[f"CDELT{i}"]) for i in (1, 1, 2, 2)]
    return [step * float(turn) for step, turn in zip(steps, turns, strict=True)]


def _axes(ra: float, dec: float) -> NDArray[np.float64]:
    """(3, 3) unit vectors east, north and outward at a position."""
    a, d = math.radians(ra), math.radians(dec)
    sin_a, cos_a, sin_d, cos_d = math.sin(a), math.cos(a), math.sin(d), math.cos(d)
    return np.array(
        [[-sin_a, cos_a, 0.0], [-cos_a * sin_d, -sin_a * sin_d, cos_d], [cos_a * cos_d, sin_a * cos_d, sin_d]]
    )


def _dot(axis: NDArray[np.float64], ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    a, d = np.radians(ra), np.radians(dec)
    across = np.cos(d)
    return axis[0] * across * np.cos(a) + axis[1] * across * np.sin(a) + axis[2] * np.sin(d)
