"""Tiles of a Rice-compressed float image, decoded one by one by astropy's codecs.

cfitsio decodes the same bits in 1.5 to 1.9 times the CPU time (`python -m tests.benchmarks.decode`), as it goes
over each tile several times more. The codecs are private to astropy; tests/test_decoding.py compares them with
cfitsio bit by bit, and where an astropy has none, cfitsio does the work.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.tile_table import TileTable
from pipeline.archives.tiles import DecodeTiles
from pipeline.errors import BadImage

try:
    from astropy.io.fits.hdu.compressed._codecs import Rice1
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
    from astropy.io.fits.hdu.compressed._quantization import DITHER_METHODS, Quantize
except ImportError:
    Rice1 = None

_DITHERED = ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")  # FITS standard 4.0, sec. 10.2
_COLUMNS = {"COMPRESSED_DATA", "ZSCALE", "ZZERO"}


def is_rice(cards: Mapping[str, Any], table: TileTable) -> bool:
    """Whether this module decodes such an image: float32, dithered, a scale and a zero for each tile."""
    return (
        Rice1 is not None
        and str(cards.get("ZCMPTYPE", "")).strip() in ("RICE_1", "RICE_ONE")
        and cards.get("ZBITPIX") == -32
        and str(cards.get("ZQUANTIZ", "")).strip() in _DITHERED
        and {*table.columns, *table.spans} >= _COLUMNS
        and "ZBLANK" not in table.columns
    )


class RiceTiles:
    """A `DecodeTiles` over an open file; tiles that were not Rice-compressed come from `others`."""

    def __init__(
        self, descriptor: int, table: TileTable, cards: Mapping[str, Any], others: DecodeTiles, name: str
    ) -> None:
        self._descriptor, self._table, self._others, self._name = descriptor, table, others, name
        self._spans = table.spans["COMPRESSED_DATA"].tolist()
        self._scale, self._zero = table.columns["ZSCALE"].tolist(), table.columns["ZZERO"].tolist()
        self._dither = DITHER_METHODS[str(cards["ZQUANTIZ"]).strip()]
        self._seed = int(cards.get("ZDITHER0", 0))
        self._blank = cards.get("ZBLANK")
        settings = {str(cards[f"ZNAME{n}"]).strip(): cards.get(f"ZVAL{n}") for n in range(1, 9) if f"ZNAME{n}" in cards}
        self._block, self._bytes = int(settings.get("BLOCKSIZE") or 32), int(settings.get("BYTEPIX") or 4)

    def __call__(self, row: int, columns: Sequence[int]) -> list[NDArray[Any]]:
        """Raises BadImage, naming the file, for bytes that are no Rice stream."""
        first = row * self._table.across
        plain = [column for column in columns if self._spans[first + column][0] == self._spans[first + column][1]]
        others = dict(zip(plain, self._others(row, plain), strict=True)) if plain else {}
        return [others[column] if column in others else self._tile(row, column) for column in columns]

    def _tile(self, row: int, column: int) -> NDArray[np.float32]:
        (height, width), (h, w) = self._table.shape, self._table.tile
        shape = min(h, height - row * h), min(w, width - column * w)
        number = row * self._table.across + column
        start, stop = self._spans[number]
        if stop > (size := os.fstat(self._descriptor).st_size):
            raise BadImage(f"{self._name}: cut short: tile {number} ends at byte {stop} of {size}")
        stream = os.pread(self._descriptor, stop - start, start)
        codec = Rice1(blocksize=self._block, bytepix=self._bytes, tilesize=math.prod(shape))
        quantised = Quantize(row=self._seed + number, dither_method=self._dither, quantize_level=None, bitpix=-32)
        try:
            steps = codec.decode(np.frombuffer(stream, np.uint8))
            values = quantised.decode_quantized(steps, self._scale[number], self._zero[number])
        except CfitsioException as error:
            raise BadImage(f"{self._name}: tile {number}: {error}") from error
        tile = np.asarray(values, dtype=np.float32)
        if self._blank is not None:
            tile = np.where(steps == self._blank, np.float32(np.nan), tile)
        return tile.reshape(shape)
