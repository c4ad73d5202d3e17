"""The sky that a catalogue covers: HEALPix cells in the projection that suits their extent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import healpix
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Transform
from numpy.typing import NDArray

from pipeline.report.drawing import MUTED, SCALE, Sheet, style, svg

FINEST = 29  # order of `_healpix_29`
CELLS = 1500  # pixels of a drawing
ACROSS = 150  # pixels across a drawing below which each of them can be seen
ORDER_0 = 58.6  # degrees, the side of a HEALPix pixel of order 0: sqrt(41253 deg^2 / 12)
LOCAL = 30.0  # degrees of declination or right ascension up to which a tangential map shows the field
_SOUTH, _EAST, _NORTH, _WEST = 0, 0x155555555555555, 0x3FFFFFFFFFFFFFF, 0x2AAAAAAAAAAAAAA


def corners(order: int, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P, 4, 2) right ascension and declination in degrees of the corners of HEALPix pixels, NESTED.

    A corner is the centre of the order-29 pixel that lies in it, 0.2 milliarcsec from it. In NESTED numbering the
    bits of x and y alternate, so that the four are the pixel's first and last descendants and the two between
    (Gorski et al. 2005, ApJ 622, 759, sec. 4).
    """
    depth = 2 * (FINEST - order)
    inside = np.array([_SOUTH, _EAST, _NORTH, _WEST], dtype=np.int64) & ((1 << depth) - 1)
    descendants = (pixels[:, None] << depth) + inside
    ra, dec = healpix.pix2ang(1 << FINEST, descendants, nest=True, lonlat=True)
    return np.stack([np.asarray(ra), np.asarray(dec)], axis=-1)


def fitting_order(occupied: Sequence[int], galaxies: int) -> int:
    """The finest order, of those whose `occupied` pixels are counted, that a drawing and its galaxies can fill.

    At most CELLS pixels are drawn, and there are two galaxies in each on average.
    """
    fitting = [order for order, cells in enumerate(occupied) if cells <= min(CELLS, galaxies / 2)]
    return max(fitting, default=0)


def visible_order(order: int, pixels: NDArray[np.int64]) -> int:
    """`order`, or the finest below it whose pixels can still be seen on a map of all of `pixels` (P,)."""
    extent = float(np.ptp(_about_centre(corners(order, pixels))[0].reshape(-1, 2), axis=0).max())
    return max(0, min(order, math.floor(math.log2(ACROSS * ORDER_0 / extent))))


def sky_map(order: int, pixels: NDArray[np.int64], values: NDArray[np.float64], unit: str, label: str) -> str:
    """An SVG map of values (P,) in HEALPix pixels (P,): the whole sky in Mollweide's projection, a field by itself."""
    shape, centre = _about_centre(corners(order, pixels))
    extent = np.ptp(shape.reshape(-1, 2), axis=0)
    with style(label):
        if extent.max() > LOCAL:
            sheet, axes, polygons = _all_sky(shape, centre)
        else:
            sheet, axes, polygons = _field(shape, centre)
        scale = Normalize(float(values.min()), float(max(values.max(), values.min() + 1e-9)))
        cells = PolyCollection(list(polygons.vertices), array=values, cmap=SCALE, norm=scale, edgecolors="face", lw=0.2)
        cells.set_transform(polygons.transform)
        axes.add_collection(cells, autolim=False)
        bar = sheet.figure.colorbar(cells, ax=axes, shrink=0.7, pad=0.02, label=unit)
        bar.outline.set_edgecolor(MUTED)
        return svg(sheet, label)


def _about_centre(shape: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Corners (P, 4, 2) with right ascension counted from the centre, east positive, no pixel torn in two."""
    centre, turned = _centre(shape), shape.copy()
    turned[..., 0] = (turned[..., 0] - centre[0] + 180) % 360 - 180
    turned[..., 0] = turned[:, :1, 0] + (turned[..., 0] - turned[:, :1, 0] + 180) % 360 - 180
    return turned, centre


@dataclass(frozen=True, eq=False)
class _Polygons:
    vertices: NDArray[np.float64]  # (P, 4, 2)
    transform: Transform  # from them to the drawing


def _centre(shape: NDArray[np.float64]) -> tuple[float, float]:
    """Right ascension by the mean direction, so that a field across 0 h is one field; the middle declination."""
    angle = np.radians(shape[..., 0])
    ra = np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean())) % 360
    dec = (shape[..., 1].min() + shape[..., 1].max()) / 2
    return float(ra), float(dec)


def _field(shape: NDArray[np.float64], centre: tuple[float, float]) -> tuple[Sheet, Axes, _Polygons]:
    """Right ascension to the left, in its own degrees; true lengths along the central declination."""
    sheet = Sheet(5.6, 3.6)
    axes = sheet.axes()
    polygons = shape.copy()
    polygons[..., 0] += centre[0]
    low, high = polygons.reshape(-1, 2).min(0), polygons.reshape(-1, 2).max(0)
    margin = 0.04 * (high - low)
    axes.set_xlim(high[0] + margin[0], low[0] - margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axes.set_aspect(1 / max(np.cos(np.radians(centre[1])), 0.05))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value % 360:g}")
    axes.set_xlabel("right ascension (deg)")
    axes.set_ylabel("declination (deg)")
    return sheet, axes, _Polygons(polygons, axes.transData)


def _all_sky(shape: NDArray[np.float64], centre: tuple[float, float]) -> tuple[Sheet, Axes, _Polygons]:
    """All corners are projected at once: matplotlib itself would take milliseconds for each polygon."""
    sheet = Sheet(7.2, 3.6)
    axes = sheet.axes(projection="mollweide")
    east_left = np.radians(shape) * (-1, 1)
    projection: Any = axes  # of matplotlib's geographic axes alone
    vertices = projection.transProjection.transform(east_left.reshape(-1, 2)).reshape(shape.shape)
    ticks = np.arange(-150, 151, 60)
    axes.set_xticks(np.radians(ticks), [f"{(centre[0] - tick) % 360:.0f}°" for tick in ticks])
    return sheet, axes, _Polygons(vertices, projection.transAffine + axes.transAxes)
