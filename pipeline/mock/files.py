"""FITS files as the survey writes them, with the same bytes every time: no clock gets into a header."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.mock.light import STEP

Cards = list[dict[str, Any]]
_TILE = (100, 100)  # pixels of a compression tile (archives.md 1.3)
_CHECKSUM_COMMENT = "mock sky"  # instead of the time at which the checksum was taken


def image_bytes(pixels: NDArray[Any], cards: Cards) -> bytes:
    """A compressed image in HDU 1, as legacypipe's `get_compression_kwargs` has it (archives.md 1.3).

    float32: Rice with an absolute step and subtractive dithering, zeros kept exact; int32: HCOMPRESS, lossless.
    """
    if pixels.dtype == np.float32:
        how: dict[str, Any] = {
            "compress": "RICE",
            "qlevel": -STEP,
            "qmethod": "SUBTRACTIVE_DITHER_2",
            "dither_seed": "checksum",
        }
    else:
        how = {"compress": "HCOMPRESS"}
    with fitsio.FITS("mem://", "rw") as file:
        file.write(pixels, header=fitsio.FITSHDR(cards), tile_dims=_TILE, **how)
        return _checksummed(file.read_raw())


def table_bytes(rows: NDArray[Any], cards: Cards | None = None) -> bytes:
    """A binary table in HDU 1; (N,) structured."""
    with fitsio.FITS("mem://", "rw") as file:
        file.write_table(rows, header=fitsio.FITSHDR(cards or []))
        return _checksummed(file.read_raw())


def write(path: Path, data: bytes) -> str:
    """Write `data` below new folders, gzipped where the name ends in .gz; the SHA-256 of the file."""
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _checksummed(raw: bytes) -> bytes:
    """The same file with CHECKSUM and DATASUM in every HDU; cfitsio's own would carry the time."""
    out = io.BytesIO()
    with fits.open(io.BytesIO(raw), disable_image_compression=True) as hdus:
        for hdu in hdus:
            hdu.add_checksum(when=_CHECKSUM_COMMENT)
        hdus.writeto(out)
    return out.getvalue()
