"""The columns of a VOTable, and their values as text and as bytes (IVOA VOTable 1.5, sec. 2, 5 and 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

_NUMBERS = {  # datatype -> struct code, Arrow type
    "unsignedByte": ("B", pa.uint8()),
    "short": ("h", pa.int16()),
    "int": ("i", pa.int32()),
    "long": ("q", pa.int64()),
    "float": ("f", pa.float32()),
    "double": ("d", pa.float64()),
}
_TEXTS = {"char": ("utf-8", 1), "unicodeChar": ("utf-16-be", 2)}  # encoding and bytes of a character
_TRUTHS = ("boolean", "bit")  # a letter, and a bit of a byte
_BOOLEANS = {"t": True, "1": True, "true": True, "f": False, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Field:
    """One column."""

    name: str
    datatype: str
    count: int | None = 1  # values in a cell, None where it differs from row to row
    array: bool = False
    unit: str = ""
    null: str | None = None  # the text that stands for no value

    @classmethod
    def of(cls, attributes: dict[str, str]) -> Self:
        """A FIELD's attributes. Raises ValueError for a type that is not read."""
        name, datatype = attributes.get("name") or attributes.get("ID", ""), attributes.get("datatype", "")
        if datatype not in (*_NUMBERS, *_TEXTS, *_TRUTHS):
            raise ValueError(f"column {name!r} is of the type {datatype!r}, which is not read")
        size = attributes.get("arraysize", "").strip()
        size = "" if size == "1" else size
        if "x" in size or (size and datatype == "bit"):
            raise ValueError(f"column {name!r} holds arrays of {size}, which are not read")
        count = 1 if not size else None if "*" in size else int(size)
        return cls(name, datatype, count, array=bool(size), unit=attributes.get("unit", ""))

    def with_null(self, text: str) -> Field:
        return replace(self, null=text.strip())

    @property
    def is_text(self) -> bool:
        return self.datatype in _TEXTS

    @property
    def arrow(self) -> pa.DataType:
        if self.is_text:
            return pa.string()
        single = pa.bool_() if self.datatype in _TRUTHS else _NUMBERS[self.datatype][1]
        return pa.list_(single) if self.array else single


def from_text(field: Field, text: str) -> Any:
    """The value of a cell of TABLEDATA; None where it has none. Raises ValueError."""
    if field.is_text:
        text = text.rstrip(" \0")
        return None if field.null is not None and text == field.null else text
    words = text.split()
    if not words:
        return None
    values = [_number(field, word) for word in words]
    return values if field.array else values[0]


def from_binary(
    fields: Sequence[Field], wanted: Sequence[int], data: bytes, *, masked: bool
) -> tuple[list[list[Any]], int]:
    """The wanted cells of the whole rows at the beginning of `data`, and how many bytes those rows are.

    `masked`: BINARY2, where a bit a column in front of each row says what has no value.
    """
    rows: list[list[Any]] = []
    begin = 0
    flags = -(-len(fields) // 8) if masked else 0
    while begin < len(data):
        edges = _edges(fields, data, begin + flags)
        if edges is None:
            return rows, begin
        absent = [masked and bool(data[begin + n // 8] >> (7 - n % 8) & 1) for n in wanted]
        cells = [None if no else _cell(fields[n], data[slice(*edges[n])]) for n, no in zip(wanted, absent, strict=True)]
        rows.append(cells)
        begin = edges[-1][1] if edges else len(data)
    return rows, begin


def _number(field: Field, word: str) -> Any:
    if word == field.null:
        return None
    if field.datatype in _TRUTHS:
        return _BOOLEANS.get(word.lower())
    if field.datatype in ("float", "double"):
        return float(word.replace("Inf", "inf"))
    return int(word, 0)  # 0x1f is allowed


def _edges(fields: Sequence[Field], data: bytes, at: int) -> list[tuple[int, int]] | None:
    """Where each cell of a row begins and ends, None where not all of the row has come."""
    edges: list[tuple[int, int]] = []
    for found in fields:
        end = _end(found, data, at)
        if end is None:
            return None
        edges.append((at, end))
        at = end
    return edges


def _end(field: Field, data: bytes, at: int) -> int | None:
    """Where a cell that begins at byte `at` ends, None where not all of it has come."""
    count = field.count
    if count is None:
        if at + 4 > len(data):
            return None
        count = struct.unpack_from(">i", data, at)[0]
        if count < 0:
            raise ValueError(f"column {field.name!r} holds {count} values")
        at += 4
    end = at + count * _width(field)
    return end if end <= len(data) else None


def _width(field: Field) -> int:
    if field.is_text:
        return _TEXTS[field.datatype][1]
    return 1 if field.datatype in _TRUTHS else struct.calcsize(">" + _NUMBERS[field.datatype][0])


def _cell(field: Field, data: bytes) -> Any:
    """The value of a whole cell, the number of its values in front where that varies."""
    if field.count is None:
        data = data[4:]
    if field.is_text:
        text = data.decode(_TEXTS[field.datatype][0], "replace").partition("\0")[0].rstrip(" ")
        return None if field.null is not None and text == field.null else text
    if field.datatype == "bit":
        return data != b"\0"  # astropy sets a bit in the middle
    if field.datatype == "boolean":
        values: list[Any] = [_BOOLEANS.get(chr(byte).lower()) for byte in data]
    else:
        count = len(data) // _width(field)
        values = [_unless_null(field, value) for value in struct.unpack(f">{count}{_NUMBERS[field.datatype][0]}", data)]
    return values if field.array else values[0]


def _unless_null(field: Field, value: Any) -> Any:
    return None if field.null is not None and str(value) == field.null else value
