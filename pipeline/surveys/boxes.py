"""Boxes of pixels: where a cutout lies on its tile, and how its pixels are read there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.data import PixelGrid
from pipeline.resample import LOBES, Flags, Floats
from pipeline.surveys import TileImage

SMALLEST_IMAGE = 128  # pixels a side: images no smaller than this find all their pixels inside the margin


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels [y0, y1) x [x0, x1) of a tile's grid, which may lie outside its image."""

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def around(cls, grid: PixelGrid, width: float) -> Self:
        """The pixels of a north-up square of `width` arcsec, and those that resampling it reaches beyond."""
        reach = (LOBES + 1) * max(1.0, width / SMALLEST_IMAGE / grid.pixel_scale)
        half_x, half_y = np.abs(grid.matrix).sum(axis=1) * width / 2 + reach
        x, y = grid.centre
        return cls(math.floor(y - half_y), math.ceil(y + half_y) + 1, math.floor(x - half_x), math.ceil(x + half_x) + 1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    def within(self, height: int, width: int) -> Box:
        """The part that an image of that size holds; may be empty."""
        x0, y0 = min(max(self.x0, 0), width), min(max(self.y0, 0), height)
        return Box(y0, max(y0, min(self.y1, height)), x0, max(x0, min(self.x1, width)))

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """This box in an array that holds `origin`."""
        rows = slice(self.y0 - origin.y0, self.y1 - origin.y0)
        return rows, slice(self.x0 - origin.x0, self.x1 - origin.x0)


def read(image: TileImage, box: Box) -> tuple[Floats, Flags]:
    """Pixels of a box inside the image, and which hold no data: exact zeros and what is not finite."""
    pixels: NDArray[Any] = image.section(box.y0, box.y1, box.x0, box.x1)
    flux = np.asarray(pixels, dtype=np.float32)
    return flux, ~np.isfinite(flux) | (flux == 0)
