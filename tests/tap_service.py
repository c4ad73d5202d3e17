"""A TAP service on loopback: an asynchronous query as TAP 1.1 and UWS 1.1 have it, and its faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs

JOB = """<?xml version="1.0"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">
  <uws:jobId>7</uws:jobId><uws:phase>{phase}</uws:phase><uws:quote/>
  <uws:executionDuration>0</uws:executionDuration><uws:destruction>2026-01-01T00:00:00Z</uws:destruction>
  <uws:parameters/><uws:results>{results}</uws:results>{error}
</uws:job>"""
RESULT = '<uws:result id="result" xlink:href="{url}/async/7/results/result"/>'
REFUSED = '<uws:errorSummary type="fatal" hasDetail="false"><uws:message>{said}</uws:message></uws:errorSummary>'


@dataclass
class Tap:
    """What the service answers, and what it was asked."""

    answer: bytes = b""
    looks: int = 2  # before the query is done
    busy: int = 0  # requests that get 429 first
    refuses: str = ""
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, path
    agents: set[str] = field(default_factory=set)
    query: dict[str, list[str]] = field(default_factory=dict)

    def job(self) -> bytes:
        self.looks -= 1
        phase = "EXECUTING" if self.looks > 0 else "ERROR" if self.refuses else "COMPLETED"
        error = REFUSED.format(said=self.refuses) if phase == "ERROR" else ""
        results = RESULT.format(url=self.url) if phase == "COMPLETED" else ""
        return JOB.format(phase=phase, results=results, error=error).encode()


class Handler(BaseHTTPRequestHandler):
    """Of one service: subclasses know which."""

    tap: ClassVar[Tap]

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        if not self._is_busy():
            self._say(200, self.tap.answer if self.path.endswith("/results/result") else self.tap.job())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self._is_busy():
            return
        if self.path.rstrip("/").endswith("/async"):
            self.tap.query = parse_qs(body)
        self._say(303, b"", f"{self.tap.url}/async/7")

    def do_DELETE(self) -> None:
        self._is_busy()
        self._say(200, b"")

    def _is_busy(self) -> bool:
        self.tap.asked.append((self.command, self.path))
        self.tap.agents.add(self.headers.get("User-Agent", ""))
        if self.command == "DELETE" or not self.tap.busy:
            return False
        self.tap.busy -= 1
        self._say(429, b"")
        return True

    def _say(self, status: int, body: bytes, place: str = "") -> None:
        self.send_response(status)
        if place:
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def tap_service(tap: Tap) -> Iterator[Tap]:
    """The service, for the time of the `with` block; its URL is in `tap.url`."""
    handler = type("OfThis", (Handler,), {"tap": tap})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        tap.url = f"http://127.0.0.1:{server.server_port}/tap"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield tap
        finally:
            server.shutdown()
            thread.join()
