"""Any celestial WCS that astropy reads (TAN, TPV, SIP, SIN, ...), as the linear map around one position."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning, InconsistentAxisTypesError
from numpy.typing import NDArray

from pipeline.data import PixelGrid
from pipeline.errors import BadImage
from pipeline.resample import Positions
from pipeline.surveys.mosaic import Projection
from pipeline.surveys.tan import Tan, is_plain

_STEP = 1.0 / 3600  # deg: over which the map is taken as linear


def projection(header: Mapping[str, Any], name: str) -> Projection:
    """The map of an image between sky and pixels. Raises BadImage, naming the file, where its header has none."""
    if is_plain(header):
        return Tan.of(header, name)
    if not (header.get("CTYPE1") and header.get("CTYPE2")):
        raise BadImage(f"{name}: has no WCS")
    return Celestial(_celestial(header, name), name)


@dataclass(frozen=True, slots=True, eq=False)
class Celestial:
    """A `Projection` by astropy."""

    wcs: WCS
    name: str

    def to_pixels(self, ra: Positions, dec: Positions) -> tuple[Positions, Positions]:
        x, y = self.wcs.all_world2pix(np.stack([ra, dec], axis=1), 0, quiet=True).T
        return x, y

    def to_sky(self, x: Positions, y: Positions) -> tuple[Positions, Positions]:
        ra, dec = self.wcs.all_pix2world(np.stack([x, y], axis=1), 0).T
        return ra % 360.0, dec

    def grid_at(self, ra: float, dec: float) -> PixelGrid:
        """The linear map around a position. Raises BadImage where the WCS does not reach it."""
        x, y = self.wcs.all_world2pix(_around(ra, dec), 0, quiet=True).T  # (5,): the place, east, west, north, south
        matrix = np.array([[x[1] - x[2], x[3] - x[4]], [y[1] - y[2], y[3] - y[4]]]) / (2 * _STEP * 3600)
        if not (np.isfinite(x).all() and np.isfinite(y).all() and abs(np.linalg.det(matrix)) > 0):
            raise BadImage(f"{self.name}: its WCS does not reach {(ra, dec)}")
        return PixelGrid((float(x[0]), float(y[0])), matrix)


def linearised(
    header: Mapping[str, Any], shape: tuple[int, int], position: tuple[float, float], name: str
) -> PixelGrid:
    """The map around `position` (ra, dec in deg) on an image of `shape`.

    Without a WCS, a PIXSCALE card (arcsec) will do: then the source is in the middle and north is up, east left.
    Raises BadImage, naming the file, where there is neither, or the WCS does not reach the position.
    """
    if not (header.get("CTYPE1") and header.get("CTYPE2")):
        return _centred(header, shape, name)
    return Celestial(_celestial(header, name), name).grid_at(*position)


def _centred(header: Mapping[str, Any], shape: tuple[int, int], name: str) -> PixelGrid:
    try:
        scale = float(header.get("PIXSCALE", 0))
    except (TypeError, ValueError):
        scale = 0.0
    if not (np.isfinite(scale) and scale > 0):
        raise BadImage(f"{name}: has neither a WCS nor a PIXSCALE")
    return PixelGrid(((shape[1] - 1) / 2, (shape[0] - 1) / 2), np.diag([-1 / scale, 1 / scale]))


def _celestial(header: Mapping[str, Any], name: str) -> WCS:
    try:
        cards = Header([(key, value) for key, value in header.items() if len(key) <= 8 and value is not None])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(cards, naxis=2).celestial
    except (ValueError, TypeError, AttributeError, MemoryError, InconsistentAxisTypesError) as error:
        raise BadImage(f"{name}: no usable WCS: {' '.join(str(error).split())[:200]}") from error
    if wcs.naxis != 2 or not wcs.has_celestial:
        raise BadImage(f"{name}: its WCS is not of the sky: CTYPE {header['CTYPE1']}, {header['CTYPE2']}")
    return wcs


def _around(ra: float, dec: float) -> NDArray[np.float64]:
    """(5, 2) a position and its neighbours east, west, north and south, degrees; good to the poles."""
    a, d = np.radians([ra, dec])
    axes = np.array(
        [
            [-np.sin(a), np.cos(a), 0.0],
            [-np.cos(a) * np.sin(d), -np.sin(a) * np.sin(d), np.cos(d)],
            [np.cos(a) * np.cos(d), np.sin(a) * np.cos(d), np.sin(d)],
        ]
    )
    east, north, outward = axes
    step = np.tan(np.radians(_STEP))
    points = outward + step * np.array([0 * east, east, -east, north, -north])
    return np.degrees(
        np.stack([np.arctan2(points[:, 1], points[:, 0]), np.arctan2(points[:, 2], np.hypot(*points[:, :2].T))], axis=1)
    )
