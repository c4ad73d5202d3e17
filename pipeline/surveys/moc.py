"""A survey's footprint as a Multi-Order Coverage map (IVOA MOC), read from its FITS table: versions 1 and 2."""

from __future__ import annotations

import healpix
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.resample import Positions

ORDER = 29  # of the ranges (MOC 2.0, sec. 4.1.1)


class Moc:
    """The sky that a survey covers."""

    def __init__(self, ranges: NDArray[np.int64]) -> None:
        """`ranges`: (R, 2) pixels [first, stop) of order 29, NESTED, in any order."""
        ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
        self._first, self._stop = ranges[:, 0], np.maximum.accumulate(ranges[:, 1])

    @classmethod
    def of(cls, table: pa.Table) -> Moc:
        """The MOC of a FITS table: a column RANGE of first, stop, first, ... or UNIQ of cells. Raises JobError."""
        if "RANGE" in table.column_names:
            return cls(np.asarray(table["RANGE"].to_numpy(), np.int64).reshape(-1, 2))
        if "UNIQ" in table.column_names:
            return cls(cell_ranges(np.asarray(table["UNIQ"].to_numpy(), np.int64)))
        raise JobError(f"the MOC has the columns {', '.join(table.column_names)}, expected RANGE or UNIQ")

    def contains(self, ra: Positions, dec: Positions) -> NDArray[np.bool_]:
        """(N,) positions in degrees inside the footprint."""
        pixels = healpix.ang2pix(1 << ORDER, ra, dec, nest=True, lonlat=True).astype(np.int64)
        at = np.searchsorted(self._first, pixels, side="right") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (pixels < np.append(self._stop, 0)[at])
        return inside


def cell_ranges(uniq: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R, 2) the pixels of cells by their NUNIQ numbers, 4 4^order + pixel (MOC 1.1, sec. 2.3.1). Raises JobError."""
    if (uniq < 4).any():
        raise JobError("the MOC holds numbers that are no cells")
    order = np.floor(np.log2(uniq.astype(np.float64) / 4) / 2).astype(np.int64)
    pixel = uniq - (np.int64(4) << (2 * order))
    return np.stack([pixel << (2 * (ORDER - order)), (pixel + 1) << (2 * (ORDER - order))], axis=1)
