"""A survey's footprint as a Multi-Order Coverage map (MOC, IVOA Recommendation 2.0), read from its FITS table."""

from __future__ import annotations

import healpix
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.resample import Positions

ORDER = 29  # of a MOC's ranges
COLUMN = "UNIQ"  # MOC 1.1, sec. 2.3.1: one NUNIQ number a cell, 4 * 4^order + pixel


class Moc:
    """The sky that a survey covers."""

    def __init__(self, uniq: NDArray[np.int64]) -> None:
        """`uniq`: the NUNIQ numbers of the cells. Raises JobError where a number is none."""
        if (uniq < 4).any():
            raise JobError("the MOC holds numbers that are no cells")
        order = np.floor(np.log2(uniq.astype(np.float64) / 4) / 2).astype(np.int64)
        pixel = uniq - (np.int64(4) << (2 * order))
        first = np.sort(pixel << (2 * (ORDER - order)))
        ranked = np.argsort(pixel << (2 * (ORDER - order)), kind="stable")
        stop = ((pixel + 1) << (2 * (ORDER - order)))[ranked]
        self._first, self._stop = first, np.maximum.accumulate(stop) if len(stop) else stop

    @classmethod
    def of(cls, table: pa.Table) -> Moc:
        """The MOC of a table with the column UNIQ."""
        return cls(np.asarray(table[COLUMN].to_numpy(), dtype=np.int64))

    def contains(self, ra: Positions, dec: Positions) -> NDArray[np.bool_]:
        """(N,) positions in degrees inside the footprint."""
        pixels = healpix.ang2pix(1 << ORDER, ra, dec, nest=True, lonlat=True).astype(np.int64)
        at = np.searchsorted(self._first, pixels, side="right") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (pixels < np.append(self._stop, 0)[at])
        return inside
