"""One FITS image on disk, read by section."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from pipeline.archives.streams import check_streams
from pipeline.archives.tile_table import TileTable, all_spans
from pipeline.archives.tiles import DecodedTiles
from pipeline.errors import BadImage

_FITS = b"SIMPLE  ="
_PLAIN = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # BITPIX (FITS 4.0, table 8)


class FitsImage:
    """A `TileImage` on this disk: (H, W), or (C, H, W) for a cube or for one band an HDU.

    Of a compressed image each tile is decoded once for all the sections that need it, and no other tile is: no
    number of sources makes the whole image cheaper. A plain image is mapped into memory, so that a section costs
    the copy of its pixels. The rest (cubes, scaled pixels, files that are zipped as a whole) is cfitsio's.
    Raises BadImage, naming the file, for all that cannot be decoded.
    """

    def __init__(self, path: Path, name: str) -> None:
        """`name` is what messages call the file."""
        self.name = name
        self.bytes_decoded = 0
        self._path = path
        self._tiles: DecodedTiles | None = None
        self._mapped: NDArray[Any] | None = None
        self._file = self._opened()
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self._planes = self._image_hdus()
            self.header: Mapping[str, Any] = self._cards()
            dims = _shape(self._planes[0])
            if len(self._planes) == 1 and len(dims) == 2:
                self._find_pixels()
            if self._tiles is None:
                self._check_planes()
        except (OSError, ValueError, TypeError, ArithmeticError) as error:  # a card without a value is a TypeError
            self.close()
            raise BadImage(f"{name}: {_reason(error)}") from error
        except BadImage:
            self.close()
            raise
        self.shape = dims if len(self._planes) == 1 else (len(self._planes), *dims)

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1), native byte order, all bands. Raises ValueError outside the image."""
        height, width = self.shape[-2:]
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise ValueError(f"{self.name}: no section [{y0}:{y1}, {x0}:{x1}] in {height}x{width} pixels")
        try:
            if self._tiles is not None:
                pixels = self._tiles.section(y0, y1, x0, x1)
            elif self._mapped is not None:
                pixels = _native(self._mapped[y0:y1, x0:x1])
            else:
                pixels = self._read(np.s_[y0:y1, x0:x1])
        except (OSError, ValueError, KeyError) as error:  # fitsio of a kind of pixel that it has not
            raise BadImage(f"{self.name}: {_reason(error)}") from error
        self.bytes_decoded += pixels.nbytes
        return pixels

    @property
    def bytes_held(self) -> int:
        return 0 if self._tiles is None else self._tiles.bytes_held

    def forget(self) -> None:
        """Drop the decoded tiles; they are decoded again when they are needed."""
        if self._tiles is not None:
            self._tiles.forget()

    def refresh(self) -> None:
        """Take notice that the file was written to: cfitsio keeps blocks of it. Decoded tiles stay."""
        self._file.close()
        self._file = self._opened()
        self._planes = self._image_hdus()

    def close(self) -> None:
        self._tiles = self._mapped = None
        self._file.close()
        os.close(self._descriptor)

    def _opened(self) -> Any:
        try:
            return fitsio.FITS(str(self._path))
        except (OSError, ValueError) as error:  # cards that are no text are a ValueError
            raise BadImage(f"{self.name}: {_reason(error)}") from error

    def _find_pixels(self) -> None:
        """How the one plane of this image is read fastest."""
        info, cards = self._planes[0].get_info(), _cards(self._planes[0])
        if _is_packed(self._path):
            return
        if info["is_compressed_image"]:
            from pipeline.archives.rice import (  # here: a plan decodes nothing, and astropy takes 0.2 s
                RiceTiles,
                is_rice,
            )

            rows = self._rows(cards, info["data_start"])
            table = self._table = TileTable.of(cards, rows, info["data_start"], self.name)
            self._codec = str(cards.get("ZCMPTYPE", "")).strip()
            rice = is_rice(cards, table)
            decode = RiceTiles(self._descriptor, table, cards, self._cfitsio_tiles, self.name) if rice else None
            self._tiles = DecodedTiles(table.tile, decode or self._cfitsio_tiles)
        elif _is_unscaled(cards):
            shape = int(cards["NAXIS2"]), int(cards["NAXIS1"])
            self._mapped = np.memmap(self._path, _PLAIN[int(cards["BITPIX"])], "r", info["data_start"], shape)

    def _cfitsio_tiles(self, row: int, columns: Sequence[int]) -> list[NDArray[Any]]:
        """A `DecodeTiles` for every compression that cfitsio knows."""
        (height, width), (h, w) = self.shape, self._table.tile
        numbers = [row * self._table.across + column for column in columns]
        check_streams(self._descriptor, self._codec, self._table.spans, numbers, h * w, self.name)
        left = columns[0] * w
        run = self._read(np.s_[row * h : min(row * h + h, height), left : min(columns[-1] * w + w, width)])
        return [run[:, column * w - left : column * w - left + w] for column in columns]

    def _check_planes(self) -> None:
        """Look at all compressed tiles of planes that cfitsio will read as they stand."""
        for hdu in self._planes:
            info, cards = hdu.get_info(), _cards(hdu)
            if not info["is_compressed_image"]:
                continue
            if _is_packed(self._path):
                raise BadImage(f"{self.name}: compressed tiles in a file that is zipped as a whole")
            spans = all_spans(cards, self._rows(cards, info["data_start"]), info["data_start"], self.name)
            sides = [int(cards.get("ZTILE1", cards["ZNAXIS1"])), *(int(cards.get(f"ZTILE{n}", 1)) for n in (2, 3, 4))]
            codec = str(cards.get("ZCMPTYPE", "")).strip()
            check_streams(self._descriptor, codec, spans, range(int(cards["NAXIS2"])), math.prod(sides), self.name)

    def _rows(self, cards: Mapping[str, Any], start: int) -> bytes:
        """The table of compressed tiles."""
        return os.pread(self._descriptor, int(cards["NAXIS1"]) * int(cards["NAXIS2"]), start)

    def _cards(self) -> dict[str, Any]:
        """The cards of the image over those of the primary HDU. Of one band an HDU, BAND0, BAND1, ... name them."""
        primary, *planes = (_cards(hdu) for hdu in (self._file[0], *self._planes))
        names = {f"BAND{i}": _band(cards) for i, cards in enumerate(planes)} if len(planes) > 1 else {}
        return primary | planes[0] | names

    def _read(self, box: tuple[slice, slice]) -> NDArray[Any]:
        planes = [_section(hdu, box) for hdu in self._planes]
        pixels = planes[0] if len(planes) == 1 else np.stack(planes)
        return _native(pixels)

    def _image_hdus(self) -> list[Any]:
        """The HDU of the image, or of one band each; invvar and mask HDUs are left out. Raises BadImage."""
        images = [hdu for hdu in self._file if len(_shape(hdu)) in (2, 3)]
        if not images:
            raise BadImage(f"{self.name}: holds no image")
        planes = images[:1]
        if len(_shape(images[0])) == 2:
            shape = images[0].get_dims()
            planes += [hdu for hdu in images[1:] if _is_band(hdu, shape) and _is_band(images[0], shape)]
        size, end = self._path.stat().st_size, max(hdu.get_info()["data_end"] for hdu in planes)
        if size < end and not _is_packed(self._path):
            raise BadImage(f"{self.name}: cut short: {size} bytes, its headers promise {end}")
        return planes


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.isnative:
        return np.ascontiguousarray(pixels)
    copied = np.array(pixels, order="C", subok=False)  # then swapped in place: half the time of a converting copy
    return copied.byteswap(inplace=True).view(copied.dtype.newbyteorder("="))


def _is_packed(path: Path) -> bool:
    """Whether the file is zipped as a whole."""
    with path.open("rb") as file:
        return file.read(len(_FITS)) != _FITS


def _is_unscaled(cards: Mapping[str, Any]) -> bool:
    return cards.get("BSCALE", 1) == 1 and cards.get("BZERO", 0) == 0 and "BLANK" not in cards


def _shape(hdu: Any) -> tuple[int, ...]:
    """Of an image, () of a table. Radio maps have axes of one Stokes value and one frequency: at most one is kept."""
    info = hdu.get_info()
    if not (info["hdutype"] == fitsio.IMAGE_HDU or info.get("is_compressed_image")) or not info["ndims"]:
        return ()
    dims = tuple(int(side) for side in info["dims"])
    while len(dims) > 3 and dims[0] == 1:
        dims = dims[1:]
    return dims


def _section(hdu: Any, box: tuple[slice, slice]) -> NDArray[Any]:
    """The box of every plane."""
    more = len(hdu.get_dims()) - 2
    pixels: NDArray[Any] = hdu[(*(slice(None),) * more, *box)]
    return pixels.reshape(pixels.shape[more - 1 :]) if more > 1 else pixels


def _is_band(hdu: Any, shape: list[int]) -> bool:
    """Whether an HDU is the image of one named band."""
    if len(_shape(hdu)) != 2 or hdu.get_dims() != shape:
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
