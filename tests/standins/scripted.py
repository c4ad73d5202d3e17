"""A web server of files in memory, with ranges and ETags, whose next answers a test writes down beforehand."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]  # is given the file, b"" where there is none


@dataclass
class Scripted:
    """The server as a test sees it."""

    host: str
    files: dict[str, bytes] = field(default_factory=dict)  # by path
    script: deque[Reply | None] = field(default_factory=deque)  # None: as it should be
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # path with query, headers

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Serve until the end of the `with` block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.asked.append((self.path, dict(self.headers)))
            body = made.files.get(self.path.partition("?")[0], b"")
            reply = made.script.popleft() if made.script else None
            (reply or proper)(self, body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is no error here: some tests have it do so."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    with Server(("127.0.0.1", 0), Handler) as http:
        made = Scripted(f"127.0.0.1:{http.server_address[1]}")
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        http.shutdown()


def etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def proper(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """200, 206 or 404 as RFC 9110 has them."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    fresh = handler.headers.get("If-Range", etag(body)) == etag(body)
    if not body:
        send(handler, 404, b"")
    elif asked is None or not fresh:
        send(handler, 200, body, {"ETag": etag(body)})
    else:
        start, end = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        headers = {"ETag": etag(body), "Content-Range": f"bytes {start}-{end}/{len(body)}"}
        send(handler, 206, body[start : end + 1], headers)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
