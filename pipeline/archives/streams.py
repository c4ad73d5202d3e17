"""Whether the bytes of compressed tiles may be given to cfitsio, which trusts them.

An HCOMPRESS stream that is cut short ends the process with a signal, and a gzip stream that is cut short is inflated
without end (fitsio 1.4.2).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage

_HCOMPRESS = struct.Struct(
    ">2siiiq3B"
)  # magic, nx, ny, scale, sum, bit planes (White 1992; cfitsio fits_hdecompress.c)
_MAGIC = b"\xdd\x99"
_LARGEST = 8  # bytes of a pixel
_GZIP = 31  # zlib's word for a gzip header and the largest window


def check_streams(
    descriptor: int,
    codec: str,
    spans: Mapping[str, NDArray[np.int64]],
    tiles: Sequence[int],
    pixels: int,
    name: str,
) -> None:
    """Look at those tiles, of `pixels` each at most, in the file that is open; `spans` as a `TileTable` has them.

    Raises BadImage, naming the file, for one that would harm whoever decodes it.
    """
    checks = {"GZIP_COMPRESSED_DATA": _check_gzip, "COMPRESSED_DATA": _check_of(codec)}
    size = os.fstat(descriptor).st_size
    for column, tile in product(spans, tiles):
        start, stop = map(int, spans[column][tile])
        if stop > size:
            raise BadImage(f"{name}: cut short: tile {tile} ends at byte {stop} of {size}")
        check = checks.get(column)
        problem = check(os.pread(descriptor, stop - start, start), pixels) if check and start < stop else ""
        if problem:
            raise BadImage(f"{name}: tile {tile} is {problem}")


def _check_of(codec: str) -> Callable[[bytes, int], str] | None:
    if codec.startswith("HCOMPRESS"):
        return _check_hcompress
    return _check_gzip if codec.startswith("GZIP") else None


def _check_hcompress(stream: bytes, pixels: int) -> str:
    if len(stream) < _HCOMPRESS.size:
        return f"{len(stream)} bytes long, an HCOMPRESS stream has at least {_HCOMPRESS.size}"
    magic, nx, ny, *_ = _HCOMPRESS.unpack_from(stream)
    if magic != _MAGIC or nx < 1 or ny < 1 or nx * ny > pixels:
        return f"no HCOMPRESS stream of at most {pixels} pixels: it starts with {stream[:10].hex()}"
    return ""


def _check_gzip(stream: bytes, pixels: int) -> str:
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflater.decompress(stream, pixels * _LARGEST)
    except zlib.error as error:
        return f"no gzip stream: {error}"
    return "" if inflater.eof else f"a gzip stream that is cut short, or of more than {pixels} pixels"
