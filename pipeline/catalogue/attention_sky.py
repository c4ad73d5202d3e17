"""Where on the sky, and how large, the attention of a network is: its statistics in arcsec, degrees and radii.

An image is a square of the tangent plane at the source, north up, east left and `fov_arcsec` wide: the source is
its centre, and `preprocess` has taken the cutout's WCS out of it. A place (x, y) in image sides lies therefore

    east = (1/2 - x) fov_arcsec,    north = (1/2 - y) fov_arcsec

of the source, on the plane and along the source's own north. Tiles whose rows run east-west to within half a pixel
of the image at its edge are not turned by that last bit (preprocess.py, MAX_SKEW), so that directions are good to
0.2 degrees in an image of 256 pixels. All of it describes the network, not the galaxy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

NEEDED = ("cx", "cy", "peak_x", "peak_y", "sigma", "flat")  # of the statistics of attention.py
CENTRED = 1e-6  # an offset below this fraction of the image's side is float32 rounding of none


def sky_columns(statistics: Mapping[str, Values], fov: Values, radius: Values) -> dict[str, Values]:
    """Column suffix -> values (N,), NaN where they are undefined.

    `statistics` are those of NEEDED, `fov` is in arcsec, `radius` in arcsec and not above 0 where there is none. A
    flat map lies nowhere and has no size; an attention that is centred on the source has no direction.
    """
    side = np.where(statistics["flat"] > 0, np.nan, fov)  # arcsec
    east, north = _offset(statistics["cx"], statistics["cy"], side)
    offset, sigma = np.hypot(east, north), statistics["sigma"] * side
    radii = np.where(radius > 0, radius, np.nan)
    direction = np.degrees(np.arctan2(east, north)) % 360
    return {
        "east_arcsec": east,
        "north_arcsec": north,
        "offset_arcsec": offset,
        "offset_pa": np.where(offset > CENTRED * side, direction, np.nan),
        "peak_arcsec": np.hypot(*_offset(statistics["peak_x"], statistics["peak_y"], side)),
        "sigma_arcsec": sigma,
        "offset_radii": offset / radii,
        "sigma_radii": sigma / radii,
    }


def _offset(x: Values, y: Values, side: Values) -> tuple[Values, Values]:
    """Arcsec east and north of places (N,) in image sides."""
    return (0.5 - x) * side, (0.5 - y) * side
