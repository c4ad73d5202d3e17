"""One remote FITS image of which only the parts that are needed are fetched.

What comes is written where it belongs in a sparse file on this disk, so that the image is decoded by the same code
as a file that was fetched whole, to the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.answers import Answer, Invalid
from pipeline.archives.heads import FIRST, Head, head_of, merged
from pipeline.archives.images import FitsImage
from pipeline.archives.tile_table import PixelBox, Span
from pipeline.archives.validation import check_file
from pipeline.errors import ArchiveChanged, ArchiveError, BadImage

_LONGEST_HEAD = 1 << 26  # bytes: no header goes on for so long
_VERSIONS = 3  # of a file that are begun, where it changes while it is read


class ReadRange(Protocol):
    """The bytes [start, stop) of one file. Raises ArchiveChanged where it is not the version `etag` any more."""

    def __call__(self, start: int, stop: int, *, etag: str | None = None, fresh: bool = False) -> Answer:
        """`fresh`: not from a cache."""
        ...


class RangedImage:
    """A `TileImage` that fetches what a section lacks, in as few requests as `gap` allows.

    Who knows all boxes beforehand asks for `missing` ranges and has them `fetch`ed, from several threads if he
    likes; then no section has to wait. Raises what the client raises, and BadImage.
    """

    def __init__(self, read: ReadRange, path: Path, name: str, gap: int) -> None:
        """`path`: where the sparse file goes; `gap`: bytes that cost as much as a request."""
        self.name = name
        self.vouched = False  # by checksums, for all bytes: parts have none
        self._read, self._path, self._gap = read, path, gap
        self._lock = threading.RLock()
        self._image: FitsImage | None = None
        self._versions = 0
        self._grown = False  # since cfitsio looked
        self._begin()

    @property
    def header(self) -> Mapping[str, Any]:
        return self._opened.header

    @property
    def shape(self) -> tuple[int, ...]:
        return self._opened.shape

    @property
    def bytes_held(self) -> int:
        return self._opened.bytes_held

    @property
    def bytes_decoded(self) -> int:
        return self._opened.bytes_decoded

    def missing(self, boxes: Iterable[PixelBox]) -> list[Span]:
        """What has to be fetched before those boxes can be read."""
        if self._head is None:
            return []
        pieces = self._head.places.pieces(boxes)
        at = np.searchsorted(self._held[:, 0], pieces[:, 0], side="right") - 1
        held = (at >= 0) & (pieces[:, 1] <= self._held[at, 1])
        return merged(pieces[~held], self._gap)

    def fetch(self, span: Span) -> None:
        """Fetch one range. Where the file is another one by now, it is begun anew, and all is missing again."""
        etag = self._etag
        try:
            answer = self._read(*span, etag=etag)
        except ArchiveChanged:
            with self._lock:
                if self._etag == etag:
                    self._begin()
            return
        if answer.size < span[1] - span[0]:
            raise BadImage(f"{self.name}: cut short: it has no bytes {span[0] + answer.size} to {span[1]}")
        with self._lock:
            if self._etag == etag:
                self._write(span[0], answer)

    def try_to_fetch(self, span: Span) -> None:
        """Fetch one range, or leave it for the section that needs it to fail."""
        with suppress(FileNotFoundError, ArchiveError, BadImage):
            self.fetch(span)

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels [y0, y1) x [x0, x1), as `FitsImage` reads them."""
        height, width = self.shape[-2:]
        inside = 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        while inside and (spans := self.missing([(y0, y1, x0, x1)])):
            for span in spans:
                self.fetch(span)
        if self._grown:
            self._opened.refresh()
            self._grown = False
        return self._opened.section(y0, y1, x0, x1)

    def forget(self) -> None:
        """Drop the decoded tiles; what was fetched stays."""
        self._opened.forget()

    def close(self) -> None:
        if self._image is not None:
            self._image.close()
            self._image = None

    @property
    def _opened(self) -> FitsImage:
        if self._image is None:
            raise ValueError(f"{self.name} is closed")
        return self._image

    def _begin(self) -> None:
        """Read the head, growing until it is whole, and open the sparse file on it."""
        self.close()
        self._versions += 1
        if self._versions > _VERSIONS:
            raise ArchiveError(f"{self.name}: changed {_VERSIONS} times while it was read")
        self._etag: str | None = None
        self._held: NDArray[np.int64] = np.empty((0, 2), np.int64)
        self._path.write_bytes(b"")
        first = self._read(0, FIRST, fresh=self._versions > 1)
        self._etag = first.etag
        self._write(0, first)
        data, found = first.data or b"", head_of(first.data or b"", self.name)
        while isinstance(found, int) and len(data) >= FIRST:
            data = self._longer(data, found)
            found = head_of(data, self.name)
        if isinstance(found, int):
            raise BadImage(f"{self.name}: cut short: its headers go on behind byte {len(data)}")
        self._head: Head | None = found
        if found is None:
            self._rest(len(data), first.total)
        if (found is None or first.total == len(data)) and not self._sound():
            return self._begin()
        if found is not None:
            if first.total is not None and first.total < found.end:
                raise BadImage(f"{self.name}: cut short: {first.total} bytes, its headers promise {found.end}")
            with self._path.open("r+b") as file:
                file.truncate(found.end)
        self._image = FitsImage(self._path, self.name)
        self._grown = False

    def _sound(self) -> bool:
        """Hold a file that came whole against its checksums; False where it is worth another try."""
        try:
            self.vouched = check_file(self._path, self.name)
        except Invalid as error:
            if self._versions > 1:
                raise BadImage(f"{self.name}: {error}") from None
            return False
        return True

    def _longer(self, data: bytes, length: int) -> bytes:
        if length > _LONGEST_HEAD:
            raise BadImage(f"{self.name}: no image in the first {len(data)} bytes")
        more = self._read(len(data), length, etag=self._etag)
        self._write(len(data), more)
        return data + (more.data or b"")

    def _rest(self, have: int, total: int | None) -> None:
        """What cannot be planned is read whole."""
        if total is None:
            raise ArchiveError(f"{self.name}: the archive does not say how long the file is")
        if have < total:
            self._write(have, self._read(have, total, etag=self._etag))

    def _write(self, start: int, answer: Answer) -> None:
        data = answer.data or b""
        with self._path.open("r+b") as file:
            file.seek(start)
            file.write(data)
        held = np.concatenate([self._held, [[start, start + len(data)]]])
        held = held[held[:, 0].argsort(kind="stable")]
        self._held = np.array(merged(held, 0), np.int64)
        self._grown = True
