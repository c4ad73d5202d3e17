"""VLA FIRST, 1.4 GHz: maps of 1.8 arcsec pixels in Jy/beam, by the cutout server or from a copy of the maps.

Becker, White & Helfand 1995, ApJ 450, 559. The server and its parameters as astroquery.image_cutouts.first 0.4.11
knows them; it sends them by POST, and the server, a CGI program, takes them in the URL as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Expected, Product, Source
from pipeline.errors import JobError
from pipeline.surveys import TileList
from pipeline.surveys.served import address
from pipeline.surveys.tiled import Objects, Service, TiledSurvey, Tree, covered
from pipeline.surveys.tiles import COLUMNS, CORNERS, Files
from pipeline.surveys.units import jansky_per_beam

SERVER = "https://sundog.stsci.edu/cgi-bin/firstcutout"
PIXEL = 1.8  # arcsec; the beam is 5.4
MOST_PIXELS = 1024  # a side (astroquery: FirstClass.maximsize)
BAND = "1.4GHz"


class FirstConfig(BaseModel):
    """VLA FIRST at 1.4 GHz, Jy/beam: the cutout server, or a copy of its maps with a footprint table.

    Without `footprint` (as for the survey `tiles`) every source is asked of the server, where `moc`, a FITS MOC below
    the mirror or at a URL, does not say that there is no map.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["first"] = "first"
    name: str = "14dec17"  # of the release: the catalogue and maps of 2014 December 17 are the last
    server: str = SERVER
    footprint: str | None = None
    moc: str | None = None
    frame: float = Field(default=540.0, gt=0, le=(MOST_PIXELS - 10) * PIXEL)  # arcsec

    @property
    def bands(self) -> tuple[str, ...]:
        return (BAND,)

    @property
    def release(self) -> str:
        return self.name

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        if self.footprint is not None:
            return (TileList(self.footprint, COLUMNS),)
        return () if self.moc is None else (TileList(self.moc),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.server,)

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        """The survey, of maps where there is a footprint table. Raises JobError where that should be and is not."""
        service = Service(PIXEL, MOST_PIXELS, self._ask, resamples=False)
        if self.footprint is None:
            ground = covered(Objects(), tiles)
            return TiledSurvey(self.bands, self.frame, jansky_per_beam, ground, None, service)
        if tiles is None:
            raise JobError("FIRST needs the footprint table of its maps (survey.footprint)")
        corners = np.stack([np.asarray(tiles[name].to_numpy(), np.float64) for name in CORNERS], axis=1).reshape(
            -1, 4, 2
        )
        names, paths = tiles["tile"].to_pylist(), tiles["path"].to_pylist()
        found = Files(names, [BAND] * len(names), paths, self.bands)
        return TiledSurvey(self.bands, self.frame, jansky_per_beam, found.footprint(corners), Tree(found), service)

    def _ask(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        url = address(
            self.server,
            RA=f"{source.ra / 15:.9f} {source.dec:.8f}",  # hours and degrees
            Equinox="J2000",
            ImageSize=round(width / 60, 6),  # arcmin
            ImageType="FITS File",
            MaxImSize=MOST_PIXELS,
        )
        expected = Expected(centre=(source.ra, source.dec))
        return (Product(source.tile, "cutout", BAND, url, expected),)
