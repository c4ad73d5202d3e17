"""Cutout services in memory: each draws the sky that was asked for, in the shape that its documentation gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np

from pipeline.data import Product
from pipeline.surveys import TileImage
from tests.skies import PIXEL, ArrayImage, BrickSky, tan_header


def asked(product: Product) -> dict[str, str]:
    """The parameters of a product's URL."""
    return {key: values[0] for key, values in parse_qs(urlsplit(product.path).query).items()}


@dataclass
class Viewer:
    """The Legacy Surveys' viewer, `/viewer/fits-cutout` (reference archives.md 1.2)."""

    sky: BrickSky
    pixel: float = PIXEL  # arcsec, native to the layer
    most: int = 3000  # pixels a side, clipped without a word
    answers: str | None = None  # the bands that come, whatever was asked for
    asked: list[str] = field(default_factory=list)

    def __call__(self, product: Product) -> TileImage:
        self.asked.append(product.path)
        wanted = asked(product)
        size, scale = min(int(wanted["size"]), self.most), float(wanted["pixscale"])
        bands = self.answers or wanted["bands"]
        header = tan_header(float(wanted["ra"]), float(wanted["dec"]), size, scale)
        y, x = np.indices((size, size), dtype=np.float64)
        plane = (self.sky.brightness(header, x, y) * self.pixel**2).astype(np.float32)
        cards = {"SURVEY": "LegacySurvey", "VERSION": wanted["layer"], "IMAGETYP": "image", "BANDS": bands}
        cards |= {f"BAND{number}": band for number, band in enumerate(bands)}
        pixels = np.stack([plane] * len(bands)) if len(bands) > 1 else plane
        return ArrayImage(pixels, {**header, **cards, "IMAGEW": size, "IMAGEH": size})


@dataclass
class Hips2fits:
    """The CDS service hips2fits: one HiPS a request, the numbers of its tiles interpolated."""

    sky: BrickSky
    unit: float = PIXEL**2  # what the HiPS holds of a nanomaggy / arcsec2
    asked: list[str] = field(default_factory=list)

    def __call__(self, product: Product) -> TileImage:
        self.asked.append(product.path)
        wanted = asked(product)
        size = int(wanted["width"])
        scale = float(wanted["fov"]) * 3600 / size
        header = tan_header(float(wanted["ra"]), float(wanted["dec"]), size, scale)
        steps = {"CDELT1": header.pop("CD1_1"), "CDELT2": header.pop("CD2_2")}
        y, x = np.indices((size, size), dtype=np.float64)
        plain = {key: value for key, value in header.items() if not key.startswith("CD")} | steps
        light = self.sky.brightness(plain, x, y) * self.unit
        return ArrayImage(light.astype(np.float32), plain)


@dataclass
class FirstServer:
    """The FIRST cutout server: a SIN projection, Jy/beam, one Stokes value and one frequency."""

    sky: BrickSky
    empty: bool = False
    asked: list[str] = field(default_factory=list)

    def __call__(self, product: Product) -> TileImage:
        self.asked.append(product.path)
        wanted = asked(product)
        hours, degrees = (float(word) for word in wanted["RA"].split())
        size = round(float(wanted["ImageSize"]) * 60 / 1.8) + 1
        header = tan_header(hours * 15, degrees, size, 1.8)
        y, x = np.indices((size, size), dtype=np.float64)
        light = np.zeros((size, size)) if self.empty else self.sky.brightness(header, x, y)
        cards = {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "BUNIT": "JY/BEAM", "CUNIT1": "deg", "CUNIT2": "deg"}
        return ArrayImage(light[None].astype(np.float32), {**header, **cards})


@dataclass
class Fitscut:
    """Pan-STARRS1's cutout service: linear counts, the WCS of the skycell's header cut down to the cutout."""

    sky: BrickSky
    exposure: float = 900.0  # s
    asked: list[str] = field(default_factory=list)

    def __call__(self, product: Product) -> TileImage:
        self.asked.append(product.path)
        wanted = asked(product)
        size = int(wanted["size"])
        header = tan_header(float(wanted["ra"]), float(wanted["dec"]), size, 0.25)
        y, x = np.indices((size, size), dtype=np.float64)
        counts = self.sky.brightness(header, x, y) * 0.25**2 * 10 * self.exposure
        return ArrayImage(counts.astype(np.float32), {**header, "EXPTIME": self.exposure})
