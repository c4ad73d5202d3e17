"""Reads the mock sky back, for the tests: images, catalogues and the truth of a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from pipeline.mock.images import SKY_RESIDUAL

PIXEL = 0.262  # arcsec
FIRST, LAST = "1498p020", "1501p022"  # of the tiny tree: the brick with the empty corner, the one without z
Pixels = NDArray[Any]


def coadd(root: Path, brick: str, product: str) -> Path:
    return root / f"dr10/south/coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-{product}.fits.fz"


def image(root: Path, brick: str, band: str = "r") -> tuple[Pixels, WCS]:
    """(H, W) flux and its WCS."""
    path = coadd(root, brick, f"image-{band}")
    return fitsio.read(path, ext=1), WCS(fits.getheader(path, 1))


def truth(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "truth/truth.parquet").to_pylist()


def tractor(root: Path, brick: str) -> Pixels:
    return fitsio.read(root / f"dr10/south/tractor/{brick[:3]}/tractor-{brick}.fits", ext=1)


def sweeps(root: Path) -> Pixels:
    return np.concatenate([fitsio.read(path) for path in sorted((root / "dr10/south/sweep/10.1").iterdir())])


def bricks(root: Path) -> Pixels:
    return fitsio.read(root / "dr10/south/survey-bricks-dr10-south.fits.gz", ext=1)


def around(root: Path, galaxy: dict[str, Any], width: float) -> tuple[Pixels, Pixels, Pixels]:
    """Flux, and offsets to the east and north in arcsec, of the pixels within `width` arcsec in its own brick."""
    flux, wcs = image(root, galaxy["brick"])
    x0, y0 = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
    y, x = np.mgrid[: flux.shape[0], : flux.shape[1]]
    near = np.hypot(x - x0, y - y0) * PIXEL < width / 2
    return flux[near] - SKY_RESIDUAL, (x0 - x[near]) * PIXEL, (y[near] - y0) * PIXEL
