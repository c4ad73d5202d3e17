"""Answers of cutout services: how large to ask, and whether what came is what was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pipeline.data import Product, Source
from pipeline.errors import BadImage, NoCoverage
from pipeline.resample import LOBES
from pipeline.surveys import OpenProduct, TileImage
from pipeline.surveys.boxes import SMALLEST_IMAGE

SCALE_TOLERANCE = 1e-3  # of the pixel scale


def side(width: float, pixel_scale: float) -> int:
    """Pixels of `pixel_scale` arcsec to ask for, so that `width` arcsec have the margin that resampling needs."""
    margin = (LOBES + 2) * max(1.0, width / SMALLEST_IMAGE / pixel_scale)
    return 2 * math.ceil(width / pixel_scale / 2 + margin)


def address(service: str, **parameters: object) -> str:
    """The URL of a GET request with these parameters, in this order."""
    return f"{service}{'&' if '?' in service else '?'}{urlencode(parameters, safe='/:,')}"


def served(open_product: OpenProduct, product: Product, source: Source) -> TileImage:
    """The service's answer. Raises BadImage for one that was not asked for, NoCoverage where it has none."""
    try:
        image = open_product(product)
    except FileNotFoundError as error:
        raise NoCoverage(f"{source.tile}: the cutout service has nothing here: {error}") from error
    check(image, product)
    return image


def check(image: TileImage, product: Product) -> None:
    """Raises BadImage where bands or size are not those that were asked for.

    The Legacy Surveys' service clips an image of more than 3000 pixels and falls back to a layer's own bands
    without a word (reference archives.md 1.2).
    """
    expected = product.expected
    found = image.shape[-2:]
    if expected.shape is not None and found != expected.shape:
        raise BadImage(f"{product.path}: {found[0]}x{found[1]} pixels came, {expected.shape} were asked for")
    bands = _bands(image.header)
    if expected.bands is not None and bands and bands != expected.bands:
        raise BadImage(f"{product.path}: the bands {bands} came, {expected.bands} were asked for")


def _bands(header: Mapping[str, Any]) -> str:
    return str(header.get("BANDS", "")).strip()
