"""Tiles of your own: any FITS images with a WCS, in a folder or a bucket, and a table that says where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Expected, Layout, Product
from pipeline.errors import BadImage, JobError, NoCoverage
from pipeline.surveys import TileList
from pipeline.surveys.footprint import Footprint
from pipeline.surveys.mosaic import Calibrate
from pipeline.surveys.tiled import TiledSurvey, Tree
from pipeline.surveys.units import by_zero_point, fixed, is_nanomaggies, jansky_per_beam, nanomaggies, nanomaggies_each

CORNERS = tuple(f"{axis}{number}" for number in (1, 2, 3, 4) for axis in ("ra", "dec"))
COLUMNS = ("tile", "band", "path", *CORNERS)


class TilesConfig(BaseModel):
    """Tiles of your own: FITS images with a WCS, below a folder or bucket, and a footprint table.

    The table has a row a file: `tile`, `band` ("" for a cube whose header names its bands), `path` below the root,
    and the corners `ra1`, `dec1` to `ra4`, `dec4` in degrees, in order around the image. `pipeline footprint` writes
    it. The numbers are nanomaggies or Jy/beam where BUNIT says so, else counts of the zero point `zero_point`
    (mag AB) or of the one in the card `zero_point_card`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tiles"] = "tiles"
    footprint: str = "footprint.parquet"  # below the root, or a whole URL
    name: str = ""  # of the release, for the catalogue
    bands: tuple[str, ...] = Field(default=("g", "r", "z"), min_length=1)
    zero_point: float | None = None  # mag AB
    zero_point_card: str = "MAGZERO"
    frame: float = Field(default=64.0, gt=0)  # arcsec: for a job that asks for the whole frame

    @property
    def release(self) -> str:
        return self.name

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        return (TileList(self.footprint, COLUMNS),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return ()

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        """The survey on its footprint table. Raises JobError where that is missing or contradicts itself."""
        if tiles is None:
            raise JobError("the survey tiles needs its footprint table (survey.footprint)")
        if missing := [column for column in COLUMNS if column not in tiles.column_names]:
            raise JobError(f"the footprint table lacks the columns {', '.join(missing)}")
        corners = np.stack([np.asarray(tiles[name].to_numpy(), np.float64) for name in CORNERS], axis=1).reshape(
            -1, 4, 2
        )
        files = tuple(tiles[name].to_pylist() for name in ("tile", "band", "path"))
        found = Files(files[0], files[1], files[2], self.bands)
        return TiledSurvey(self.bands, self.frame, self._unit, found.footprint(corners), Tree(found))

    def _unit(self, header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
        unit = str(header.get("BUNIT", "")).strip()
        if is_nanomaggies(unit):
            return nanomaggies(header, pixel_scale, path)
        if unit.lower() == "jy/beam":
            return jansky_per_beam(header, pixel_scale, path)
        if self.zero_point is not None:
            return fixed(nanomaggies_each(self.zero_point))(header, pixel_scale, path)
        if self.zero_point_card in header:
            return by_zero_point(self.zero_point_card)(header, pixel_scale, path)
        raise BadImage(
            f"{path}: BUNIT is {unit!r} and there is no {self.zero_point_card}: say the zero point (survey.zero_point)"
        )


class Files:
    """The files of each tile, from three columns of a footprint table."""

    def __init__(
        self,
        tiles: Sequence[str],
        bands: Sequence[str],
        paths: Sequence[str],
        wanted: tuple[str, ...],
        layout: Layout | None = None,
    ) -> None:
        """`layout`: of every file, where that is known. Raises JobError where a tile has a band twice."""
        self._layout = layout
        self._rows: dict[str, int] = {}
        self._files: dict[str, dict[str, str]] = {}
        for row, (tile, band, path) in enumerate(zip(tiles, bands, paths, strict=True)):
            self._rows.setdefault(tile, row)
            files = self._files.setdefault(tile, {})
            if (band or "") in files:
                raise JobError(f"the footprint table has the band {band!r} of tile {tile} twice")
            if not band or band in wanted:
                files[band or ""] = path
        order = {band: number for number, band in enumerate(("", *wanted))}
        self._files = {
            tile: dict(sorted(files.items(), key=lambda x: order[x[0]])) for tile, files in self._files.items()
        }

    def footprint(self, corners: NDArray[np.float64]) -> Footprint:
        """The tiles that have any of the wanted bands. `corners` (R, 4, 2): of each row of the table, degrees."""
        kept = [tile for tile, files in self._files.items() if files]
        return Footprint(kept, corners[[self._rows[tile] for tile in kept]])

    def __call__(self, tile: str) -> tuple[Product, ...]:
        """Raises NoCoverage for a tile that is not in the table."""
        if tile not in self._files:
            raise NoCoverage(f"{tile}: not in the footprint table")
        expected = Expected(covered=True)
        return tuple(
            Product(tile, "image", band or None, path, expected, self._layout)
            for band, path in self._files[tile].items()
        )
