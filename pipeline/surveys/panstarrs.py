"""Pan-STARRS1 3pi stacks (DR1 and DR2): skycells in a bucket, and the cutout service `fitscut`.

The tessellation RINGS.V3, and pixels on an asinh scale in the files but not in cutouts: outerspace.stsci.edu, "PS1
Sky tessellation patterns" and "PS1 Stack images"; paths as astroquery.mast's cloud tests have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Expected, Layout, Product, Source
from pipeline.errors import NoCoverage
from pipeline.resample import Floats, Positions
from pipeline.surveys import TileList
from pipeline.surveys.mosaic import Calibrate
from pipeline.surveys.served import address
from pipeline.surveys.tiled import Service, TiledSurvey, Tree, covered
from pipeline.surveys.units import nanomaggies_each, number

PIXEL = 0.25  # arcsec
ZERO_POINT = 25.0  # mag AB of one count a second, in every stack
FITSCUT = "https://ps1images.stsci.edu/cgi-bin/fitscut.cgi"
MOST_PIXELS = 6000  # a side that fitscut is asked for: a skycell has no more
CELLS = 10  # of a projection cell, along each axis
OVERLAP = 480  # pixels that neighbouring skycells share
STACK = Layout((6250, 6250), (1, 6250), 45e6, PIXEL, "rice", OVERLAP // 2)
"""One band of a skycell; fpack's tiles of one row and the size of the file are assumed."""
_RINGS = np.array(
    [  # projection cell, cells of the ring, Dec, Dec from and to, pixels of a skycell in x and y (ps1grid.fits)
        (487, 72, -38.0, -39.98569922229713, -35.98748871852416, 6305, 6279),
        (559, 76, -34.0, -35.98748871852416, -31.988947843740302, 6265, 6274),
        (635, 79, -30.0, -31.988947843740302, -27.990585819085737, 6274, 6269),
        (714, 82, -26.0, -27.990585819085737, -23.991856317278298, 6255, 6265),
        (796, 84, -22.0, -23.991856317278298, -19.99333106003115, 6279, 6261),
        (880, 86, -18.0, -19.99333106003115, -15.994464100667857, 6274, 6258),
        (966, 88, -14.0, -15.994464100667857, -11.995671545879146, 6242, 6254),
        (1054, 89, -10.0, -11.995671545879146, -7.997014822849273, 6248, 6250),
        (1143, 89, -6.0, -7.997014822849273, -3.998086931795508, 6291, 6247),
        (1232, 90, -2.0, -3.998086931795508, 0.0, 6240, 6243),
        (1322, 90, 2.0, 0.0, 3.998086931795508, 6240, 6243),
        (1412, 89, 6.0, 3.998086931795508, 7.997014822849273, 6291, 6247),
        (1501, 89, 10.0, 7.997014822849273, 11.995671545879146, 6248, 6250),
        (1590, 88, 14.0, 11.995671545879146, 15.994464100667857, 6242, 6254),
        (1678, 86, 18.0, 15.994464100667857, 19.99333106003115, 6274, 6258),
        (1764, 84, 22.0, 19.99333106003115, 23.991856317278298, 6279, 6261),
        (1848, 82, 26.0, 23.991856317278298, 27.990585819085737, 6255, 6265),
        (1930, 79, 30.0, 27.990585819085737, 31.988947843740302, 6274, 6269),
        (2009, 76, 34.0, 31.988947843740302, 35.98748871852416, 6265, 6274),
        (2085, 72, 38.0, 35.98748871852416, 39.98569922229713, 6305, 6279),
        (2157, 68, 42.0, 39.98569922229713, 43.98384988850235, 6320, 6284),
        (2225, 64, 46.0, 43.98384988850235, 47.98179099058205, 6307, 6289),
        (2289, 60, 50.0, 47.98179099058205, 51.97972846465295, 6261, 6295),
        (2349, 55, 54.0, 51.97972846465295, 55.97676677254534, 6283, 6302),
        (2404, 50, 58.0, 55.97676677254534, 59.97411834356914, 6278, 6311),
        (2454, 45, 62.0, 59.97411834356914, 63.97005521318337, 6240, 6319),
        (2499, 39, 66.0, 63.97005521318337, 67.96475284198297, 6307, 6333),
        (2538, 33, 70.0, 67.96475284198297, 71.95817764373305, 6365, 6350),
        (2571, 27, 74.0, 71.95817764373305, 75.94974140116577, 6413, 6371),
        (2598, 21, 78.0, 75.94974140116577, 79.93968190571101, 6452, 6398),
        (2619, 15, 82.0, 79.93968190571101, 83.93610604798963, 6481, 6429),
        (2634, 9, 86.0, 83.93610604798963, 87.96940975734594, 6501, 6419),
        (2643, 1, 90.0, 87.96940975734594, 90.0001, 6240, 6240),
    ]
)  # fmt: skip
_FIRST, _COUNT, _DEC, _LOW, _HIGH, _WIDE, _TALL = _RINGS.T


class PanstarrsConfig(BaseModel):
    """Pan-STARRS1 stacks: skycells below a copy of the public bucket, or the cutout service fitscut.

    `moc`: a FITS MOC below the mirror or at a URL; without it every skycell is asked for, down to Dec -40.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["panstarrs"] = "panstarrs"
    bands: tuple[Literal["g", "r", "i", "z", "y"], ...] = Field(default=("g", "r", "z"), min_length=1)
    frame: float = Field(default=64.0, gt=0, le=1000.0)  # arcsec: for a job that asks for the whole frame
    cutout_service: str | None = FITSCUT
    moc: str | None = None

    @property
    def release(self) -> str:
        return "rings.v3"  # the stacks of DR1 and DR2 are the same

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        return () if self.moc is None else (TileList(self.moc),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return () if self.cutout_service is None else (self.cutout_service,)

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        service = Service(PIXEL, MOST_PIXELS, self._ask, resamples=False) if self.cutout_service else None
        return TiledSurvey(self.bands, self.frame, linear, covered(Rings(), tiles), Tree(self._stacks), service)

    def _stacks(self, tile: str) -> tuple[Product, ...]:
        expected = Expected(pixel_scale=PIXEL, covered=True)
        return tuple(Product(tile, "image", band, stack_path(tile, band), expected, STACK) for band in self.bands)

    def _ask(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        place = {"ra": f"{source.ra:.7f}", "dec": f"{source.dec:.7f}"}
        expected = Expected(None, (pixels, pixels), PIXEL, (source.ra, source.dec), covered=True)
        return tuple(
            Product(
                source.tile,
                "cutout",
                band,
                address(
                    self.cutout_service or "",
                    **place,
                    size=pixels,
                    format="fits",
                    red=f"/{stack_path(source.tile, band)}",
                ),
                expected,
            )
            for band in self.bands
        )


class Rings:
    """The skycells of the tessellation RINGS.V3, named "1322.045": projection cell and skycell."""

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        """(N,) the skycell whose centre is nearest along x and y; "" south of the survey (and for NaN)."""
        known = np.isfinite(ra) & np.isfinite(dec)
        ring = np.clip(np.searchsorted(_HIGH, np.where(known, dec, 0.0)), 0, len(_HIGH) - 1)
        place = _Place.of(np.where(known, ra, 0.0), np.where(known, dec, 0.0), np.minimum(ring, len(_HIGH) - 2))
        polar = ring >= len(_HIGH) - 2
        if polar.any():
            above = _Place.of(ra, np.where(known, dec, 0.0), np.full(len(ra), len(_HIGH) - 1))
            place = place.where(~(polar & (place.room < above.room)), above)
        names = np.array([f"{c:04d}.{s:03d}" for c, s in zip(place.cell, place.skycell, strict=True)], dtype=np.str_)
        return np.where(known & (dec >= _LOW[0]), names, "")

    def near(self, tile: str, ra: Positions, dec: Positions) -> Sequence[str]:
        """The owners of the positions, besides `tile`: the one of most of them first."""
        names, counts = np.unique(self.tiles(ra, dec), return_counts=True)
        return [str(name) for name in names[np.argsort(-counts, kind="stable")] if name not in ("", tile)]


class _Place:
    """Where positions lie in the projection cells of given rings."""

    def __init__(self, ring: NDArray[np.intp], column: NDArray[np.intp], x: Positions, y: Positions) -> None:
        self.ring, self.column, self.x, self.y = ring, column, x, y

    @classmethod
    def of(cls, ra: Positions, dec: Positions, ring: NDArray[np.intp]) -> _Place:
        """x, y in pixels west and north of the tangent point of the nearest cell of the ring."""
        column = np.rint((ra % 360.0) * _COUNT[ring] / 360.0).astype(np.intp) % _COUNT[ring].astype(np.intp)
        away, centre, d = np.radians(ra - column * 360.0 / _COUNT[ring]), np.radians(_DEC[ring]), np.radians(dec)
        outward = np.sin(d) * np.sin(centre) + np.cos(d) * np.cos(centre) * np.cos(away)
        step = math.radians(PIXEL / 3600)
        east = np.cos(d) * np.sin(away) / outward
        north = (np.sin(d) * np.cos(centre) - np.cos(d) * np.sin(centre) * np.cos(away)) / outward
        return cls(ring, column, -east / step, north / step)

    @property
    def room(self) -> Positions:
        """Pixels to the nearest side of the projection cell, negative outside."""
        half_x = (CELLS * (_WIDE[self.ring] - OVERLAP) + OVERLAP) / 2
        half_y = (CELLS * (_TALL[self.ring] - OVERLAP) + OVERLAP) / 2
        return np.minimum(half_x - np.abs(self.x), half_y - np.abs(self.y))

    @property
    def cell(self) -> NDArray[np.intp]:
        return _FIRST[self.ring].astype(np.intp) + self.column

    @property
    def skycell(self) -> NDArray[np.intp]:
        across = np.rint((CELLS - 1) / 2 + self.x / (_WIDE[self.ring] - OVERLAP)).astype(np.intp).clip(0, CELLS - 1)
        up = np.rint((CELLS - 1) / 2 + self.y / (_TALL[self.ring] - OVERLAP)).astype(np.intp).clip(0, CELLS - 1)
        return CELLS * up + across

    def where(self, keep: NDArray[np.bool_], other: _Place) -> _Place:
        """These places where `keep`, the others elsewhere."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("ring", "column", "x", "y"))
        return _Place(*(np.where(keep, ours, theirs) for ours, theirs in pairs))


def stack_path(tile: str, band: str) -> str:
    """The path of a stack below the bucket's `public` folder. Raises NoCoverage for what is no skycell."""
    cell, _, skycell = tile.partition(".")
    if not (cell.isdigit() and skycell.isdigit()):
        raise NoCoverage(f"{tile}: no skycell of Pan-STARRS1")
    return f"rings.v3.skycell/{cell}/{skycell}/rings.v3.skycell.{tile}.stk.{band}.unconv.fits"


def linear(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
    """Stacks hold asinh magnitudes where the header has BSOFTEN and BOFFSET, counts where it has not.

    counts = BOFFSET + 2 BSOFTEN sinh(v ln 10 / 2.5), of EXPTIME seconds (outerspace.stsci.edu, "PS1 Stack images").
    """
    factor = np.float32(nanomaggies_each(ZERO_POINT) / number(header, "EXPTIME", path) * pixel_scale**-2)
    if "BSOFTEN" not in header or "BOFFSET" not in header:
        return lambda stored: stored * factor
    offset, softening = number(header, "BOFFSET", path), number(header, "BSOFTEN", path)

    def calibrate(stored: Floats) -> Floats:
        # In float64: a star's sinh loses its last digits in float32 before the factor makes it small again.
        counts = offset + 2 * softening * np.sinh(stored.astype(np.float64) * (math.log(10) / 2.5))
        return np.asarray(counts * factor, dtype=np.float32)

    return calibrate
