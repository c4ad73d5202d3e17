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
        plane = (self.sky.brightness(header, x, y) * PIXEL**2).astype(np.float32)
        cards = {"SURVEY": "LegacySurvey", "VERSION": wanted["layer"], "IMAGETYP": "image", "BANDS": bands}
        cards |= {f"BAND{number}": band for number, band in enumerate(bands)}
        pixels = np.stack([plane] * len(bands)) if len(bands) > 1 else plane
        return ArrayImage(pixels, {**header, **cards, "IMAGEW": size, "IMAGEH": size})
