"""Positions on the sphere: HEALPix pixels in NESTED numbering, and which of them a cone touches.

HEALPix: Gorski et al. 2005, ApJ 622, 759. The library `healpix` needs numpy alone: a query needs no astropy.
"""

from __future__ import annotations

import healpix
import numpy as np
from numpy.typing import NDArray

ORDER = 29  # of the column `_healpix_29`: 0.4 milliarcsec, the finest that fits int64


def healpix29(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) order-29 NESTED pixels of ICRS positions, 0 <= ra <= 360 and -90 <= dec <= 90 degrees.

    Raises ValueError for any other: the library would give a pixel, for NaN too.
    """
    wrong = ~((ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"row {row}: ra {ra[row]}, dec {dec[row]} is no position on the sky")
    pixels: NDArray[np.int64] = healpix.ang2pix(1 << ORDER, ra, dec, nest=True, lonlat=True).astype(np.int64)
    return pixels
