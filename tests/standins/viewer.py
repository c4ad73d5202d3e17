"""The Legacy Surveys' cutout service on loopback, over a mock tree: its contract with every trap of archives.md 1.2.

Left out: JPEG, `zoom`, `rotate` on the layers that take it, model and residual layers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from aiohttp import web
from astropy.io import fits

from pipeline.surveys.tan import Tan
from tests.skies import PIXEL, tan_header
from tests.standins.legacy_archive import bricks_of, resampled

PATHS = ("/viewer/fits-cutout", "/viewer/cutout.fits")
MOST = 3000  # pixels a side, clipped without a word
LAYERS = {
    "ls-dr9": "grz", "ls-dr9-north": "grz", "ls-dr9-south": "grz",
    "ls-dr10": "griz", "ls-dr10-grz": "grz", "ls-dr10-gri": "gri",
    "ls-dr10-south": "griz", "ls-dr10-south-grz": "grz", "ls-dr10-south-gri": "gri",
    "ls-dr11": "grz", "ls-dr11-north": "grz", "ls-dr11-south": "grz", "ls-dr11-south-griz": "griz",
}  # fmt: skip
SPLIT = ("ls-dr9", "ls-dr10", "ls-dr11", "ls-dr10-grz", "ls-dr10-gri")  # north and south in one: no rotation


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    kind: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def viewer(tree: Path) -> Iterator[str]:
    """Serve until the end of the `with` block; gives the URL of the host."""

    async def cutout(request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(None, answered, tree, tuple(request.query.items()))
        return web.Response(status=reply.status, body=reply.body, content_type=reply.kind, headers=reply.headers)

    app = web.Application()
    for path in PATHS:
        app.router.add_get(path, cutout)
    with served(app) as url:
        yield url


@contextmanager
def served(app: web.Application) -> Iterator[str]:
    """An aiohttp application in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, int(runner.addresses[0][1])

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@lru_cache(maxsize=256)
def answered(tree: Path, parameters: tuple[tuple[str, str], ...]) -> Reply:
    """What the service says to a request; drawn once, as far as the clock of a test is concerned."""
    query = dict(parameters)
    layer = query.get("layer", "ls-dr9")
    if layer not in LAYERS:
        return Reply(200, b"no such layer")
    try:
        ra, dec = float(query["ra"]), float(query["dec"])
    except (KeyError, ValueError):
        return Reply(400, b"Need ra,dec keywords")
    if "rotate" in query and layer in SPLIT:
        return Reply(500, b"Server Error (500)")
    asked = query.get("bands", "")
    bands = asked if asked and set(asked) <= set(LAYERS[layer]) else LAYERS[layer]
    header = _header(query, ra, dec)
    if not _touches(tree, header):
        return Reply(500, b"Server Error (500)")  # NoOverlapError, which nobody catches
    body = _subimages(tree, header, bands) if "subimage" in query else _image(tree, header, bands, layer, query)
    name = f"cutout_{ra:.4f}_{dec:.4f}.fits"
    times = {"Last-Modified": formatdate(usegmt=True), "Expires": formatdate(usegmt=True)}  # and no ETag
    return Reply(200, body, "image/fits", {"Content-Disposition": f'attachment; filename="{name}"', **times})


def _header(query: Mapping[str, str], ra: float, dec: float) -> dict[str, Any]:
    size = query.get("size", "256")
    width, height = (min(int(query.get(side, size)), MOST) for side in ("width", "height"))
    header = tan_header(ra, dec, width, float(query.get("pixscale", PIXEL)))
    return {**header, "CRPIX2": (height + 1) / 2, "IMAGEW": width, "IMAGEH": height}


def _image(tree: Path, header: Mapping[str, Any], bands: str, layer: str, query: Mapping[str, str]) -> bytes:
    cube = resampled(tree, header, (header["IMAGEH"], header["IMAGEW"]), bands)
    pixels = cube if len(bands) > 1 else cube[0]  # one band: two dimensions
    cards = {"SURVEY": "LegacySurvey", "VERSION": layer, "IMAGETYP": "image", "BANDS": bands}
    cards |= {f"BAND{number}": band for number, band in enumerate(bands)}
    hdus = fits.HDUList([_hdu(fits.PrimaryHDU, pixels, {**header, **cards})])
    native = abs(header["CD1_1"]) * 3600 < 2 * PIXEL  # binned images have neither, silently
    if "invvar" in query and native:
        hdus.append(_hdu(fits.ImageHDU, (pixels != 0).astype("f4"), {**header, **cards, "IMAGETYP": "invvar"}))
    if "maskbits" in query and native:
        hdus.append(_hdu(fits.ImageHDU, (cube[0] == 0).astype("i4"), {**header, "IMAGETYP": "maskbits"}))
    return _written(hdus)


def _subimages(tree: Path, header: Mapping[str, Any], bands: str) -> bytes:
    """One HDU a brick and band, pixels as they are in the brick, ragged at its edges."""
    middle = Tan.of(header, "cutout").to_sky(
        np.array([(header["IMAGEW"] - 1) / 2]), np.array([(header["IMAGEH"] - 1) / 2])
    )
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for name, images in bricks_of(tree, bands).items():
        for band, image in images.items():
            x, y = (round(float(value[0])) for value in Tan.of(image.header, name).to_pixels(*middle))
            x0, y0 = max(0, x - header["IMAGEW"] // 2), max(0, y - header["IMAGEH"] // 2)
            x1, y1 = (min(side, at + half) for side, at, half in zip(
                reversed(image.shape), (x, y), (header["IMAGEW"] // 2, header["IMAGEH"] // 2), strict=True
            ))  # fmt: skip
            if x1 > x0 and y1 > y0:
                cards = {"BRICK": name, "BRICK_X0": x0, "BRICK_Y0": y0, "BAND": band, "IMAGETYP": "image"}
                hdus.append(_hdu(fits.ImageHDU, image.section(y0, y1, x0, x1), cards))
    return _written(hdus)


def _hdu(kind: Any, pixels: Any, cards: Mapping[str, Any]) -> Any:
    hdu = kind(pixels)
    hdu.header.update(cards)
    return hdu


def _written(hdus: fits.HDUList) -> bytes:
    out = BytesIO()
    hdus.writeto(out)
    return out.getvalue()


def _touches(tree: Path, header: Mapping[str, Any]) -> bool:
    """Whether any brick of the tree's table has pixels inside the box, its files there or not."""
    x, y = np.meshgrid(np.linspace(0, header["IMAGEW"] - 1, 9), np.linspace(0, header["IMAGEH"] - 1, 9))
    ra, dec = Tan.of(header, "cutout").to_sky(x.ravel(), y.ravel())
    table = fitsio.read(tree / "dr10/south/survey-bricks-dr10-south.fits.gz", ext=1)
    inside = [
        (row["dec1"] <= dec) & (dec <= row["dec2"]) & ((ra - row["ra1"]) % 360 <= (row["ra2"] - row["ra1"]) % 360)
        for row in table
    ]
    return bool(np.any(inside))
