"""A proxy in front of an archive that does what real ones do wrong, the same again for the same seed.

What happens to a request depends on its URL, its range and how often that was asked for before: never on time,
threads or ports.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
from astropy.io import fits

HOPPED = ("connection", "transfer-encoding", "content-length", "date", "server")  # of one hop only (RFC 9110, 7.6.1)
LORIS = 0.1  # s between two bytes


class Fault(StrEnum):
    """What may go wrong with one request."""

    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    BUSY_SECONDS = "429 with seconds"
    BUSY_DATE = "429 with a date"
    UNAVAILABLE = "503"
    RESET = "reset"
    SHORT = "truncated, with Content-Length"
    SHORT_WITHOUT_LENGTH = "truncated, without Content-Length"
    PAGE = "a page of HTML with status 200"
    FLIP = "a flipped bit"
    NAN = "a plane of NaN"
    BANDS = "other bands"
    STALE = "the start of another version"
    LORIS = "a slow loris"


WRONG = (Fault.NAN, Fault.BANDS)  # of cutouts; twice the same is what the archive has, not a fault of the line
WITH_SUM = (".fz", ".fits", ".gz")  # what carries a checksum, so that a flipped bit can show

INSTEAD: Mapping[Fault, tuple[int, bytes, dict[str, str]]] = {  # of the archive's answer; "" is the date of now
    Fault.BUSY_SECONDS: (429, b"", {"Retry-After": "0"}),
    Fault.BUSY_DATE: (429, b"", {"Retry-After": ""}),
    Fault.UNAVAILABLE: (503, b"Service Unavailable", {}),
    Fault.PAGE: (200, b"<!DOCTYPE html><title>Maintenance</title>", {"Content-Type": "text/html"}),
}

Plan = Callable[[str, int], Fault | int | None]
"""From the path with query and Range, and the number of the attempt, from 0, to a fault, an HTTP status, or None."""


@dataclass(frozen=True)
class Logged:
    """One request; times in s of time.monotonic."""

    path: str
    attempt: int
    fault: Fault | int | None
    began: float
    ended: float


@dataclass
class FaultProxy:
    """The proxy as a test sees it."""

    upstream: Mapping[str, str]  # start of a path -> URL of the server for it; the longest counts
    plan: Plan
    host: str = ""
    log: list[Logged] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def reset(self, plan: Plan) -> None:
        """Begin anew with other faults."""
        self.plan = plan
        self.log.clear()
        self.attempts.clear()


@contextmanager
def fault_proxy(upstream: Mapping[str, str], plan: Plan) -> Iterator[FaultProxy]:
    """Serve until the end of the `with` block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            began = time.monotonic()
            asked = f"{self.path} {self.headers.get('Range', '')}".rstrip()
            with lock:
                attempt = made.attempts[asked]
                made.attempts[asked] += 1
            fault = made.plan(asked, attempt)
            try:
                _answer(self, made.upstream, fault)
            except OSError:  # the client has had enough
                self.close_connection = True
            finally:
                with lock:
                    made.log.append(Logged(self.path, attempt, fault, began, time.monotonic()))

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """A line that broke is what this is for."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made = FaultProxy(upstream, plan, f"127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        server.shutdown()


def transient(seed: int, share: float = 0.15, kinds: tuple[Fault, ...] = tuple(Fault)) -> Plan:
    """`share` of all requests fail, each kind as often; those of `WRONG` never twice in a row."""

    def plan(path: str, attempt: int) -> Fault | None:
        fault = drawn(path, attempt)
        return Fault.UNAVAILABLE if fault in WRONG and attempt and drawn(path, attempt - 1) in WRONG else fault

    def drawn(path: str, attempt: int) -> Fault | None:
        rng = random.Random(f"{seed} {path} {attempt}")
        return rng.choice([kind for kind in kinds if possible(kind, path)]) if rng.random() < share else None

    return plan


def possible(kind: Fault, path: str) -> bool:
    """Whether an archive can do this to such a request, and anybody can tell."""
    cutout = "/viewer" in path
    if kind is Fault.FLIP:
        return path.partition(" ")[0].endswith(WITH_SUM) and not cutout
    return not cutout if kind is Fault.STALE else cutout or kind not in WRONG


def first(kind: Fault, times: int = 1) -> Plan:
    """Every URL meets the same fault the first `times`."""
    return lambda path, attempt: kind if attempt < times and possible(kind, path) else None


def permanent(kind: Fault | int, named: str) -> Plan:
    """Whatever has `named` in its path always meets the fault."""
    return lambda path, attempt: kind if named in path else None


def _answer(handler: BaseHTTPRequestHandler, upstream: Mapping[str, str], fault: Fault | int | None) -> None:
    instead = (fault, b"", {}) if isinstance(fault, int) else INSTEAD.get(fault) if fault else None
    if instead is not None:
        status, text, headers = instead
        dated = {name: value or formatdate(time.time(), usegmt=True) for name, value in headers.items()}
        return _send(handler, status, text, dated)
    if fault is Fault.RESET:
        return _reset(handler)
    status, body, kept = _asked(handler, upstream)
    if isinstance(fault, Fault) and status in (200, 206) and body:
        return _spoilt(handler, fault, (status, body, kept))
    _send(handler, status, body, kept)


def _spoilt(handler: BaseHTTPRequestHandler, fault: Fault, answer: tuple[int, bytes, dict[str, str]]) -> None:
    """A good answer on its way, and what becomes of it."""
    status, body, headers = answer
    place = int(hashlib.sha256(f"{handler.path} {len(body)}".encode()).hexdigest(), 16) % len(body)
    half = body[: place // 2]
    sends: dict[Fault, Callable[[], None]] = {
        Fault.LATENCY: lambda: _send(handler, status, body, headers, wait=0.15),
        Fault.BANDWIDTH: lambda: _send(handler, status, body, headers, pieces=4, pause=0.05),
        Fault.SHORT: lambda: _send(handler, status, half, headers, length=len(body)),
        Fault.SHORT_WITHOUT_LENGTH: lambda: _send(handler, status, half, headers, length=None),
        Fault.FLIP: lambda: _send(handler, status, _flipped(body, place), headers),
        Fault.STALE: lambda: _stale(handler, answer, half),
        Fault.LORIS: lambda: _send(handler, status, body[:20], headers, length=len(body), pieces=12, pause=LORIS),
        Fault.NAN: lambda: _send(handler, status, _other_cutout(body, fault), headers),
        Fault.BANDS: lambda: _send(handler, status, _other_cutout(body, fault), headers),
    }
    sends[fault]()


def _flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :]


def _stale(handler: BaseHTTPRequestHandler, answer: tuple[int, bytes, dict[str, str]], half: bytes) -> None:
    """The first half of another version, then the line breaks; of a range all, with another ETag and no other sign."""
    status, body, headers = answer
    named = {**headers, "ETag": '"another"'}
    if status == 206:
        _send(handler, status, body, named)
    else:
        _send(handler, status, bytes(byte ^ 255 for byte in half), named, length=len(body))


def _other_cutout(body: bytes, fault: Fault) -> bytes:
    """An answer of the cutout service with a plane of NaN, or with bands that nobody asked for."""
    out = io.BytesIO()
    with fits.open(io.BytesIO(body)) as hdus:
        if fault is Fault.NAN:
            hdus[0].data[-1] = np.nan
        else:
            hdus[0].header["BANDS"] = hdus[0].header["BANDS"][::-1] + "y"
        hdus.writeto(out)
    return out.getvalue()


def _asked(handler: BaseHTTPRequestHandler, upstream: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]]:
    """The archive's own answer."""
    start = max((start for start in upstream if handler.path.startswith(start)), key=len)
    connection = http.client.HTTPConnection(urlsplit(upstream[start]).netloc, timeout=30)
    headers = {name: value for name, value in handler.headers.items() if name.lower() not in (*HOPPED, "host")}
    try:
        connection.request(handler.command, handler.path, headers=headers)
        answer = connection.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOPPED}
        if handler.command == "HEAD":
            kept["Content-Length"] = answer.headers.get("Content-Length", "0")
        return answer.status, answer.read(), kept
    finally:
        connection.close()


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    length: int | None = -1,
    pieces: int = 1,
    pause: float = 0.0,
    wait: float = 0.0,
) -> None:
    """After `wait` s, in `pieces` with a `pause` after each.

    `length` is what Content-Length says: -1 the truth, None nothing, and then the line ends with the body.
    """
    time.sleep(wait)
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if length is None:
        handler.send_header("Connection", "close")
    elif "Content-Length" not in headers:
        handler.send_header("Content-Length", str(len(body) if length == -1 else length))
    handler.end_headers()
    handler.close_connection = handler.close_connection or length != -1
    step = -(-len(body) // pieces) or 1
    for at in range(0, len(body), step):
        handler.wfile.write(body[at : at + step])
        time.sleep(pause)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """RST instead of an answer (SO_LINGER of 0 s, socket(7))."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
