"""The DESI Legacy Imaging Surveys: co-added bricks of 0.262 arcsec pixels, in the tree that they are published as.

Facts: legacysurvey.org pages dr10/files, dr10/bitmasks and dr9/files; legacypipe `survey.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.data import Cutout, Expected, Layout, Product, RowFlag, Source, Way
from pipeline.errors import ArchiveError, JobError, NoCoverage
from pipeline.surveys import OpenProduct, TileImage, TileList
from pipeline.surveys.boxes import Box
from pipeline.surveys.bricks import SEAM_DEC, Bricks, brick_columns, in_north_galactic_cap, owned_by_north
from pipeline.surveys.cubes import cut_cube
from pipeline.surveys.legacy_grid import BrickProjections, check_same
from pipeline.surveys.legacy_service import MOST_PIXELS, PIXEL, URL, brick_cutout
from pipeline.surveys.mosaic import Plane, Planes, stitched
from pipeline.surveys.served import served, side
from pipeline.surveys.tan import Tan

SWEEPS = {"dr9": "sweep/9.0", "dr10": "sweep/10.1"}  # 10.1 mends 598 bricks of 10.0; DR11's is not known to us
BAD_BITS = sum(1 << bit for bit in (1, 2, 3, 4, 5, 6, 7, 11, 14, 15))
"""Bits of maskbits that count as masked: BRIGHT, SATUR and ALLMASK of every band, MEDIUM (dr10/bitmasks).

Not NPRIMARY (0), which marks the margin of a brick, and not GALAXY (12), which marks what we look for.
"""
IMAGE_MARGIN = 82  # pixels by which an image leaves its cell: 3600 pixels for 0.25 deg
IMAGE = Layout((3600, 3600), (100, 100), 13.72e6, PIXEL, "rice", IMAGE_MARGIN)
"""One band of a brick: Rice at the survey's absolute step (legacypipe, `get_compression_kwargs`; archives.md 3)."""
MASK = Layout((3600, 3600), (100, 100), 0.06e6, PIXEL, "hcompress", IMAGE_MARGIN)
_SPREAD: NDArray[np.float64] = np.linspace(-0.5, 0.5, 5)  # of the box: where neighbours are looked for


class LegacyConfig(BaseModel):
    """Bricks of the DESI Legacy Imaging Surveys (DECaLS, BASS, MzLS), DR9 to DR11, from a copy of their tree.

    DR10 has no north: with `regions: [south, north]` the north is DR9's, as in the survey's own layer `ls-dr10`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["legacy"] = "legacy"
    release: str = Field(default="dr10", pattern=r"^[a-z0-9.]+$")
    regions: tuple[Literal["north", "south"], ...] = Field(default=("south",), min_length=1)
    bands: tuple[str, ...] = Field(default=("g", "r", "z"), min_length=1)
    use_maskbits: bool = True
    frame: float = Field(default=64.0, gt=0, le=MOST_PIXELS * PIXEL)  # arcsec: for a job that asks for the whole frame
    cutout_service: str | None = URL  # None: whole files and ranges only
    sweep_folder: str | None = None  # below the region; None: the release's own

    @model_validator(mode="after")
    def _bands_exist(self) -> Self:
        if "north" in self.regions and "i" in self.bands:
            raise ValueError("the north has no i band: use regions [south], or bands g, r, z")
        return self

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        """The survey-bricks table of each region."""
        columns = brick_columns(self.bands)
        return tuple(
            TileList(f"{release}/{region}/survey-bricks-{release}-{region}.fits.gz", columns, region)
            for region, release in self._releases.items()
        )

    @property
    def sweeps(self) -> Mapping[str, str]:
        """The folder of each region, {} where nobody has said what it is called."""
        folders = {region: self.sweep_folder or SWEEPS.get(release) for region, release in self._releases.items()}
        return {region: f"{self._releases[region]}/{region}/{name}" for region, name in folders.items() if name}

    @property
    def hosts(self) -> tuple[str, ...]:
        return () if self.cutout_service is None else (self.cutout_service,)

    def release_of(self, region: str) -> str:
        """The release that a region's images are of."""
        return "dr9" if self.release == "dr10" and region == "north" else self.release

    def build(self, tiles: pa.Table | None) -> LegacySurvey:
        """The survey on its survey-bricks tables. Raises JobError."""
        if tiles is None:
            raise JobError("the Legacy Surveys need their survey-bricks tables")
        return LegacySurvey(self, tiles)

    @property
    def _releases(self) -> dict[str, str]:
        return {region: self.release_of(region) for region in self.regions}


class ArchiveIncomplete(ArchiveError):
    """The table of bricks promises images that the archive does not have."""


@dataclass(frozen=True, slots=True)
class _Brick:
    """One brick and what is open of it."""

    region: str
    number: int
    planes: Planes
    tan: Tan


class LegacySurvey:
    """A `Survey` whose tiles are "<region>/<brick>", for example "south/1498p000"."""

    def __init__(self, config: LegacyConfig, bricks: pa.Table) -> None:
        """`bricks`: the survey-bricks tables of the regions in one, with a column `region`.

        Raises JobError where it lacks columns or holds a brick twice.
        """
        if "region" not in bricks.column_names:
            raise JobError("the survey-bricks table lacks the column region")
        self.bands = config.bands
        self.ways: tuple[Way, ...] = ("file", "ranges", "cutout") if config.cutout_service else ("file", "ranges")
        self._config = config
        self._projections = BrickProjections()
        region = np.asarray(bricks["region"].to_pylist(), dtype=np.str_)
        self._bricks: dict[str, Bricks] = {
            name: Bricks(bricks.filter(pa.array(region == name)), config.bands) for name in config.regions
        }
        self._tiles = {name: np.char.add(f"{name}/", found.names) for name, found in self._bricks.items()}

    def tiles(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.str_]:
        """(N,) "<region>/<brick>" of the owner of each position, "" where it has no exposure in any band."""
        north = owned_by_north(ra, dec)
        tiles = np.full(len(ra), "", dtype="<U16")
        for region, bricks in self._bricks.items():
            mine = np.nonzero(north if region == "north" else ~north)[0]
            number = bricks.at(ra[mine], dec[mine])
            found = number >= 0
            tiles[mine[found]] = self._tiles[region][number[found]]
        return tiles

    def products(self, tile: str) -> tuple[Product, ...]:
        """One image a band, which the archive may not have, and the brick's maskbits if the job wants them."""
        self._find(tile)
        images = tuple(self._product(tile, band) for band in self.bands)
        return (*images, self._product(tile, None)) if self._config.use_maskbits else images

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        """One cube of `pixels` x `pixels` at the native 0.262 arcsec, whatever the width."""
        region, _ = self._find(source.tile)
        service, release = self._config.cutout_service, self._config.release_of(region)
        return () if service is None else (brick_cutout(service, release, self.bands, source, pixels),)

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        """The sky around `source` on its own brick's pixels; what leaves the brick comes from its neighbours.

        The brick's own pixels are as they are in the file, but for the unit. The strip that it lacks is
        reprojected from the neighbours of the same region onto the brick's grid, and the row is flagged EDGE.
        `masked_fraction` is of the part inside the brick, NaN where the mask was not read. By way of the cutout
        service all pixels are resampled, bricks that overlap are averaged, and there is no mask.
        """
        if not source.tile:
            raise NoCoverage(f"no brick of {self._config.release} with {', '.join(self.bands)} at this position")
        arcsec = self._config.frame if width is None else width
        flags = RowFlag.SEAM if _meets_seam(source, arcsec) else RowFlag(0)
        if way == "cutout":
            (product,) = self.cutouts(source, arcsec, side(arcsec, PIXEL))
            image = served(open_product, product, source)
            cutout = cut_cube(image, product.path, self.bands, source, width and arcsec, _by_native_pixel)
            return replace(cutout, flags=flags | RowFlag.RESAMPLED)
        brick = self._opened(open_product, *self._find(source.tile))

        def neighbours(box: Box, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Iterator[Planes]:
            for number in self._neighbours(brick, box, ra, dec):
                try:
                    yield self._opened(open_product, brick.region, number).planes
                except ArchiveIncomplete:
                    continue

        cutout = stitched(brick.planes, self.bands, source, arcsec, neighbours)
        height, length = next(iter(brick.planes.values())).shape
        inside = Box.around(brick.tan.grid_at(source.ra, source.dec), arcsec).within(height, length)
        masked = self._masked_fraction(open_product, source.tile, inside)
        return replace(cutout, flags=cutout.flags | flags, masked_fraction=masked)

    def _neighbours(self, brick: _Brick, box: Box, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> list[int]:
        """Numbers of the bricks that may hold positions of the box; the primary brick is not among them.

        An image reaches beyond its cell, so a brick whose cell merely lies near the box counts as well.
        """
        bricks = self._bricks[brick.region]
        owners, counts = np.unique(bricks.at(ra, dec), return_counts=True)
        reach = 1 + 2 * IMAGE_MARGIN / max(box.shape)
        x = (box.x0 + box.x1) / 2 + reach * _SPREAD * box.shape[1]
        y = (box.y0 + box.y1) / 2 + reach * _SPREAD * box.shape[0]
        grid_x, grid_y = np.repeat(x, len(y)), np.tile(y, len(x))
        near = np.unique(bricks.at(*brick.tan.to_sky(grid_x, grid_y)))
        ordered = [*owners[np.argsort(-counts, kind="stable")], *near]
        return [int(number) for number in dict.fromkeys(ordered) if number not in (-1, brick.number)]

    def _opened(self, open_product: OpenProduct, region: str, number: int) -> _Brick:
        """The images of a brick, their projection checked against the table and each other.

        Raises BadImage for a projection that is wrong, ArchiveError where the archive has none of the images.
        """
        bricks = self._bricks[region]
        tile = f"{region}/{bricks.names[number]}"
        images: dict[str, TileImage] = {}
        tans: list[Tan] = []
        for product in self.products(tile):
            if product.band is None:
                continue
            try:
                image = open_product(product)
            except FileNotFoundError:
                continue
            tans.append(self._projections.of(image, product.path, (bricks.ra[number], bricks.dec[number])))
            images[product.band] = image
            check_same(tans, [image.shape for image in images.values()], product.path)
        if not images:
            raise ArchiveIncomplete(f"{tile}: the table of bricks promises images, the archive has none")
        area = np.float32(tans[0].pixel_scale ** 2)  # arcsec2
        planes = {band: Plane(image, tans[0], lambda flux: flux / area) for band, image in images.items()}
        return _Brick(region, number, planes, tans[0])

    def _masked_fraction(self, open_product: OpenProduct, tile: str, inside: Box) -> float:
        if not self._config.use_maskbits:
            return math.nan
        try:
            mask = open_product(self._product(tile, None))
        except FileNotFoundError:
            return math.nan
        bits = mask.section(inside.y0, inside.y1, inside.x0, inside.x1)
        return float(np.count_nonzero(bits & BAD_BITS) / bits.size)

    def _find(self, tile: str) -> tuple[str, int]:
        region, _, name = tile.partition("/")
        if region not in self._bricks or name not in self._bricks[region].number:
            raise NoCoverage(f"{tile}: no such brick with exposures in {', '.join(self.bands)}")
        return region, self._bricks[region].number[name]

    def _product(self, tile: str, band: str | None) -> Product:
        region, number = self._find(tile)
        bricks = self._bricks[region]
        tree, name = f"{self._config.release_of(region)}/{region}", str(bricks.names[number])
        start = f"{tree}/coadd/{name[:3]}/{name}/legacysurvey-{name}"
        centre = (float(bricks.ra[number]), float(bricks.dec[number]))
        sums = f"{tree}/tractor/{name[:3]}/brick-{name}.sha256sum"
        expected = Expected(pixel_scale=PIXEL, centre=centre, covered=True, sums=sums)
        if band is None:
            return Product(tile, "maskbits", None, f"{start}-maskbits.fits.fz", expected, MASK)
        return Product(tile, "image", band, f"{start}-image-{band}.fits.fz", expected, IMAGE)


def _meets_seam(source: Source, width: float) -> bool:
    """Whether a cutout reaches over the line between the two telescopes' images."""
    near = abs(source.dec - SEAM_DEC) * 3600 <= width / 2
    return near and bool(in_north_galactic_cap(np.array([source.ra]), np.array([source.dec]))[0])


def _by_native_pixel(header: object, grid: object, path: str) -> float:
    """The service's numbers are nanomaggies per native pixel."""
    return PIXEL**-2
