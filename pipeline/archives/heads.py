"""What the beginning of a FITS file says of where its pixels are."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.tile_table import PixelBox, Span, TileTable
from pipeline.errors import BadImage

if TYPE_CHECKING:
    from astropy.io.fits import Header

BLOCK = 2880  # bytes: every FITS file is a whole number of these (FITS standard 4.0, sec. 3.1)
FIRST = 1 << 16  # bytes of the first read: headers and table of a brick's 1,296 tiles (archives.md 3.3)
_FITS = b"SIMPLE  ="
_LARGEST = 1 << 40  # bytes: no survey has a larger file


class Places(Protocol):
    """Where in its file the pixels of a two-dimensional image are."""

    def pieces(self, boxes: Iterable[PixelBox]) -> NDArray[np.int64]:
        """(M, 2) the bytes [start, stop) that decoding the boxes takes, in the order of the file."""
        ...


@dataclass(frozen=True, slots=True)
class PlainPixels:
    """`Places` of an image that is not compressed: a row of pixels after the other."""

    shape: tuple[int, int]
    start: int  # of the first pixel
    size: int  # bytes a pixel

    def pieces(self, boxes: Iterable[PixelBox]) -> NDArray[np.int64]:
        """A piece for each row of each box."""
        spans = []
        for y0, y1, x0, x1 in boxes:
            begin = self.start + (np.arange(y0, y1, dtype=np.int64) * self.shape[1] + x0) * self.size
            spans.append(np.stack([begin, begin + (x1 - x0) * self.size], axis=1))
        found = np.concatenate(spans) if spans else np.empty((0, 2), np.int64)
        return found[found[:, 0].argsort(kind="stable")]


@dataclass(frozen=True, slots=True)
class Head:
    """The first image of a file, and what has to be read before any of its pixels."""

    places: Places
    stop: int  # bytes of the file up to its pixels: headers, and the table of a compressed image
    end: int  # of the HDU: what is behind it is not read


def head_of(data: bytes, name: str) -> Head | int | None:
    """From the first bytes of a file: the head; how many bytes hold it; or None for a file to be read whole.

    Whole: a file that is zipped as a whole, and one whose first image is a cube.
    Raises BadImage, naming the file, where the headers are none.
    """
    if not data.startswith(_FITS):
        return None
    from astropy.io.fits import VerifyError  # here: a plan has none to read, and astropy takes 0.2 s

    try:
        return _first_image(data[: len(data) // BLOCK * BLOCK], name)
    except (KeyError, ValueError, TypeError, VerifyError) as error:
        raise BadImage(f"{name}: {' '.join(str(error).split())[:200]}") from error


def _first_image(data: bytes, name: str) -> Head | int | None:
    from astropy.io.fits import Header

    offset = 0
    while offset < len(data):
        stream = io.BytesIO(data[offset:])
        try:
            header = Header.fromfile(stream)
        except (OSError, EOFError):
            return 2 * len(data)  # the header goes on
        start = offset + stream.tell()
        end = start + header.data_size_padded
        if not isinstance(end, int) or not start <= end <= _LARGEST:
            raise ValueError(f"its headers promise {end - start} bytes of data")
        if header.get("ZIMAGE"):
            return _compressed(data, header, start, end, name)
        if header.get("XTENSION", "IMAGE").strip() == "IMAGE" and header["NAXIS"] > 0:
            return _plain(header, start, end)
        offset = end
    return offset + BLOCK


def _compressed(data: bytes, header: Header, start: int, end: int, name: str) -> Head | int | None:
    if header.get("ZNAXIS") != 2:
        return None
    stop = start + header["NAXIS1"] * header["NAXIS2"]
    if len(data) < stop:
        return -(-int(stop) // BLOCK) * BLOCK
    return Head(TileTable.of(dict(header), data[start:stop], start, name), stop, end)


def _plain(header: Header, start: int, end: int) -> Head | None:
    if header["NAXIS"] != 2:
        return None
    shape = header["NAXIS2"], header["NAXIS1"]
    return Head(PlainPixels(shape, start, abs(header["BITPIX"]) // 8), start, end)


def merged(pieces: NDArray[np.int64], gap: int) -> list[Span]:
    """(M, 2) pieces in order -> what to ask for: gaps of at most so many bytes are filled."""
    if not len(pieces):
        return []
    stops = np.maximum.accumulate(pieces[:, 1])
    breaks = np.flatnonzero(pieces[1:, 0] - stops[:-1] > gap)
    starts = pieces[np.append(0, breaks + 1), 0]
    return list(zip(starts.tolist(), stops[np.append(breaks, len(stops) - 1)].tolist(), strict=True))
