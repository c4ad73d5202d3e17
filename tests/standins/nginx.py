"""Debian's nginx over a folder: ranges, ETags, rate limits, and its own log of what it was asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MISSING = "these tests need nginx: apt-get install nginx-light"

_CONFIG = """
{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format timed '$msec $request_time $status $request_uri';
  access_log {folder}/access.log timed;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type application/octet-stream;
  limit_req_zone $server_name zone=all:1m rate={rate}r/s;
  server {{
    listen 127.0.0.1:{port}; server_name archive; root {root}; autoindex on; limit_rate {speed};
    limit_req zone=all burst={burst} nodelay; limit_req_status 429;
    error_page 429 @busy;
    location @busy {{ internal; add_header Retry-After 1 always; return 429; }}
  }}
}}
"""


@dataclass(frozen=True)
class Logged:
    """One request as the server saw it; times in s."""

    began: float
    ended: float
    status: int
    path: str


@dataclass(frozen=True)
class Nginx:
    url: str
    folder: Path

    def log(self) -> list[Logged]:
        """Every request that is over, in the order of their ends."""
        logged = []
        for line in (self.folder / "access.log").read_text().splitlines():
            ended, took, status, path = line.split(" ", 3)
            logged.append(Logged(float(ended) - float(took), float(ended), int(status), path))
        return logged


@contextmanager
def nginx(
    root: Path, folder: Path, rate: int = 1_000_000, burst: int = 1000, bytes_per_second: int = 0
) -> Iterator[Nginx]:
    """Serve `root` until the end of the `with` block; more than `rate` requests / s get 429 and Retry-After: 1. A
    connection gets `bytes_per_second`, 0 for as much as it can.

    Raises RuntimeError where nginx is not installed: a skip would hide that nothing was tested.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
    if program is None:
        raise RuntimeError(MISSING)
    port = _free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # a worker of its own could not read a test's folders
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(user=user, folder=folder, port=port, root=root, rate=rate, burst=burst, speed=bytes_per_second)
    )
    process = subprocess.Popen([program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)])
    try:
        _wait_for(port, process)
        yield Nginx(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx does not answer")
