"""The cells of the Legacy Surveys' brick grid: which brick owns a position. Read from the survey-bricks tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import JobError

SEAM_DEC = 32.375  # deg; north of it, and of the galactic equator, the north tree owns (imagine, map/views.py)
_POLE = (192.85948, 27.12825)  # deg, ICRS: the north galactic pole (Hipparcos, ESA SP-1200, 1997, vol. 1, 1.5.3)
_CELL = ("ra", "dec", "ra1", "ra2", "dec1", "dec2")
_ROW = 512.0  # more than the degrees of a row: keys of different rows do not meet
_SLACK = 1e-9  # deg: cell edges of neighbours may differ by rounding


def brick_columns(bands: Sequence[str]) -> tuple[str, ...]:
    """The columns of a survey-bricks table that are needed, besides `region`."""
    return ("brickname", *_CELL, *(f"nexp_{band}" for band in bands))


class Bricks:
    """The bricks of one region that count as covered in any of the bands.

    `nexp_<band>` is the median number of exposures over the brick's own area (legacysurvey.org, dr10/files), so a
    brick of which less than half is covered, in every band, counts as outside; and one that is inside may have
    images of a band that it lists as 0.
    """

    def __init__(self, table: pa.Table, bands: Sequence[str]) -> None:
        """Raises JobError where the table lacks columns or holds the same brick twice."""
        missing = [column for column in brick_columns(bands) if column not in table.column_names]
        if missing:
            raise JobError(f"the survey-bricks table lacks the columns {', '.join(missing)}")
        exposures = np.stack([_floats(table, f"nexp_{band}") for band in bands])  # (C, N)
        covered = np.nonzero((exposures > 0).any(axis=0))[0]
        self.names: NDArray[np.str_] = np.asarray(table["brickname"].to_pylist(), dtype=np.str_)[covered]
        self.ra, self.dec, ra1, ra2, dec1, dec2 = (_floats(table, column)[covered] for column in _CELL)
        self.number = dict(zip(self.names.tolist(), range(len(self.names)), strict=True))
        if len(self.number) != len(self.names):
            raise JobError("the survey-bricks table holds a brick twice in one region")
        brick = np.arange(len(self.names))
        wraps = ra1 > ra2  # a cell across RA 0 is two intervals
        self._brick = np.concatenate([brick, brick[wraps]])
        self._ra1 = np.concatenate([ra1, np.zeros(wraps.sum())])
        self._ra2 = np.concatenate([np.where(wraps, 360.0, ra2), ra2[wraps]])
        self._sort(dec1[self._brick], dec2[self._brick])

    def at(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.intp]:
        """(N,) number of the brick whose cell holds each position in degrees, -1 for none (and for NaN)."""
        if len(self._key) == 0:
            return np.full(len(ra), -1, dtype=np.intp)
        ra = np.mod(np.where(np.isfinite(ra), ra, np.nan), 360.0)
        ra = np.where(ra >= 360.0, 0.0, ra)  # the remainder of a tiny negative rounds to 360
        row = np.searchsorted(self._row_dec1, dec, side="right") - 1
        cell = np.maximum(np.searchsorted(self._key, row * _ROW + ra, side="right") - 1, 0)
        cell = np.where(ra < self._ra1[cell], np.maximum(cell - 1, 0), cell)  # keys are coarser than RA
        inside = (row >= 0) & (self._row[cell] == row) & (ra < self._ra2[cell] + _SLACK)
        inside &= (ra >= self._ra1[cell]) & ((dec < self._dec2[cell] + _SLACK) & (dec <= 90.0))
        return np.where(inside, self._brick[cell], -1)

    def _sort(self, dec1: NDArray[np.float64], dec2: NDArray[np.float64]) -> None:
        """Order the cells by row and then RA, with one sorted key for both."""
        edges, row = np.unique(np.round(dec1, 6), return_inverse=True)
        self._row_dec1 = np.full(len(edges), np.inf)
        np.minimum.at(self._row_dec1, row, dec1)
        order = np.lexsort((self._ra1, row))
        self._row = row[order]
        self._brick, self._ra1, self._ra2 = self._brick[order], self._ra1[order], self._ra2[order]
        self._dec2 = dec2[order]
        self._key = self._row * _ROW + self._ra1


def owned_by_north(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) positions in degrees that belong to the north tree: Dec >= 32.375 and galactic b > 0."""
    return (dec >= SEAM_DEC) & in_north_galactic_cap(ra, dec)


def in_north_galactic_cap(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) positions in degrees north of the galactic equator."""
    pole_ra, pole_dec = np.radians(_POLE)
    d = np.radians(dec)
    sin_b = np.sin(pole_dec) * np.sin(d) + np.cos(pole_dec) * np.cos(d) * np.cos(np.radians(ra) - pole_ra)
    north: NDArray[np.bool_] = sin_b > 0
    return north


def _floats(table: pa.Table, column: str) -> NDArray[np.float64]:
    return np.asarray(table[column].to_numpy(), dtype=np.float64)
