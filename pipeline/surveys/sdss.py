"""SDSS imaging, DR13 and later: corrected frames of one field and band each, and the viewer's `sdss` layer.

Frames: data.sdss.org, data model `frame`; paths as astroquery 0.4.11 asks for them (SDSSClass.IMAGING_URL_SUFFIX).
Fields: data model `window_flist`. The bands of a field lie on different pixels, turned against north, so that
all but one are resampled here, and the image's own resampling turns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Expected, Layout, Product, Source
from pipeline.errors import BadImage, JobError, NoCoverage
from pipeline.surveys import TileList
from pipeline.surveys.footprint import Footprint
from pipeline.surveys.legacy_service import MOST_PIXELS
from pipeline.surveys.legacy_service import URL as VIEWER
from pipeline.surveys.mosaic import Calibrate
from pipeline.surveys.served import address
from pipeline.surveys.tiled import Named, Service, TiledSurvey, Tree
from pipeline.surveys.units import nanomaggies, scaled

PIXEL = 0.396  # arcsec
FRAME = Layout((1489, 2048), (1489, 2048), 3.3e6, PIXEL, "gzip", margin=64)
"""One band of a field: packed as a whole, so that all of it is decoded; fields of a run share 128 rows."""
RERUN = 301  # of the released reductions
LAYER_BANDS = ("g", "r", "i")  # of the viewer's layer
FIELD_COLUMNS = ("run", "rerun", "camcol", "field", "node", "incl", "mu_start", "mu_end", "nu_start", "nu_end")

Band = Literal["u", "g", "r", "i", "z"]


class SdssConfig(BaseModel):
    """SDSS frames below a copy of the Science Archive Server (SAS), or the Legacy Surveys viewer's layer `sdss`.

    `fields` says where the fields are; without it the source table names each one, as "run/camcol/field", in the
    column that `sources.columns.path` names, and nothing completes a cutout that leaves its field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sdss"] = "sdss"
    data_release: int = Field(default=17, ge=13)
    bands: tuple[Band, ...] = Field(default=("g", "r", "i"), min_length=1)
    fields: str | None = "dr{release}/env/PHOTO_RESOLVE/window_flist.fits"  # below the root
    frame: float = Field(default=64.0, gt=0, le=MOST_PIXELS * PIXEL)  # arcsec: for a job that asks for the whole frame
    cutout_service: str | None = VIEWER  # for bands among g, r, i

    @property
    def release(self) -> str:
        return f"dr{self.data_release}"

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        if self.fields is None:
            return ()
        return (TileList(self.fields.replace("{release}", str(self.data_release)), FIELD_COLUMNS),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.cutout_service,) if self.cutout_service and self._layer_will_do else ()

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        """The survey on its table of fields. Raises JobError where that is missing or lacks columns."""
        if tiles is None and self.fields is not None:
            raise JobError("SDSS needs its table of fields, window_flist.fits (survey.fields)")
        service = Service(PIXEL, MOST_PIXELS, self._ask, resamples=True) if self.hosts else None
        ground = Named(self.kind) if tiles is None else field_footprint(tiles)
        tree = Tree(self._frames, ways=("file",))  # bzip2 has no ranges
        return TiledSurvey(self.bands, self.frame, _unit, ground, tree, service)

    @property
    def _layer_will_do(self) -> bool:
        return set(self.bands) <= set(LAYER_BANDS)

    def _frames(self, tile: str) -> tuple[Product, ...]:
        try:
            run, camcol, field = (int(part) for part in tile.split("/"))
        except ValueError as error:
            raise NoCoverage(f"{tile}: expected run/camcol/field") from error
        folder = f"dr{self.data_release}/{_reduction(self.data_release)}/photoObj/frames/{RERUN}/{run}/{camcol}"
        paths = {band: f"{folder}/frame-{band}-{run:06d}-{camcol}-{field:04d}.fits.bz2" for band in self.bands}
        expected = Expected(covered=True)
        return tuple(Product(tile, "image", band, path, expected, FRAME) for band, path in paths.items())

    def _ask(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        bands = "".join(self.bands)
        place = {"ra": f"{source.ra:.7f}", "dec": f"{source.dec:.7f}"}
        url = address(self.cutout_service or "", **place, layer="sdss", pixscale=PIXEL, size=pixels, bands=bands)
        expected = Expected(bands, (pixels, pixels), PIXEL, (source.ra, source.dec), covered=True)
        return (Product(source.tile, "cutout", None, url, expected),)


def field_footprint(fields: pa.Table) -> Footprint:
    """The fields of rerun 301 of a `window_flist` table, named "run/camcol/field". Raises JobError."""
    if missing := [column for column in FIELD_COLUMNS if column not in fields.column_names]:
        raise JobError(f"the table of SDSS fields lacks the columns {', '.join(missing)}")
    rerun = pc.utf8_trim_whitespace(fields["rerun"].cast(pa.string()))
    fields = fields.filter(pc.equal(rerun, str(RERUN)))
    names = pc.binary_join_element_wise(*(fields[name].cast(pa.string()) for name in ("run", "camcol", "field")), "/")
    values = {name: np.asarray(fields[name].to_numpy(), np.float64) for name in FIELD_COLUMNS[4:]}
    corners = [
        great_circle_to_sky(values[mu], values[nu], values["node"], values["incl"])
        for mu, nu in (("mu_start", "nu_start"), ("mu_end", "nu_start"), ("mu_end", "nu_end"), ("mu_start", "nu_end"))
    ]  # 4 x (T, 2)
    return Footprint(names.to_pylist(), np.stack(corners, axis=1))


def great_circle_to_sky(
    mu: NDArray[np.float64], nu: NDArray[np.float64], node: NDArray[np.float64], inclination: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, 2) ra, dec in degrees of SDSS great circle coordinates, degrees (sdss.org, "Coordinate systems")."""
    m, n, i = np.radians(mu - node), np.radians(nu), np.radians(inclination)
    x, y, z = np.cos(m) * np.cos(n), np.sin(m) * np.cos(n), np.sin(n)
    ra = np.degrees(np.arctan2(y * np.cos(i) - z * np.sin(i), x)) + node
    dec = np.degrees(np.arcsin(np.clip(y * np.sin(i) + z * np.cos(i), -1, 1)))
    return np.stack([ra % 360.0, dec], axis=-1)


def _reduction(release: int) -> str:
    """The folder of a release's imaging: as astroquery.sdss has it."""
    return "prior-surveys/sdss4-dr17-eboss" if release > 17 else "eboss"


def _unit(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
    """Frames say nanomaggy; the viewer's answers say nothing, and mean nanomaggies in a native pixel."""
    if header.get("BUNIT"):
        band = str(header.get("FILTER", "")).strip()
        if band and band not in get_args(Band):
            raise BadImage(f"{path}: FILTER is {band!r}, expected one of {', '.join(get_args(Band))}")
        return nanomaggies(header, pixel_scale, path)
    if header.get("BANDS"):
        return scaled(PIXEL**-2)
    raise BadImage(f"{path}: neither an SDSS frame in nanomaggies nor an answer of the cutout service")
