"""Files of surveys on this disk, and cutout services on loopback, of the same skies as in memory."""

from __future__ import annotations

import bz2
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fitsio
import numpy as np

from pipeline.data import Product
from pipeline.surveys import TileImage
from tests.skies import ArrayImage
from tests.survey_trees import Archive


def as_fits(image: TileImage, path: Path, **how: Any) -> Path:
    """The image as a FITS file; .fz compressed by Rice, .bz2 as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("") if path.suffix == ".bz2" else path
    pixels = image.section(0, image.shape[-2], 0, image.shape[-1]).astype(np.float32)
    if path.suffix == ".fz":
        how = {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 3, **how}
    fitsio.write(str(plain), pixels, header=dict(image.header), clobber=True, **how)
    if path.suffix == ".bz2":
        path.write_bytes(bz2.compress(plain.read_bytes(), 1))
        plain.unlink()
    return path


def as_tree(archive: Archive, root: Path) -> Path:
    """Every file of an archive below `root`."""
    for path, image in archive.files.items():
        as_fits(image, root / path)
    return root


class _Answers(BaseHTTPRequestHandler):
    service: ClassVar[Callable[[Product], TileImage]]
    folder: ClassVar[Path]
    agents: ClassVar[list[str]]

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.agents.append(self.headers.get("User-Agent", ""))
        image = type(self).service(Product("", "cutout", None, f"http://{self.headers['Host']}{self.path}"))
        body = as_fits(image, self.folder / f"{len(self.agents)}-{threading.get_ident()}.fits").read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "image/fits")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(service: Callable[[Product], TileImage], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A URL where a cutout service in memory answers over HTTP, and the User-Agents that asked."""
    agents: list[str] = []
    handler = type("Of", (_Answers,), {"service": staticmethod(service), "folder": folder, "agents": agents})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/cutout", agents
        finally:
            server.shutdown()
            thread.join()


def blank(shape: tuple[int, int], header: dict[str, Any]) -> ArrayImage:
    """An image of no data at all."""
    return ArrayImage(np.zeros(shape, np.float32), header)
