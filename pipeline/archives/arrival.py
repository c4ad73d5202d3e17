"""Sources in their order, each once what it needs of the archive is under way or there.

What a source needs is found by cutting it before anything has come: from images that are not there, or whose pixels
are all one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.opener import OPEN_FILES, Opener
from pipeline.archives.tile_table import PixelBox
from pipeline.data import Product, Source, Way
from pipeline.errors import SourceError
from pipeline.surveys import Survey, TileImage

Wanted = tuple[Source, float | None]
"""A source and the width of its cutout in arcsec; None for the survey's own frame."""

PLANNED_FILES = OPEN_FILES // 2  # whose ranges are planned together; the rest is left to their neighbours


def arriving(survey: Survey, opener: Opener, wanted: Sequence[Wanted], way: Way) -> Iterator[Source]:
    """The sources of `wanted`, sorted by tile, one after the other as they may be cut from what `opener` opens."""
    if way == "ranges":
        for part in _parts(survey, wanted):
            _plan_ranges(survey, opener, part)
            yield from (source for source, _ in part)
        return
    if way == "cutout":
        opener.expect(product for source, width in wanted for product in _asked(survey, source, width))
    else:
        opener.expect(product for tile in _tiles(wanted) for product in _products(survey, tile))
    yield from (source for source, _ in wanted)


def _asked(survey: Survey, source: Source, width: float | None) -> list[Product]:
    """What cutting the source asks of the cutout service."""
    asked: list[Product] = []

    def refuse(product: Product) -> TileImage:
        asked.append(product)
        raise FileNotFoundError(product.path)

    with suppress(SourceError):
        survey.cut(refuse, source, width, "cutout")
    return asked


def _plan_ranges(survey: Survey, opener: Opener, wanted: Sequence[Wanted]) -> None:
    """Read the heads of all files, find the boxes of all sources, and fetch all ranges together."""
    opener.expect(product for tile in _tiles(wanted) for product in _products(survey, tile))
    boxes: dict[str, list[PixelBox]] = {}

    def watched(product: Product) -> TileImage:
        return _Watched(opener(product), product, boxes.setdefault(product.path, []))

    for source, width in wanted:
        with suppress(SourceError):
            survey.cut(watched, source, width, "ranges")
    opener.fetch(boxes)


class _Watched:
    """A `TileImage` without pixels, which notes the boxes that are asked for."""

    def __init__(self, image: TileImage, product: Product, boxes: list[PixelBox]) -> None:
        self.shape: tuple[int, ...] = image.shape
        self.header: Mapping[str, Any] = image.header
        self._boxes = boxes
        self._one = np.int32(1) if product.kind == "maskbits" else np.float32(1)

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        self._boxes.append((y0, y1, x0, x1))
        return np.broadcast_to(self._one, (*self.shape[:-2], y1 - y0, x1 - x0))


def _tiles(wanted: Sequence[Wanted]) -> list[str]:
    return list(dict.fromkeys(source.tile for source, _ in wanted if source.tile))


def _products(survey: Survey, tile: str) -> Sequence[Product]:
    """None for a tile that the survey does not have: its sources will say so."""
    try:
        return survey.products(tile)
    except SourceError:
        return ()


def _parts(survey: Survey, wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Runs of whole tiles with few enough files that all may be open at once."""
    held: list[Wanted] = []
    files = 0
    for tile, run in groupby(wanted, key=lambda pair: pair[0].tile):
        more = len(_products(survey, tile)) if tile else 0
        if held and files + more > PLANNED_FILES:
            yield held
            held, files = [], 0
        held = [*held, *run]
        files += more
    if held:
        yield held
