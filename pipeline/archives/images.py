"""One FITS image on disk, read by section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage

_TILE = 100  # pixels: side of the survey's compression tiles (legacypipe, survey.py, get_compression_kwargs)
_FITS = b"SIMPLE  ="


class FitsImage:
    """A `TileImage` by cfitsio: (H, W), or (C, H, W) for a cube or for one band an HDU.

    A section of a compressed image decodes only the tiles that it touches. Once the sections together have cost as
    much as the whole image, that is decoded and kept: never worse than twice the best choice, whatever comes.
    Raises BadImage, naming the file, for all that cannot be decoded.
    """

    def __init__(self, path: Path, name: str) -> None:
        """`name` is what messages call the file."""
        self.name = name
        self.bytes_decoded = 0
        self._spent = 0  # pixels decoded by section
        self._whole: NDArray[Any] | None = None
        try:
            self._file = fitsio.FITS(str(path))
        except OSError as error:
            raise BadImage(f"{name}: {_reason(error)}") from error
        try:
            self._planes = self._image_hdus(path)
            self.header: Mapping[str, Any] = self._cards()
        except (OSError, ValueError) as error:
            self._file.close()
            raise BadImage(f"{name}: {_reason(error)}") from error
        except BadImage:
            self._file.close()
            raise
        dims = tuple(int(side) for side in self._planes[0].get_info()["dims"])
        self.shape = dims if len(self._planes) == 1 else (len(self._planes), *dims)

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1), native byte order, all bands. Raises ValueError outside the image."""
        height, width = self.shape[-2:]
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise ValueError(f"{self.name}: no section [{y0}:{y1}, {x0}:{x1}] in {height}x{width} pixels")
        self._spent += (y1 - y0 + _TILE) * (x1 - x0 + _TILE)  # what the tiles touched hold, on average
        try:
            if self._whole is None and self._compressed and self._spent > height * width:
                self._whole = self._read(np.s_[:, :])
            box = np.s_[y0:y1, x0:x1]
            pixels = self._read(box) if self._whole is None else self._whole[..., y0:y1, x0:x1]
        except (OSError, ValueError) as error:
            raise BadImage(f"{self.name}: {_reason(error)}") from error
        self.bytes_decoded += pixels.nbytes
        return pixels

    @property
    def bytes_held(self) -> int:
        return 0 if self._whole is None else self._whole.nbytes

    def forget(self) -> None:
        """Drop the decoded image; sections are read from the file again."""
        self._whole, self._spent = None, 0

    def close(self) -> None:
        self.forget()
        self._file.close()

    @property
    def _compressed(self) -> bool:
        return bool(self._planes[0].get_info()["is_compressed_image"])

    def _cards(self) -> dict[str, Any]:
        """The cards of the image over those of the primary HDU. Of one band an HDU, BAND0, BAND1, ... name them."""
        primary, *planes = (_cards(hdu) for hdu in (self._file[0], *self._planes))
        names = {f"BAND{i}": _band(cards) for i, cards in enumerate(planes)} if len(planes) > 1 else {}
        return primary | planes[0] | names

    def _read(self, box: tuple[slice, slice]) -> NDArray[Any]:
        planes = [hdu[(slice(None), *box)] if len(hdu.get_dims()) == 3 else hdu[box] for hdu in self._planes]
        pixels = planes[0] if len(planes) == 1 else np.stack(planes)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))

    def _image_hdus(self, path: Path) -> list[Any]:
        """The HDU of the image, or of one band each; invvar and mask HDUs are left out. Raises BadImage."""
        images = [hdu for hdu in self._file if _dimensions(hdu) in (2, 3)]
        if not images:
            raise BadImage(f"{self.name}: holds no image")
        planes = images[:1]
        if _dimensions(images[0]) == 2:
            shape = images[0].get_dims()
            planes += [hdu for hdu in images[1:] if _is_band(hdu, shape) and _is_band(images[0], shape)]
        with path.open("rb") as file:
            packed = file.read(len(_FITS)) != _FITS
        size, end = path.stat().st_size, max(hdu.get_info()["data_end"] for hdu in planes)
        if not packed and size < end:
            raise BadImage(f"{self.name}: cut short: {size} bytes, its headers promise {end}")
        return planes


def _dimensions(hdu: Any) -> int:
    """Axes of an image, 0 for a table."""
    info = hdu.get_info()
    return int(info["ndims"]) if info["hdutype"] == fitsio.IMAGE_HDU or info.get("is_compressed_image") else 0


def _is_band(hdu: Any, shape: list[int]) -> bool:
    """Whether an HDU is the image of one named band."""
    if _dimensions(hdu) != 2 or hdu.get_dims() != shape:
        return False
    cards = _cards(hdu)
    return bool(_band(cards)) and str(cards.get("IMAGETYP", "image")).strip() == "image"


def _band(cards: Mapping[str, Any]) -> str:
    return next((str(cards[key]).strip() for key in ("BAND", "BAND0", "FILTER") if cards.get(key)), "")


def _cards(hdu: Any) -> dict[str, Any]:
    header = hdu.read_header()
    return {key: header[key] for key in header if key and key not in ("COMMENT", "HISTORY", "CONTINUE")}


def _reason(error: Exception) -> str:
    """The first line of what cfitsio says, which can run to a page."""
    return " ".join(str(error).split())[:200] or type(error).__name__
