"""FITS binary tables, as much of them as a catalogue needs: writing an answer, and reading a coverage map.

FITS Standard 4.0 (IAU FWG 2018), sec. 4.1 (headers), 6 (data), 7.3 (binary tables). numpy alone: the query client
does without astropy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import CatalogueError

BLOCK = 2880  # bytes
CARD = 80
_READ = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_WRITTEN = {
    pa.uint8(): ("B", "u1"),
    pa.int8(): ("I", ">i2"),
    pa.int16(): ("I", ">i2"),
    pa.uint16(): ("J", ">i4"),
    pa.int32(): ("J", ">i4"),
    pa.uint32(): ("K", ">i8"),
    pa.int64(): ("K", ">i8"),
    pa.float32(): ("E", ">f4"),
    pa.float64(): ("D", ">f8"),
}


@dataclass(frozen=True)
class Column:
    """One column of a binary table that is being written."""

    name: str
    form: str  # TFORM
    data: NDArray[np.generic]  # (N,) big-endian, or bytes of one width
    null: int | None  # TNULL
    unit: str
    ucd: str
    description: str


def fits_bytes(table: pa.Table, name: str) -> bytes:
    """A FITS file with one binary table: units, UCDs and descriptions in TUNIT, TUCD and TCOMM.

    A null is NaN, TNULL (the lowest integer), an empty text, or a logical value of 0. Text is ASCII, as FITS has it:
    other letters become a question mark. Raises CatalogueError for a column that FITS cannot hold.
    """
    columns = [_column(table, field) for field in table.schema]
    dtype = np.dtype([(f"f{number}", column.data.dtype) for number, column in enumerate(columns)])
    rows = np.empty(table.num_rows, dtype)
    for number, column in enumerate(columns):
        rows[f"f{number}"] = column.data
    primary = [_card("SIMPLE", True), _card("BITPIX", 8), _card("NAXIS", 0), _card("EXTEND", True)]
    data = rows.tobytes()
    return _header(primary) + _header(_table_cards(name, columns, rows)) + data + b"\0" * (-len(data) % BLOCK)


def read_bintable(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[np.generic]]]:
    """The header (keyword -> value as text) and the columns of the first binary table; numeric columns only.

    Raises CatalogueError where there is none.
    """
    place = 0
    while place < len(data):
        header, place = _read_header(data, place)
        size = _data_size(header)
        if header.get("XTENSION", "").strip() == "BINTABLE":
            return header, _read_rows(header, data[place : place + size])
        place += size + -size % BLOCK
    raise CatalogueError("no binary table in this FITS file")


def _column(table: pa.Table, field: pa.Field) -> Column:
    known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    unit, ucd, description = (known.get(key, "") for key in ("unit", "ucd", "description"))
    form, data, null = _encoded(table[field.name].combine_chunks(), field)
    return Column(field.name, form, data, null, unit, ucd, description)


def _encoded(values: pa.Array, field: pa.Field) -> tuple[str, NDArray[np.generic], int | None]:
    """TFORM, the column's data, and TNULL where integers are null."""
    if pa.types.is_boolean(field.type):
        letters = np.where(np.asarray(pc.fill_null(values, False)), ord("T"), ord("F")).astype("u1")
        letters[np.asarray(values.is_null())] = 0
        return "L", letters, None
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        texts = [(text or "").encode("ascii", "replace") for text in values.to_pylist()]
        width = max([1, *map(len, texts)])
        return f"{width}A", np.array(texts, dtype=f"S{width}"), None
    if field.type not in _WRITTEN:
        raise CatalogueError(f"column {field.name} has the type {field.type}, which FITS cannot hold: leave it out")
    letter, kind = _WRITTEN[field.type]
    if pa.types.is_floating(field.type):
        return letter, values.to_numpy(zero_copy_only=False).astype(kind), None
    null = int(np.iinfo(np.dtype(kind)).min) if letter != "B" else 255
    filled = np.asarray(pc.fill_null(values.cast(pa.int64()), null)).astype(kind)
    return letter, filled, null if values.null_count else None


def _table_cards(name: str, columns: list[Column], rows: NDArray[np.void]) -> Iterator[str]:
    yield _card("XTENSION", "BINTABLE")
    yield from (_card(key, value) for key, value in (("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", rows.dtype.itemsize)))
    yield from (_card(key, value) for key, value in (("NAXIS2", len(rows)), ("PCOUNT", 0), ("GCOUNT", 1)))
    yield _card("TFIELDS", len(columns))
    yield _card("EXTNAME", name)
    for number, column in enumerate(columns, 1):
        yield _card(f"TTYPE{number}", column.name)
        yield _card(f"TFORM{number}", column.form)
        if column.null is not None:
            yield _card(f"TNULL{number}", column.null)
        for key, text in (("TUNIT", column.unit), ("TUCD", column.ucd), ("TCOMM", column.description)):
            if text:
                yield _card(f"{key}{number}", text)


def _card(key: str, value: str | int | bool) -> str:
    """One header card; a text that is too long is cut."""
    if isinstance(value, bool):
        return f"{key:<8}= {'T' if value else 'F':>20}".ljust(CARD)
    if isinstance(value, int):
        return f"{key:<8}= {value:>20}".ljust(CARD)
    text = value.encode("ascii", "replace").decode().replace("'", "''")[: CARD - 12]
    if text.count("'") % 2:  # the cut went through a doubled quote
        text = text[:-1]
    return f"{key:<8}= '{text:<8}'".ljust(CARD)


def _header(cards: list[str] | Iterator[str]) -> bytes:
    text = "".join([*cards, "END".ljust(CARD)]).encode("ascii")
    return text + b" " * (-len(text) % BLOCK)


def _read_header(data: bytes, place: int) -> tuple[dict[str, str], int]:
    """Keywords and values from one header, and where its data begin."""
    found: dict[str, str] = {}
    while place < len(data):
        card = data[place : place + CARD].decode("ascii", "replace")
        place += CARD
        if card.startswith("END "):
            return found, place + -place % BLOCK
        if card[8:10] == "= ":
            value = card[10:].strip()
            quoted = value.startswith("'")
            found[card[:8].strip()] = (
                value[1:].partition("'")[0].rstrip() if quoted else value.partition("/")[0].strip()
            )
    raise CatalogueError("this is no FITS file: a header has no END")


def _data_size(header: dict[str, str]) -> int:
    axes = [int(header[f"NAXIS{number}"]) for number in range(1, int(header.get("NAXIS", 0)) + 1)]
    if not axes:
        return 0
    size = abs(int(header["BITPIX"])) // 8 * int(np.prod(axes, dtype=np.int64))
    return size + int(header.get("PCOUNT", 0))


def _read_rows(header: dict[str, str], data: bytes) -> dict[str, NDArray[np.generic]]:
    fields = []
    for number in range(1, int(header["TFIELDS"]) + 1):
        form = header[f"TFORM{number}"].strip()
        count, letter = int(form[:-1] or 1), form[-1]
        if letter not in _READ:
            raise CatalogueError(f"column {number} of this FITS table has the form {form}: expected numbers")
        kind = _READ[letter] if count == 1 else f"{count}{_READ[letter]}"
        fields.append((header.get(f"TTYPE{number}", f"col{number}"), kind))
    rows = np.frombuffer(data, dtype=np.dtype(fields), count=int(header["NAXIS2"]))
    return {name: rows[name] for name, _ in fields}
