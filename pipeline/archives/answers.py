"""What an archive gives, and the faults that are worth another try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.archives.limiter import Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes [start, start + size) of a file of the archive: in memory (`data`) or on this disk (`path`)."""

    url: str  # without credentials
    size: int  # bytes
    sha256: str  # of these bytes
    etag: str | None = None  # strong; of the whole file
    modified: str | None = None  # Last-Modified, as the archive writes it
    total: int | None = None  # bytes of the whole file, where the archive says
    data: bytes | None = None
    path: Path | None = None
    requests: int = 0  # that it took; 0: it came from the cache


@dataclass(frozen=True, slots=True)
class Body:
    """One response under way, from byte `offset` of the file."""

    offset: int
    length: int | None  # bytes to come
    total: int | None  # bytes of the whole file
    etag: str | None
    modified: str | None
    chunks: Iterator[bytes]


class Fault(Exception):
    """What may go better the next time; never leaves the client."""

    def __init__(
        self, message: str, outcome: Outcome, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.outcome, self.retry_after, self.status = outcome, retry_after, status


class Moved(Fault):
    """The server says to ask at another URL: no fault, but the next request is another one."""

    def __init__(self, url: str) -> None:
        super().__init__("moved", Outcome.GOOD)
        self.url = url


class Invalid(Exception):
    """An answer came and is not what was asked for. The same bytes twice: it is what the archive has."""


class NotTheFile(Invalid):
    """A page of HTML, or a file cut short: however often it comes, it says nothing of what the archive has."""
