"""FITS cutouts that the user has: one file a source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Cutout, PixelGrid, Product, Source
from pipeline.errors import BadImage, JobError
from pipeline.surveys import OpenProduct, TileImage
from pipeline.surveys.boxes import Box, read

_NANOMAGGIES = ("nanomaggy", "nanomaggies", "nmgy", "nmaggy")
_SERVICE_PIXEL = 0.262  # arcsec
_SERVICE_CARDS = ("SURVEY", "BANDS", "IMAGETYP")


class FilesConfig(BaseModel):
    """FITS cutouts of your own: the source table says where each one is.

    A file holds a cube (C, H, W) whose header names its bands (BANDS = 'grz', or BAND0, BAND1, ...: an answer of
    the Legacy Surveys' cutout service), or one image HDU a band (BAND or FILTER in each). Flux is in
    nanomaggies: a pixel where BUNIT says so, a pixel of 0.262 arcsec in an answer of the cutout service, which
    says nothing. A file in any other unit is refused: its row becomes `bad_image`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["files"] = "files"
    bands: tuple[str, ...] = Field(default=("g", "r", "z"), min_length=1)


class FilesSurvey:
    """A `Survey` whose tiles are the paths of the files."""

    def __init__(self, config: FilesConfig) -> None:
        self.bands = config.bands

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        """Raises JobError: no position tells the file."""
        raise JobError("the survey `files` needs a source table with a column of paths")

    def products(self, tile: str) -> tuple[Product, ...]:
        return (Product(tile, "image", None, tile),)

    def cut(self, open_product: OpenProduct, source: Source, width: float | None) -> Cutout:
        """The sky around `source` in its own file; `masked_fraction` is NaN, as there is no mask.

        Raises BadImage, naming the file, where the file lacks bands, unit, WCS or the source. A file that has
        some of several bands is cut all the same if those are two or more.
        """
        path = source.tile
        try:
            image = open_product(self.products(path)[0])
        except FileNotFoundError as error:
            raise BadImage(f"{path}: no such file") from error
        planes = _planes(image, self.bands, path)
        grid = _grid(image, source, path)
        factor = _to_surface_brightness(image.header, grid, path)
        height, length = image.shape[-2:]
        box = Box(0, height, 0, length) if width is None else Box.around(grid, width).within(height, length)
        stored, empty = read(image, box)
        stored, empty = stored.reshape(-1, *box.shape), empty.reshape(-1, *box.shape)
        flux = np.zeros((len(self.bands), *box.shape), np.float32)
        bad = np.ones(flux.shape, np.bool_)
        for c, band in enumerate(self.bands):
            if band in planes:
                bad[c] = empty[planes[band]]
                flux[c] = np.where(bad[c], np.float32(0), stored[planes[band]] * np.float32(factor))
        centre = (grid.centre[0] - box.x0, grid.centre[1] - box.y0)
        return Cutout(flux, bad, PixelGrid(centre, grid.matrix), masked_fraction=math.nan)


def _planes(image: TileImage, wanted: tuple[str, ...], path: str) -> dict[str, int]:
    """Which plane holds which band. Raises BadImage where fewer than two of several wanted bands are there."""
    count = image.shape[0] if len(image.shape) == 3 else 1
    names = _band_names(image.header, count)
    found = f"bands {', '.join(names)}" if names else f"{count} plane(s) of no named band"
    if len(set(names)) != len(names):
        raise BadImage(f"{path}: holds {found}: a band twice")
    planes = {name: plane for plane, name in enumerate(names) if name in wanted}
    if len(planes) < min(2, len(wanted)):
        raise BadImage(f"{path}: holds {found}; needed: {', '.join(wanted)}")
    return planes


def _band_names(header: Mapping[str, Any], count: int) -> tuple[str, ...]:
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


def _to_surface_brightness(header: Mapping[str, Any], grid: PixelGrid, path: str) -> float:
    """What turns the file's numbers into nanomaggies / arcsec2. Raises BadImage for an unknown unit.

    The cutout service resamples without regard to the area of a pixel: the numbers at 0.1 and at 0.262 arcsec
    are the same at the same place (measured on one galaxy at both scales: sums in the ratio of the pixel
    counts, 6.85 against 6.86), so they mean nanomaggies per native pixel whatever the scale asked for.
    """
    unit = str(header.get("BUNIT", "")).strip()
    if unit.lower().removesuffix("/pixel").removesuffix("/pix") in _NANOMAGGIES:
        return grid.pixel_scale**-2
    if not unit and all(card in header for card in _SERVICE_CARDS):
        return _SERVICE_PIXEL**-2
    raise BadImage(f"{path}: BUNIT is {unit!r}, expected nanomaggies or an answer of the cutout service")
