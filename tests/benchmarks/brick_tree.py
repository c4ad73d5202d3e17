"""A block of full-size bricks as the survey publishes them, and sources on those in its middle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.mock.files import table_bytes, write
from tests.benchmarks.bricks import BANDS, CELL, SIDE, flux
from tests.skies import tan_header

BLOCK = 4  # bricks a side; sources lie on the inner 2 x 2, so that each has its neighbours
ORIGIN = (150.0, 0.125)  # deg: centre of the first brick, near the equator, where cells are square
SOUTH = "dr10/south"
_RICE = {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "tile_dims": (100, 100)}


def centre(column: int, row: int) -> tuple[float, float]:
    """ra, dec in degrees."""
    return ORIGIN[0] + CELL * column, ORIGIN[1] + CELL * row


def write_tree(root: Path) -> None:
    """Every band of every brick has the same pixels: what is asked for does not depend on them."""
    pixels = flux(0, "r")
    mask = np.zeros((SIDE, SIDE), np.int32)
    mask[1000:1200, 500:700] = 2
    for column in range(BLOCK):
        for row in range(BLOCK):
            _write_brick(root, centre(column, row), pixels, mask)
    write(root / SOUTH / "survey-bricks-dr10-south.fits.gz", table_bytes(_bricks()))


def write_sources(path: Path, per_brick: int, draw: int) -> int:
    """Table number `draw` of positions and radii, as galaxies with r < 19 have them; how many."""
    rng = np.random.default_rng((per_brick, draw))
    count = 4 * per_brick
    low, size = 0.5 * CELL, 2 * CELL
    table = pa.table(
        {
            "object_id": np.arange(count),
            "ra": ORIGIN[0] + low + rng.uniform(0, size, count),
            "dec": ORIGIN[1] + low + rng.uniform(0, size, count),
            "radius": np.exp(rng.normal(np.log(5.0), 0.35, count)).astype(np.float32),
        }
    )
    pq.write_table(table, path)
    return count


def _write_brick(root: Path, place: tuple[float, float], pixels: np.ndarray, mask: np.ndarray) -> None:
    name = _name(*place)
    cards = [{"name": key, "value": value} for key, value in tan_header(*place, SIDE).items()]
    folder = root / SOUTH / "coadd" / name[:3] / name
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for product in (*(f"image-{band}" for band in BANDS), "maskbits"):
        path = folder / f"legacysurvey-{name}-{product}.fits.fz"
        if not path.exists() and product == "maskbits":
            fitsio.write(path, mask, header=cards, compress="HCOMPRESS", tile_dims=(100, 100))
        elif not path.exists():
            fitsio.write(path, pixels, header=cards, dither_seed=1, **_RICE)
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} *coadd/{name[:3]}/{name}/{path.name}\n")
    write(root / SOUTH / f"tractor/{name[:3]}/brick-{name}.sha256sum", "".join(sums).encode())


def _bricks() -> np.ndarray:
    """The survey-bricks table."""
    names = ("brickname", "ra", "dec", "ra1", "ra2", "dec1", "dec2", *(f"nexp_{band}" for band in BANDS))
    rows = []
    for column in range(BLOCK):
        for row in range(BLOCK):
            ra, dec = centre(column, row)
            half = CELL / 2
            rows.append((_name(ra, dec), ra, dec, ra - half, ra + half, dec - half, dec + half, 3, 3, 3))
    kinds = ["U8", *["f8"] * 6, *["i2"] * 3]
    return np.array(rows, dtype=list(zip(names, kinds, strict=True)))


def _name(ra: float, dec: float) -> str:
    return f"{int(ra * 10):04d}p{int(dec * 10):03d}"
