"""Any HiPS, by the CDS service hips2fits: previews, resampled twice, for what no other way reaches.

Parameters as astroquery.hips2fits 0.4.11 sends them; the service is documented at alasky.cds.unistra.fr.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Expected, Product, RowFlag, Source
from pipeline.surveys import TileList
from pipeline.surveys.mosaic import Calibrate
from pipeline.surveys.served import address
from pipeline.surveys.tiled import Objects, Service, TiledSurvey, covered
from pipeline.surveys.units import scaled

HIPS2FITS = "https://alasky.cds.unistra.fr/hips-image-services/hips2fits"
MOST_PIXELS = 7000  # a side: the service gives 50 million pixels at most
_LEGACY = {band: f"CDS/P/DESI-Legacy-Surveys/DR10/{band}" for band in "grz"}
_LEGACY_UNIT = 0.262**-2  # its HiPS keep the numbers of the bricks: nanomaggies in a pixel of 0.262 arcsec


class HipsConfig(BaseModel):
    """Any HiPS of FITS tiles, by hips2fits: previews, and every row is flagged PREVIEW.

    `hips`: band -> identifier, as the CDS MOCServer lists them. `nanomaggies`: how many a square arcsecond a 1 in
    the HiPS means. `moc`: a FITS MOC below the mirror or at a URL; without it every position is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hips"] = "hips"
    hips: Mapping[str, str] = Field(default=_LEGACY, min_length=1)
    nanomaggies: float = Field(default=_LEGACY_UNIT, gt=0)  # per square arcsecond and 1
    pixel_scale: float = Field(default=0.262, gt=0)  # arcsec, at which the service is asked
    service: str = HIPS2FITS
    moc: str | None = None
    name: str = "hips"
    frame: float = Field(default=64.0, gt=0)  # arcsec: for a job that asks for the whole frame

    @property
    def bands(self) -> tuple[str, ...]:
        return tuple(self.hips)

    @property
    def release(self) -> str:
        return self.name

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        return () if self.moc is None else (TileList(self.moc),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.service,)

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        ground = covered(Objects(), tiles)
        service = Service(self.pixel_scale, MOST_PIXELS, self._ask, resamples=True)
        return TiledSurvey(self.bands, self.frame, self._unit, ground, None, service, RowFlag.PREVIEW)

    def _ask(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        place = {"ra": f"{source.ra:.7f}", "dec": f"{source.dec:.7f}", "fov": f"{width / 3600:.9f}"}
        size = {"width": pixels, "height": pixels}
        expected = Expected(None, (pixels, pixels), width / pixels, (source.ra, source.dec))
        return tuple(
            Product(
                source.tile,
                "cutout",
                band,
                address(self.service, hips=name, **size, projection="TAN", coordsys="icrs", **place, format="fits"),
                expected,
            )
            for band, name in self.hips.items()
        )

    def _unit(self, header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
        """The service interpolates numbers and does not sum them: what a 1 means does not depend on the pixels."""
        return scaled(self.nanomaggies)
