"""The decoded tiles of one image: each is decoded once, however many cutouts need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16 << 20  # bytes: what numpy asks the kernel for in huge pages, so that few faults are taken

DecodeTiles = Callable[[int, Sequence[int]], list[NDArray[Any]]]
"""The tiles of a row of tiles, by the numbers of row and columns, native byte order."""


class DecodedTiles:
    """Sections of an image that is stored in tiles."""

    def __init__(self, tile: tuple[int, int], decode: DecodeTiles) -> None:
        """`tile`: (H, W) of a whole tile."""
        self._tile, self._decode = tile, decode
        self._tiles: dict[tuple[int, int], NDArray[Any]] = {}
        self._block = np.empty(0, np.uint8)  # what is free of the newest
        self.bytes_held = 0

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1), which the image has."""
        height, width = self._tile
        first, last = x0 // width, (x1 - 1) // width
        rows = {row: self._row(row, first, last) for row in range(y0 // height, (y1 - 1) // height + 1)}
        pixels = np.empty((y1 - y0, x1 - x0), rows[y0 // height][0].dtype)
        for row, tiles in rows.items():
            top = row * height
            upper, lower = max(y0, top), min(y1, top + height)
            for number, tile in enumerate(tiles, first):
                left = number * width
                west, east = max(x0, left), min(x1, left + width)
                part = tile[upper - top : lower - top, west - left : east - left]
                pixels[upper - y0 : lower - y0, west - x0 : east - x0] = part
        return pixels

    def forget(self) -> None:
        """Drop what was decoded; it is decoded again when it is needed."""
        self._tiles.clear()
        self._block = np.empty(0, np.uint8)
        self.bytes_held = 0

    def _row(self, row: int, first: int, last: int) -> list[NDArray[Any]]:
        """Tiles [first, last] of a row of tiles."""
        missing = [number for number in range(first, last + 1) if (row, number) not in self._tiles]
        if missing:
            for number, tile in zip(missing, self._decode(row, missing), strict=True):
                self._tiles[row, number] = self._kept(tile)
        return [self._tiles[row, number] for number in range(first, last + 1)]

    def _kept(self, tile: NDArray[Any]) -> NDArray[Any]:
        """A copy in memory that is asked for in large blocks."""
        if len(self._block) < tile.nbytes:
            self._block = np.empty(max(_BLOCK, tile.nbytes), np.uint8)
        kept = self._block[: tile.nbytes].view(tile.dtype).reshape(tile.shape)
        kept[...] = tile
        self._block = self._block[tile.nbytes :]
        self.bytes_held += tile.nbytes
        return kept
