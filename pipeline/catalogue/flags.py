"""The row flags that follow from a source's neighbours and from its photometry, set when a catalogue is published.

The other bits of `flags` come from the image: `stages.load` and `stages.predict` set them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.catalogue.cells import Points, pairs
from pipeline.data import RowFlag

# Arcsec between sources below which they are a close pair whatever their radii. Our choice, twice the FWHM of ordinary
# seeing for DECam in g (CCD tables of the test images: median 1.23): nearer, the two run into one in the image.
CLOSEST = 2.6
FARTHEST = 10.0  # arcsec between sources that can be a close pair: the margin of the published catalogue
SAME = 1.0  # arcsec between two rows of one galaxy: more than the astrometric error, less than the seeing
BLENDED_FRACTION = 1.0  # fracflux: light of the neighbours under the source's profile, over its own light: as much
NEEDED = ("_healpix_29", "object_id", "ra", "dec", "radius", "tile")
"""The columns of a row that its neighbours' flags depend on; `photsys` belongs to them where the table has it."""
_REGIONS = {"N": "north", "S": "south"}  # photsys of the Legacy Surveys -> the tree of its tiles


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Rows in the order of the sky, as far as their neighbours need to know them."""

    points: Points
    radius: NDArray[np.float32]  # (N,) arcsec, 0 where there is none
    foreign: NDArray[np.bool_]  # (N,) measured in the other part of the survey than the one that owns the position

    @classmethod
    def of(cls, rows: pa.Table) -> Surroundings:
        """Rows with the columns NEEDED, in ascending order of `_healpix_29`."""
        ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
        radius = np.nan_to_num(rows["radius"].to_numpy(zero_copy_only=False).astype(np.float32))
        return cls(Points.of(rows["_healpix_29"].to_numpy(), ra, dec), radius, _foreign(rows))


def row_flags(rows: pa.Table, around: Surroundings, own: NDArray[np.int64]) -> pa.Array:
    """(N,) the column `flags` of rows, with CLOSE_PAIR, SEAM, UNRESOLVED and BLENDED where they apply.

    `around` are these rows and those within FARTHEST of them, and `own` (N,) the place of each row in it.
    """
    flags = rows["flags"].to_numpy().copy()
    close, twice = neighbour_flags(around, own)
    flags[close] |= RowFlag.CLOSE_PAIR
    flags[twice] |= RowFlag.SEAM
    kind, light = source_column(rows, "type"), source_column(rows, "fracflux_r")
    if kind is not None and pa.types.is_string(kind.type):
        point = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(kind), "PSF"), False)  # Tractor's model of a point
        flags[point.to_numpy(zero_copy_only=False)] |= RowFlag.UNRESOLVED
    if light is not None and pa.types.is_floating(light.type):
        fraction = light.to_numpy(zero_copy_only=False)
        flags[fraction > BLENDED_FRACTION] |= RowFlag.BLENDED
    return pa.array(flags, pa.int32())


def neighbour_flags(around: Surroundings, own: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) whether the rows `own` have a neighbour close enough to confuse, and (N,) whether they are there twice.

    Close is nearer than CLOSEST, or than both half-light radii together. There twice is a row that another one within
    SAME repeats, of the part of the survey that owns the position: without those rows no galaxy is there twice.
    """
    here = Points(around.points.pixels[own], around.points.vectors[own])
    left, right, angle = pairs(here, around.points, np.radians(FARTHEST / 3600))
    other = own[left] != right
    left, right, arcsec = left[other], right[other], np.degrees(angle[other]) * 3600
    reach = np.maximum(CLOSEST, around.radius[own[left]] + around.radius[right])
    close, twice = np.zeros(len(own), bool), np.zeros(len(own), bool)
    close[left[arcsec < reach]] = True
    twice[left[(arcsec <= SAME) & around.foreign[own[left]] & ~around.foreign[right]]] = True
    return close, twice


def source_column(rows: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column of the source table by its name in any case, None where it is not there."""
    found = [column for column in rows.column_names if column.lower() == name]
    return rows[found[0]] if found else None


def _foreign(rows: pa.Table) -> NDArray[np.bool_]:
    photsys = source_column(rows, "photsys")
    if photsys is None or not pa.types.is_string(photsys.type):
        return np.zeros(rows.num_rows, bool)
    foreign = np.zeros(rows.num_rows, bool)
    for letter, region in _REGIONS.items():
        measured = pc.fill_null(pc.equal(photsys, letter), False)
        owned = pc.starts_with(rows["tile"], f"{region}/")
        elsewhere = pc.and_(measured, pc.and_(pc.not_equal(rows["tile"], ""), pc.invert(owned)))
        foreign |= elsewhere.to_numpy(zero_copy_only=False)
    return foreign
