"""VOTables read in pieces, whatever their size: TABLEDATA, BINARY and BINARY2 (IVOA VOTable 1.5).

The file is parsed as it is read, and rows are given out in batches; nothing but a batch is held.
"""

from __future__ import annotations

import base64
import binascii
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pyarrow as pa

from pipeline.sources.vofields import Field, from_binary, from_text

_PIECE = 1 << 16  # bytes of the file that are parsed at once


class Damaged(ValueError):
    """What the file holds is no VOTable."""


@dataclass(frozen=True)
class VOTable:
    """The first table of a file: its fields, and how its rows come."""

    fields: tuple[Field, ...]
    path: Path

    @property
    def units(self) -> Mapping[str, str]:
        return {found.name: found.unit for found in self.fields}

    def batches(self, columns: Sequence[str], rows: int, *, whole: bool = False) -> Iterator[pa.RecordBatch]:
        """The columns in batches of at least `rows` rows, but for the last.

        Raises Damaged, and where `whole` is asked for also where the service says that it left rows out.
        """
        wanted = [number for name in columns for number, found in enumerate(self.fields) if found.name == name]
        reading = _Reading(self.fields, wanted)
        for piece in _pieces(self.path):
            reading.feed(piece)
            if len(reading.rows) >= rows:
                yield self._batch(wanted, reading.taken())
        reading.end()
        if whole and reading.status in ("OVERFLOW", "ERROR"):
            raise Damaged(f"QUERY_STATUS is {reading.status}: the service did not send all rows")
        if reading.rows:
            yield self._batch(wanted, reading.taken())

    def _batch(self, wanted: Sequence[int], rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, self.fields[n].arrow) for n, values in zip(wanted, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=[self.fields[n].name for n in wanted])


def open_votable(path: Path) -> VOTable:
    """The fields of a VOTable's first table. Raises Damaged where there is none, or a service's error stands there."""
    reading = _Reading(None)
    for piece in _pieces(path):
        reading.feed(piece)
        if reading.begun:
            break
    else:
        reading.end()
    if reading.status == "ERROR":
        raise Damaged(f"the service says: {reading.said.strip()[:300] or 'ERROR'}")
    if not reading.fields:
        raise Damaged("holds no table")
    names = [found.name for found in reading.fields]
    if len(set(names)) != len(names):
        raise Damaged(f"has a column twice: {', '.join(sorted({name for name in names if names.count(name) > 1}))}")
    return VOTable(tuple(reading.fields), path)


@dataclass
class _Reading:
    """A parser and what it has found. On the second reading: the fields, and the numbers of those wanted."""

    known: Sequence[Field] | None
    wanted: Sequence[int] = ()
    fields: list[Field] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    begun: bool = False  # the data of the first table
    status: str = ""  # of the query, the last that the service gave
    said: str = ""

    def __post_init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = self._refuse
        self._tables = 0
        self._text: list[str] | None = None
        self._row: list[Any] = []
        self._stream: _Stream | None = None
        self._saying = False

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.Parse(piece, False)
        except expat.ExpatError as error:
            raise Damaged(f"is no XML: {error}") from error

    def end(self) -> None:
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise Damaged(f"is no XML, or cut short: {error}") from error

    def taken(self) -> list[list[Any]]:
        """The rows so far, which are then forgotten."""
        rows, self.rows = self.rows, []
        return rows

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        if name == "TABLE":
            self._tables += 1
        elif name == "INFO" and attributes.get("name", "").upper() == "QUERY_STATUS":
            self.status, self.said, self._saying = attributes.get("value", "").upper(), "", True
            self._parser.CharacterDataHandler = self._say
        elif self._tables != 1:
            return
        elif name == "FIELD":
            self.fields.append(Field.of(attributes))
        elif name == "VALUES" and self.fields and "null" in attributes and not self.begun:
            self.fields[-1] = self.fields[-1].with_null(attributes["null"])
        elif name == "DATA":
            self.begun = True
        elif self.known is not None:
            self._start_data(name, attributes)

    def _start_data(self, name: str, attributes: dict[str, str]) -> None:
        if name == "TR":
            self._row = []
        elif name == "TD":
            self._text = []
            self._parser.CharacterDataHandler = self._text.append
        elif name in ("BINARY", "BINARY2"):
            self._stream = _Stream(self.known or (), self.wanted, masked=name == "BINARY2")
        elif name == "STREAM" and self._stream is not None:
            if attributes.get("encoding", "").lower() != "base64" or "href" in attributes:
                raise Damaged("keeps its rows in another file, or in no base64")
            self._parser.CharacterDataHandler = self._feed_stream
        elif name == "FITS":
            raise Damaged("keeps its rows as FITS: read that file instead")

    def _end(self, tag: str) -> None:
        name = tag.rpartition(" ")[2]
        if name == "INFO" and self._saying:
            self._saying = False
            self._parser.CharacterDataHandler = None
        if self._tables != 1 or self.known is None:
            return
        if name == "TD" and self._text is not None:
            self._row.append("".join(self._text))
            self._text = None
            self._parser.CharacterDataHandler = None
        elif name == "TR":
            self._end_row()
        elif name == "STREAM" and self._stream is not None:
            self._parser.CharacterDataHandler = None
            self._stream.finish()
            self._stream = None

    def _end_row(self) -> None:
        fields = self.known or ()
        if len(self._row) != len(fields):
            raise Damaged(f"a row has {len(self._row)} cells, expected {len(fields)}")
        self.rows.append([from_text(fields[n], self._row[n]) for n in self.wanted])

    def _feed_stream(self, text: str) -> None:
        if self._stream is not None:
            self.rows += self._stream.rows_of(text)

    def _say(self, text: str) -> None:
        self.said += text

    def _refuse(self, *_: Any) -> None:
        raise Damaged("declares XML entities, which are not read")


class _Stream:
    """Rows in base64, as they come."""

    def __init__(self, fields: Sequence[Field], wanted: Sequence[int], *, masked: bool) -> None:
        self._fields, self._wanted, self._masked = fields, wanted, masked
        self._text, self._bytes = "", b""

    def rows_of(self, text: str) -> list[list[Any]]:
        """The rows that are whole once `text` has come."""
        text = self._text + "".join(text.split())
        whole = len(text) // 4 * 4
        self._text = text[whole:]
        try:
            self._bytes += base64.b64decode(text[:whole], validate=True)
        except binascii.Error as error:
            raise Damaged(f"its rows are no base64: {error}") from error
        rows, used = from_binary(self._fields, self._wanted, self._bytes, masked=self._masked)
        self._bytes = self._bytes[used:]
        return rows

    def finish(self) -> None:
        if self._text or self._bytes:
            raise Damaged("its last row is cut short")


def _pieces(path: Path) -> Iterator[bytes]:
    opened: Callable[..., Any] = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
