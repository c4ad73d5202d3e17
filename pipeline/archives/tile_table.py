"""Where the tiles of a compressed image lie in its file: the binary table of FITS standard 4.0, sec. 10.1."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage

Span = tuple[int, int]  # bytes [start, stop) of a file
PixelBox = tuple[int, int, int, int]  # y0, y1, x0, x1: pixels [y0, y1) x [x0, x1) of an image

_SIZES = {"L": 1, "X": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}  # bytes, table 18
_FORMAT = re.compile(r"\s*(\d*)([LXBIJKAEDCMPQ])([LXBIJKAEDCM]?)")


@dataclass(frozen=True, slots=True, eq=False)
class TileTable:
    """The T tiles of an image, row after row of tiles."""

    shape: tuple[int, int]  # (H, W) of the image
    tile: tuple[int, int]  # (H, W) of a whole tile; those at the upper edges may be smaller
    columns: Mapping[str, NDArray[Any]]  # the numbers of the table: (T,) a column
    spans: Mapping[str, NDArray[np.int64]]  # (T, 2) bytes [start, stop) of the file, a column of arrays

    @classmethod
    def of(cls, cards: Mapping[str, Any], rows: bytes, data_start: int, name: str) -> Self:
        """From the cards of the table's header, its rows, and where in the file the first of them is.

        Raises BadImage, naming the file, for a table that holds no two-dimensional image.
        """
        try:
            shape = int(cards["ZNAXIS2"]), int(cards["ZNAXIS1"])
            tile = int(cards.get("ZTILE2", 1)), int(cards.get("ZTILE1", shape[1]))
            count = math.prod(-(-side // step) for side, step in zip(shape, tile, strict=True))
            numbers, spans = _columns(cards, rows, data_start, count)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise BadImage(f"{name}: no table of compressed tiles: {error}") from error
        return cls(shape, tile, numbers, spans)

    @property
    def across(self) -> int:
        """Tiles in a row of tiles."""
        return -(-self.shape[1] // self.tile[1])

    def touched(self, boxes: Iterable[PixelBox]) -> NDArray[np.int64]:
        """(M,) numbers of the tiles that the boxes meet, each once, in order."""
        height, width = self.tile
        wanted = np.zeros((-(-self.shape[0] // height), self.across), np.bool_)
        for y0, y1, x0, x1 in boxes:
            wanted[y0 // height : (y1 - 1) // height + 1, x0 // width : (x1 - 1) // width + 1] = True
        return np.flatnonzero(wanted)

    def pieces(self, boxes: Iterable[PixelBox]) -> NDArray[np.int64]:
        """(M, 2) the bytes of the tiles that the boxes meet, in the order of the file."""
        tiles = self.touched(boxes)
        found = np.concatenate([spans[tiles] for spans in self.spans.values()])
        found = found[found[:, 1] > found[:, 0]]
        return found[found[:, 0].argsort(kind="stable")]


def all_spans(cards: Mapping[str, Any], rows: bytes, data_start: int, name: str) -> Mapping[str, NDArray[np.int64]]:
    """As `TileTable.spans`, of an image of any number of dimensions. Raises BadImage like `TileTable.of`."""
    try:
        return _columns(cards, rows, data_start, int(cards["NAXIS2"]))[1]
    except (KeyError, TypeError, ValueError) as error:
        raise BadImage(f"{name}: no table of compressed tiles: {error}") from error


def _columns(
    cards: Mapping[str, Any], rows: bytes, data_start: int, count: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    """The numbers of the first `count` rows, and where their arrays are."""
    table = np.frombuffer(rows, _row_type(cards), count=count)
    heap = data_start + int(cards.get("THEAP", int(cards["NAXIS1"]) * int(cards["NAXIS2"])))
    numbers = {key: table[key].astype(table[key].dtype.newbyteorder("=")) for key in table.dtype.names or ()}
    spans = {}
    for key, size in _array_columns(cards).items():
        length, offset = numbers.pop(key).astype(np.int64).T
        if (length < 0).any() or (offset < 0).any():
            raise ValueError(f"a tile of {key} begins before the file's heap")
        spans[key] = np.stack([heap + offset, heap + offset + length * size], axis=1)
    return numbers, spans


def _row_type(cards: Mapping[str, Any]) -> np.dtype[Any]:
    """A row of the table; arrays are two numbers, length and offset."""
    fields: list[tuple[str, Any]] = []
    for number in range(1, int(cards["TFIELDS"]) + 1):
        repeat, kind, _ = _format(cards, number)
        name = str(cards.get(f"TTYPE{number}", f"column {number}")).strip().upper()
        if kind in "PQ":
            fields.append((name, (">i4" if kind == "P" else ">i8", 2)))
        elif kind in "IJKED" and repeat == 1:
            fields.append((name, {"I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}[kind]))
        else:
            fields.append((name, (np.void, repeat * _SIZES[kind])))
    row = np.dtype(fields)
    if row.itemsize != int(cards["NAXIS1"]):
        raise ValueError(f"columns of {row.itemsize} bytes in rows of {cards['NAXIS1']}")
    return row


def _array_columns(cards: Mapping[str, Any]) -> dict[str, int]:
    """Column of arrays -> bytes of an element. Raises ValueError where there is none."""
    formats = {n: _format(cards, n) for n in range(1, int(cards["TFIELDS"]) + 1)}
    sizes = {
        str(cards[f"TTYPE{n}"]).strip().upper(): _SIZES[element]
        for n, (_, kind, element) in formats.items()
        if kind in "PQ"
    }
    if "COMPRESSED_DATA" not in sizes:
        raise ValueError("it has no column COMPRESSED_DATA")
    return sizes


def _format(cards: Mapping[str, Any], number: int) -> tuple[int, str, str]:
    """Repeat count, kind and, of arrays, the kind of the elements (TFORMn, FITS 4.0, sec. 7.3.1 and 7.3.5)."""
    found = _FORMAT.match(str(cards[f"TFORM{number}"]))
    if not found:
        raise ValueError(f"TFORM{number} is {cards[f'TFORM{number}']!r}")
    repeat, kind, element = found.groups()
    return int(repeat or 1), kind, element
