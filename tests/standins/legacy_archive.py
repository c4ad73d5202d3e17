"""The Legacy Surveys' tree and cutout service on loopback, over a mock tree, as far away as one likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.surveys.mosaic import Plane
from pipeline.surveys.tan import Tan
from tests.skies import ArrayImage, tan_header
from tests.standins.scripted import proper

VIEWER = "/viewer/fits-cutout"

Draw = Callable[[Path, float, float, int, str], bytes]
"""From tree, ra, dec, pixels and bands to the service's answer."""


@dataclass
class LegacyArchive:
    """The archive as a test sees it."""

    tree: Path
    host: str
    latency: float  # s before each answer
    draw: Draw
    asked: list[str] = field(default_factory=list)  # path with query
    sent: list[int] = field(default_factory=list)  # bytes of each body
    at_once: int = 0  # most requests under way together
    missing: set[str] = field(default_factory=set)  # paths that it says it does not have

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def service(self) -> str:
        return f"{self.url}{VIEWER}"

    def images(self) -> list[str]:
        """What was asked of images, masks and the service."""
        return [path for path in self.asked if "coadd" in path or VIEWER in path]


@contextmanager
def legacy_archive(tree: Path, latency: float = 0.0, draw: Draw | None = None) -> Iterator[LegacyArchive]:
    """Serve until the end of the `with` block."""
    lock, busy = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                busy[0] += 1
                made.at_once = max(made.at_once, busy[0])
                made.asked.append(self.path)
            time.sleep(latency)
            proper(self, _body(made, self.path))
            with lock:
                busy[0] -= 1

        def send_header(self, keyword: str, value: str) -> None:
            if keyword == "Content-Length":
                made.sent.append(int(value))
            super().send_header(keyword, value)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made = LegacyArchive(tree, f"127.0.0.1:{http.server_address[1]}", latency, draw or drawn)
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        http.shutdown()


def _body(archive: LegacyArchive, path: str) -> bytes:
    """b"" where there is none."""
    parts = urlsplit(path)
    if parts.path in archive.missing:
        return b""
    if parts.path == VIEWER:
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return archive.draw(archive.tree, float(query["ra"]), float(query["dec"]), int(query["size"]), query["bands"])
    file = archive.tree / unquote(parts.path).lstrip("/")
    if file.is_dir():
        return "".join(f'<a href="{name.name}">{name.name}</a>\n' for name in sorted(file.iterdir())).encode()
    return file.read_bytes() if file.is_file() else b""


def drawn(tree: Path, ra: float, dec: float, size: int, bands: str) -> bytes:
    """The service's answer: every brick resampled onto one tangent plane, zeros where none has data."""
    header = tan_header(ra, dec, size)
    return answer(resampled(tree, header, (size, size), bands), header, bands)


def resampled(tree: Path, header: Mapping[str, Any], shape: tuple[int, int], bands: str) -> NDArray[np.float32]:
    """The sky of a tree on the pixels of a header, (C, H, W): each pixel from the brick whose middle is nearest."""
    y, x = np.indices(shape, dtype=np.float64)
    tan = Tan.of(header, "cutout")
    sky = tan.to_sky(x.ravel(), y.ravel())
    centre = tan.to_sky(np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2]))
    planes = np.zeros((len(bands), shape[0] * shape[1]), np.float32)
    for images in sorted(bricks_of(tree, bands).values(), key=lambda found: _distance(found, *centre)):
        for band, image in images.items():
            plane = planes[bands.index(band)]
            todo = np.flatnonzero(plane == 0)
            projected = Plane(image, Tan.of(image.header, band), lambda flux: flux)
            values, unknown = projected.sample(sky[0][todo], sky[1][todo])
            plane[todo[~unknown]] = values[~unknown]
    return planes.reshape(len(bands), *shape)


def answer(cube: NDArray[np.float32], header: Mapping[str, Any], bands: str) -> bytes:
    """The cube (C, H, W) in a file as the service writes it."""
    cards = {**header, "SURVEY": "LegacySurvey", "VERSION": "ls-dr10", "IMAGETYP": "image", "BANDS": bands}
    cards |= {f"BAND{number}": band for number, band in enumerate(bands)}
    hdu = fits.PrimaryHDU(cube)
    hdu.header.update(cards)
    out = BytesIO()
    hdu.writeto(out)
    return out.getvalue()


@lru_cache(maxsize=4)
def bricks_of(tree: Path, bands: str) -> dict[str, dict[str, ArrayImage]]:
    """Brick -> band -> image of a small tree, in memory."""
    folders = sorted(path for path in tree.glob("dr10/south/coadd/*/*") if path.is_dir())
    files = {
        folder.name: {band: folder / f"legacysurvey-{folder.name}-image-{band}.fits.fz" for band in bands}
        for folder in folders
    }
    return {
        name: {
            band: ArrayImage(fitsio.read(path, ext=1), dict(fitsio.read_header(path, ext=1)))
            for band, path in paths.items()
            if path.is_file()
        }
        for name, paths in files.items()
    }


def _distance(images: Mapping[str, ArrayImage], ra: NDArray[np.float64], dec: NDArray[np.float64]) -> float:
    """Pixels from the middle of a brick to a position (1,)."""
    image = next(iter(images.values()))
    x, y = Tan.of(image.header, "brick").to_pixels(ra, dec)
    return float(np.hypot(x[0] - image.shape[1] / 2, y[0] - image.shape[0] / 2))
