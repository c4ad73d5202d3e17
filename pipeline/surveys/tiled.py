"""A survey made of parts: where its tiles are, which files they have, what a number means, what its service answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data import Cutout, Product, RowFlag, Source, Way
from pipeline.errors import ArchiveError, BadImage, JobError, NoCoverage
from pipeline.resample import Positions
from pipeline.surveys import OpenProduct, TileImage
from pipeline.surveys.boxes import Box
from pipeline.surveys.cubes import band_names
from pipeline.surveys.moc import Moc
from pipeline.surveys.mosaic import Plane, Planes, stitched
from pipeline.surveys.served import served, side
from pipeline.surveys.units import Unit


class Ground(Protocol):
    """Where the tiles are."""

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        """(N,) name of the tile that owns each position, "" outside the footprint."""
        ...

    def near(self, tile: str, ra: Positions, dec: Positions) -> Sequence[str]:
        """Other tiles that may hold any of the positions, the best first."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """A cutout service."""

    pixel_scale: float  # arcsec, at which it is asked
    most: int  # pixels a side that it gives
    ask: Callable[[Source, float, int], tuple[Product, ...]]  # the source, arcsec, pixels a side
    resamples: bool  # its pixels are not those of the survey's own images


@dataclass(frozen=True, slots=True)
class Tree:
    """Files of tiles."""

    files: Callable[[str], tuple[Product, ...]]  # of a tile
    ways: tuple[Way, ...] = ("file", "ranges")


class Objects:
    """The ground of a survey that only has a cutout service: each object is its own tile."""

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        """(N,) "150.123400+02.345600" in degrees."""
        return np.array([f"{a:010.6f}{d:+010.6f}" for a, d in zip(ra % 360, dec, strict=True)], dtype=np.str_)

    def near(self, tile: str, ra: Positions, dec: Positions) -> Sequence[str]:
        return ()


@dataclass(frozen=True, slots=True)
class Covered:
    """A ground of which only what a coverage map holds is asked for."""

    ground: Ground
    moc: Moc

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        return np.where(self.moc.contains(ra % 360, dec), self.ground.tiles(ra, dec), "")

    def near(self, tile: str, ra: Positions, dec: Positions) -> Sequence[str]:
        return self.ground.near(tile, ra, dec)


def covered(ground: Ground, moc: pa.Table | None) -> Ground:
    """The ground inside a MOC, all of it without one. Raises JobError for a table that is none."""
    return ground if moc is None else Covered(ground, Moc.of(moc))


class Named:
    """The ground of files that the source table names tile by tile (sources.columns.path)."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        """Raises JobError: no position tells the tile."""
        raise JobError(f"the survey {self._kind} knows no footprint: name each source's tile (sources.columns.path)")

    def near(self, tile: str, ra: Positions, dec: Positions) -> Sequence[str]:
        return ()


@dataclass(frozen=True)
class TiledSurvey:
    """A `Survey` of overlapping tiles, or of a cutout service, or of both."""

    bands: tuple[str, ...]
    frame: float  # arcsec: for a job that asks for the whole frame
    unit: Unit
    ground: Ground
    tree: Tree | None = None
    service: Service | None = None
    flags: RowFlag = field(default=RowFlag(0))  # of every row

    @property
    def ways(self) -> tuple[Way, ...]:
        own: tuple[Way, ...] = () if self.tree is None else self.tree.ways
        return own if self.service is None else (*own, "cutout")

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        return self.ground.tiles(ra, dec)

    def products(self, tile: str) -> tuple[Product, ...]:
        """The files of a tile; without a tree, what the service would be asked for the frame of an object."""
        if self.tree is not None:
            return self.tree.files(tile)
        try:
            ra, dec = float(tile[:10]), float(tile[10:])
        except ValueError as error:
            raise NoCoverage(f"{tile}: no tile of this survey") from error
        return self._asked(Source("", ra, dec, tile), self.frame)

    def cutouts(self, source: Source, width: float, pixels: int) -> tuple[Product, ...]:
        """What to ask of the service. Raises NoCoverage outside the footprint, BadImage for too many pixels."""
        if self.service is None:
            return ()
        if not source.tile:
            raise NoCoverage("outside the survey's footprint")
        if pixels > self.service.most:
            raise BadImage(f"{source.tile}: {pixels} pixels are wanted, the service gives {self.service.most} at most")
        return self.service.ask(source, width, pixels)

    def cut(self, open_product: OpenProduct, source: Source, width: float | None, way: Way = "file") -> Cutout:
        """The sky around `source` on its tile's own pixels, the finest band's where they differ.

        What leaves the tile comes from those that overlap it, and the row is flagged EDGE. `masked_fraction` is
        NaN, as no mask is read. A survey without files is read by its service, whatever the way.
        """
        if not source.tile:
            raise NoCoverage("outside the survey's footprint")
        arcsec = self.frame if width is None else width
        if way == "cutout" or self.tree is None:
            cutout = stitched(self._served(open_product, source, arcsec), self.bands, source, arcsec)
            if self.service is not None and self.service.resamples:
                cutout = replace(cutout, flags=cutout.flags | RowFlag.RESAMPLED)
        else:

            def neighbours(box: Box, ra: Positions, dec: Positions) -> Iterator[Planes]:
                for tile in self.ground.near(source.tile, ra, dec):
                    yield self._opened(open_product, tile)

            planes = self._opened(open_product, source.tile)
            if not planes:
                raise ArchiveError(f"{source.tile}: the footprint promises images, the archive has none")
            cutout = stitched(planes, self.bands, source, arcsec, neighbours)
        return replace(cutout, flags=cutout.flags | self.flags, masked_fraction=math.nan)

    def _asked(self, source: Source, width: float) -> tuple[Product, ...]:
        pixels = 0 if self.service is None else side(width, self.service.pixel_scale)
        scale = 0.0 if self.service is None else self.service.pixel_scale
        return self.cutouts(source, pixels * scale, pixels)

    def _served(self, open_product: OpenProduct, source: Source, width: float) -> Planes:
        planes: dict[str, Plane] = {}
        for product in self._asked(source, width):
            planes |= self._planes(served(open_product, product, source), product)
        return planes

    def _opened(self, open_product: OpenProduct, tile: str) -> Planes:
        """The bands that the archive has of a tile. Raises BadImage for a file that cannot be used."""
        planes: dict[str, Plane] = {}
        for product in self.products(tile):
            try:
                planes |= self._planes(open_product(product), product)
            except FileNotFoundError:
                continue
        return planes

    def _planes(self, image: TileImage, product: Product) -> dict[str, Plane]:
        """The bands of one file: the product's, or those that a cube's header names."""
        from pipeline.surveys.wcs import projection  # astropy: not needed to read a job

        count = image.shape[0] if len(image.shape) == 3 else 1
        names = (product.band,) if product.band else band_names(image.header, count)
        if len(names) != count or len(set(names)) != count:
            raise BadImage(f"{product.path}: {count} plane(s), bands {', '.join(names) or 'without a name'}")
        found = projection(image.header, product.path)
        height, length = image.shape[-2:]
        ra, dec = found.to_sky(np.array([length / 2]), np.array([height / 2]))
        scale = found.grid_at(float(ra[0]), float(dec[0])).pixel_scale
        calibrate = self.unit(image.header, scale, product.path)
        cube = len(image.shape) == 3
        return {
            name: Plane(image, found, calibrate, number if cube else None)
            for number, name in enumerate(names)
            if name in self.bands
        }
