"""One request to an http(s) server: no retries, no limits, no redirects followed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pipeline.archives.answers import Body, Fault, Moved
from pipeline.archives.limiter import Outcome
from pipeline.errors import ArchiveChanged, ArchiveRefused
from pipeline.storage import without_credentials

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 16  # bytes
CONNECT = 20.0  # s to reach a server
_BUSY = (408, 425, 429, 503)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SAID = 120  # characters of a refusal that are worth repeating

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes every URL with its query: tokens


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes [start, stop) of a URL, of the version `etag` where that is known."""

    url: str
    start: int = 0
    stop: int | None = None
    etag: str | None = None
    timeout: float = 120.0  # s without a byte

    @property
    def shown(self) -> str:
        return without_credentials(self.url)


@contextmanager
def opened(session: httpx.Client, wanted: Request) -> Iterator[Body]:
    """What is wanted, once the server begins to send it.

    Raises FileNotFoundError, ArchiveRefused, ArchiveChanged for good, Moved where the server says to ask elsewhere,
    and Fault for what may go better.
    """
    import httpx

    with _faults():
        timeout = httpx.Timeout(wanted.timeout, connect=min(CONNECT, wanted.timeout))
        request = session.build_request("GET", wanted.url, headers=_headers(wanted), timeout=timeout)
        response = session.send(request, stream=True)
    try:
        if response.next_request is not None:
            raise Moved(str(response.next_request.url))
        _judge(response, wanted)
        yield _body(response, wanted)
    finally:
        response.close()


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for: a number of seconds or an HTTP date (RFC 9110, sec. 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds())


def _headers(wanted: Request) -> dict[str, str]:
    if not wanted.start and wanted.stop is None:
        return {}
    headers = {"Range": f"bytes={wanted.start}-{'' if wanted.stop is None else wanted.stop - 1}"}
    return headers | ({"If-Range": wanted.etag} if wanted.etag else {})


def _judge(response: httpx.Response, wanted: Request) -> None:
    """Raise what the status means, unless bytes come that were asked for."""
    status, shown, etag = response.status_code, wanted.shown, wanted.etag
    if status in (404, 410):
        raise FileNotFoundError(f"{shown}: the archive has no such file")
    if status == 416 and wanted.start:
        raise ArchiveChanged(f"{shown}: ends before byte {wanted.start}")
    if status in _BUSY:
        seconds = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        raise Fault(f"HTTP {status}", Outcome.BUSY, seconds, status)
    if status >= 500:
        raise Fault(f"HTTP {status}", Outcome.FAILED, None, status)
    if status not in (200, 206):
        raise ArchiveRefused(f"{shown}: HTTP {status}{_said(response)}")
    now = _strong(response.headers.get("ETag"))
    if etag and now and now != etag:
        raise ArchiveChanged(f"{shown}: is another version now: ETag {now}, was {etag}")


def _body(response: httpx.Response, wanted: Request) -> Body:
    length = response.headers.get("Content-Length", "")
    count = int(length) if length.isdigit() else None
    offset, total = 0, count
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None:
            raise Fault("HTTP 206 without a range", Outcome.FAILED)
        offset, end = int(match[1]), int(match[2])
        count, total = end + 1 - offset, int(match[3]) if match[3] != "*" else None
    elif wanted.stop is not None:
        _judge_whole(response, wanted)
    return Body(
        offset=offset,
        length=count,
        total=total,
        etag=_strong(response.headers.get("ETag")),
        modified=response.headers.get("Last-Modified"),
        chunks=_chunks(response),
    )


def _judge_whole(response: httpx.Response, wanted: Request) -> None:
    """Raise what an answer of status 200 to a request for a range means: a page, a whim, or a server without ranges."""
    page = response.headers.get("Content-Type", "").startswith("text/html")
    if page or response.headers.get("Accept-Ranges", "").strip() == "bytes":
        raise Fault("a page of HTML" if page else "all of the file, not the range", Outcome.GOOD)
    raise ArchiveRefused(f"{wanted.shown}: the server does not give ranges")


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    """The body as it is on the wire: a .gz file that a server labels as an encoding stays one."""
    with _faults():
        yield from response.iter_raw(CHUNK)


@contextmanager
def _faults() -> Iterator[None]:
    """Say what the line did in words of our own: httpx's repeat the URL with its secrets."""
    import httpx

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ArchiveRefused(f"no URL that can be asked: {type(error).__name__}") from None
    except httpx.TimeoutException as error:
        raise Fault(type(error).__name__, Outcome.BUSY) from None
    except httpx.TransportError as error:
        raise Fault(type(error).__name__, Outcome.FAILED) from None


def _strong(etag: str | None) -> str | None:
    """A validator that promises the same bytes (RFC 9110, sec. 8.8.1), or None."""
    return etag if etag and not etag.startswith("W/") else None


def _said(response: httpx.Response) -> str:
    """The first words of a refusal in plain text."""
    if not response.headers.get("Content-Type", "").startswith("text/plain"):
        return ""
    with _faults():
        words = next(response.iter_raw(_SAID), b"")
    text = " ".join(words.decode("utf-8", "replace").split())[:_SAID]
    return f": {text}" if text else ""
