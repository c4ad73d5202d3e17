"""FITS cutouts that the user has: one file a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Cutout, PixelGrid, Product, Source, Way
from pipeline.errors import BadImage, JobError
from pipeline.surveys import OpenProduct, TileList
from pipeline.surveys.cubes import cut_cube
from pipeline.surveys.units import is_nanomaggies

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

    @property
    def release(self) -> str:
        return ""

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        return ()

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return ()

    def build(self, tiles: pa.Table | None) -> FilesSurvey:
        return FilesSurvey(self)


class FilesSurvey:
    """A `Survey` whose tiles are the paths of the files."""

    ways: tuple[Way, ...] = ("file",)

    def __init__(self, config: FilesConfig) -> None:
        self.bands = config.bands

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        """Raises JobError: no position tells the file."""
        raise JobError("the survey `files` needs a source table with a column of paths")

    def products(self, tile: str) -> tuple[Product, ...]:
        return (Product(tile, "image", None, tile),)

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        return ()

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        """The sky around `source` in its own file; see `cut_cube`."""
        path = source.tile
        try:
            image = open_product(self.products(path)[0])
        except FileNotFoundError as error:
            raise BadImage(f"{path}: no such file") from error
        return cut_cube(image, path, self.bands, source, width, _to_surface_brightness)


def _to_surface_brightness(header: Mapping[str, Any], grid: PixelGrid, path: str) -> float:
    """What turns the file's numbers into nanomaggies / arcsec2. Raises BadImage for an unknown unit.

    The cutout service resamples without regard to the area of a pixel: the numbers at 0.1 and at 0.262 arcsec
    are the same at the same place (measured on one galaxy at both scales: sums in the ratio of the pixel
    counts, 6.85 against 6.86), so they mean nanomaggies per native pixel whatever the scale asked for.
    """
    unit = str(header.get("BUNIT", "")).strip()
    if is_nanomaggies(unit):
        return grid.pixel_scale**-2
    if not unit and all(card in header for card in _SERVICE_CARDS):
        return _SERVICE_PIXEL**-2
    raise BadImage(f"{path}: BUNIT is {unit!r}, expected nanomaggies or an answer of the cutout service")
