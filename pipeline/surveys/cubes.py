"""FITS files that hold every band of one source: a cutout service's answers, and files that people keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.data import Cutout, PixelGrid, Source
from pipeline.errors import BadImage
from pipeline.surveys import TileImage
from pipeline.surveys.boxes import Box, read

Factor = Callable[[Mapping[str, Any], PixelGrid, str], float]
"""Header, grid and path of a file -> what turns its numbers into flux. Raises BadImage for an unknown unit."""


def cut_cube(
    image: TileImage, path: str, bands: tuple[str, ...], source: Source, width: float | None, factor: Factor
) -> Cutout:
    """The sky around `source` in one file; `masked_fraction` is NaN, as there is no mask.

    Raises BadImage, naming the file, where it lacks bands, unit, WCS or the source. A file that has some of
    several bands is cut all the same if those are two or more.
    """
    planes = _planes(image, bands, path)
    grid = _grid(image, source, path)
    scale = np.float32(factor(image.header, grid, path))
    height, length = image.shape[-2:]
    box = Box(0, height, 0, length) if width is None else Box.around(grid, width).within(height, length)
    stored, empty = read(image, box)
    stored, empty = stored.reshape(-1, *box.shape), empty.reshape(-1, *box.shape)
    flux = np.zeros((len(bands), *box.shape), np.float32)
    bad = np.ones(flux.shape, np.bool_)
    for c, band in enumerate(bands):
        if band in planes:
            bad[c] = empty[planes[band]]
            flux[c] = np.where(bad[c], np.float32(0), stored[planes[band]] * scale)
    centre = (grid.centre[0] - box.x0, grid.centre[1] - box.y0)
    return Cutout(flux, bad, PixelGrid(centre, grid.matrix), masked_fraction=math.nan)


def _planes(image: TileImage, wanted: tuple[str, ...], path: str) -> dict[str, int]:
    """Which plane holds which band. Raises BadImage where fewer than two of several wanted bands are there."""
    count = image.shape[0] if len(image.shape) == 3 else 1
    names = band_names(image.header, count)
    found = f"bands {', '.join(names)}" if names else f"{count} plane(s) of no named band"
    if len(set(names)) != len(names):
        raise BadImage(f"{path}: holds {found}: a band twice")
    planes = {name: plane for plane, name in enumerate(names) if name in wanted}
    if len(planes) < min(2, len(wanted)):
        raise BadImage(f"{path}: holds {found}; needed: {', '.join(wanted)}")
    return planes


def band_names(header: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The band of each of `count` planes; () where the header does not say."""
    numbered = [str(header.get(f"BAND{i}", "")).strip() for i in range(count)]
    if all(numbered):
        return tuple(numbered)
    together = str(header.get("BANDS", "")).strip()
    if len(together) == count:
        return tuple(together)
    alone = next((str(header[key]).strip() for key in ("BAND", "FILTER") if header.get(key)), "")
    return (alone,) if count == 1 and alone else ()


def _grid(image: TileImage, source: Source, path: str) -> PixelGrid:
    from pipeline.surveys.wcs import linearised  # astropy: not needed to read a job

    height, length = image.shape[-2:]
    grid = linearised(image.header, (height, length), (source.ra, source.dec), path)
    x, y = grid.centre
    if not (-0.5 <= x < length - 0.5 and -0.5 <= y < height - 0.5):
        raise BadImage(f"{path}: the source is at pixel ({x:.1f}, {y:.1f}), outside {height}x{length}")
    return grid
