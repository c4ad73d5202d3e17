"""What the sources of one tile need of one of its files, by drawing them at random as often as it takes.

The same code that will plan the ranges counts them here, so that overlaps, edges and filled gaps are as they
will be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.archives.heads import FIRST, Places, PlainPixels, merged
from pipeline.archives.tile_table import PixelBox, TileTable
from pipeline.data import Layout

BOXES = 256  # of each number of sources, at least: then a mean is good to a few percent
_SEED = 1


@dataclass(frozen=True, slots=True)
class Touched:
    """Means over many draws."""

    ranges: float  # requests, the head's included
    bytes: float  # of those
    pixels: float  # that are decoded, each once
    sides: float  # of the image that boxes leave: a neighbour is opened for each


@lru_cache(maxsize=1024)
def touched(layout: Layout, half_boxes: tuple[float, ...], sources: int, gap: int) -> Touched:
    """What `sources` in a tile need, whose boxes are 2 `half_boxes` pixels wide, each drawn from those.

    `gap`: bytes that cost as much as a request.
    """
    rng = np.random.default_rng(_SEED)
    places, head = _file(layout)
    draws = max(2, math.ceil(BOXES / sources))
    totals = np.zeros(4)
    for _ in range(draws):
        boxes, sides = _boxes(layout, rng.choice(np.asarray(half_boxes), sources), rng)
        pieces = places.pieces(boxes)
        wanted = [(max(start, head), stop) for start, stop in merged(pieces[pieces[:, 1] > head], gap)]
        fetched = sum(stop - start for start, stop in wanted)
        totals += [1 + len(wanted), head + fetched, _pixels(layout, places, boxes), sides]
    return Touched(*(totals / draws).tolist())


def _file(layout: Layout) -> tuple[Places, int]:
    """A file with tiles of equal size, and the bytes of it that the first read takes."""
    (height, width), size = layout.shape, int(layout.bytes)
    if layout.codec == "plain":
        return PlainPixels(layout.shape, 0, max(1, size // (height * width))), min(FIRST, size)
    count = math.prod(-(-side // step) for side, step in zip(layout.shape, layout.tile, strict=True))
    edges = np.linspace(0, size, count + 1).astype(np.int64)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    return TileTable(layout.shape, layout.tile, {}, {"COMPRESSED_DATA": spans}), min(FIRST, size)


def _boxes(layout: Layout, half: NDArray[np.float64], rng: np.random.Generator) -> tuple[list[PixelBox], int]:
    """Boxes around places on the tile's own sky, as far as the image has them, and the sides that they leave."""
    bounds, sides = [], 0
    for side in layout.shape:
        centre = rng.uniform(layout.margin, side - layout.margin, len(half))
        low, high = np.floor(centre - half).astype(int), np.ceil(centre + half).astype(int) + 1
        sides += bool((low < 0).any()) + bool((high > side).any())
        bounds += [np.maximum(low, 0), np.minimum(high, side)]
    return list(zip(*(bound.tolist() for bound in bounds), strict=True)), sides


def _pixels(layout: Layout, places: Places, boxes: Sequence[PixelBox]) -> float:
    if not isinstance(places, TileTable):
        return float(sum((y1 - y0) * (x1 - x0) for y0, y1, x0, x1 in boxes))
    return float(len(places.touched(boxes)) * math.prod(layout.tile))
