"""What the mock sky really holds: one row a galaxy, with a mask of its pixels for tests of attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.mock.light import Light
from pipeline.mock.sources import ZEROPOINT, Galaxy

MASK_SIDE = 64  # pixels
ISOPHOTE = 25.0  # r mag / arcsec2 of the edge of a galaxy, as in D25 of de Vaucouleurs' catalogues

_DOC = {
    "class": "round, in_between, cigar, edge_on, spiral or merger",
    "ra": "deg, ICRS; of a merger: the larger galaxy",
    "dec": "deg, ICRS",
    "radius": "arcsec, half-light, along the major axis; of a merger: the scale of the pair",
    "axis_ratio": "minor over major axis; of a merger: the larger galaxy",
    "position_angle": "deg, major axis, east of north",
    "mag_r": "AB, not dereddened",
    "brick": "brick whose cell holds the position",
    "release": "with brickid and objid: the identifier of the survey",
    "targetid": "(release << 42) | (brickid << 22) | objid",
    "mask": "64x64 pixels in 512 bytes, numpy.packbits of rows from north to south, each from east to west: "
    "True where the galaxy alone, as seen, is brighter than 25 r mag / arcsec2",
    "mask_width": "arcsec from side to side of the mask, centred on the position",
}


def target_id(release: int, brickid: int, objid: int) -> int:
    """DESI's packing (archives.md 1.3)."""
    return (release << 42) | (brickid << 22) | objid


def truth_table(
    galaxies: Sequence[Galaxy],
    lights: Sequence[Light],
    identifiers: Sequence[tuple[str, int, int, int]],
) -> pa.Table:
    """One row a galaxy; `identifiers` are (brick, release, brickid, objid). Field metadata say what each column is."""
    masks = [(width, galaxy_mask(light, width)) for light, width in zip(lights, map(mask_width, galaxies), strict=True)]
    bricks, releases, brickids, objids = zip(*identifiers, strict=True)
    columns: dict[str, pa.Array] = {
        "class": pa.array([g.kind for g in galaxies], pa.string()),
        "ra": pa.array([g.ra for g in galaxies], pa.float64()),
        "dec": pa.array([g.dec for g in galaxies], pa.float64()),
        "radius": pa.array([g.radius for g in galaxies], pa.float32()),
        "axis_ratio": pa.array([g.axis_ratio for g in galaxies], pa.float32()),
        "position_angle": pa.array([g.angle for g in galaxies], pa.float32()),
        "mag_r": pa.array([g.r_mag for g in galaxies], pa.float32()),
        "brick": pa.array(bricks, pa.string()),
        "release": pa.array(releases, pa.int16()),
        "brickid": pa.array(brickids, pa.int32()),
        "objid": pa.array(objids, pa.int32()),
        "targetid": pa.array([target_id(*i[1:]) for i in identifiers], pa.int64()),
        "mask": pa.array([np.packbits(mask).tobytes() for _, mask in masks], pa.binary()),
        "mask_width": pa.array([width for width, _ in masks], pa.float32()),
    }
    fields = [
        pa.field(name, column.type, nullable=False, metadata={"description": _DOC.get(name, "")})
        for name, column in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def mask_width(galaxy: Galaxy) -> float:
    """Arcsec: the field of view of the image contract, 8.5 half-light radii within 16 to 256 arcsec."""
    return float(np.clip(8.5 * galaxy.radius, 16.0, 256.0))


def galaxy_mask(light: Light, width: float, offset: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.bool_]:
    """(64, 64) True on the galaxy; north up, east left, as networks see it.

    `offset` is where it stands from the centre, to the west and the north, in sides of the mask.
    """
    scale = width / MASK_SIDE
    # GalSim's u runs west and v north: columns already run from east to west, rows from south to north.
    drawn = (
        light.seen("r")
        .shift(offset[0] * width, offset[1] * width)
        .drawImage(nx=MASK_SIDE, ny=MASK_SIDE, scale=scale, method="no_pixel", dtype=np.float32, use_true_center=True)
    )
    edge = 10 ** (0.4 * (ZEROPOINT - ISOPHOTE)) * scale**2  # nanomaggies a mask pixel
    return np.asarray(drawn.array[::-1] > edge)
