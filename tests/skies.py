"""Skies that are known exactly, drawn on any grid without a FITS file, and positions on a mock sky."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data import Cutout, PixelGrid, Product
from pipeline.surveys import TileImage
from pipeline.surveys.tan import Tan

PIXEL = 0.262  # arcsec
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Blob:
    """A Gaussian of `flux` nanomaggies, `sigma` arcsec wide, at offsets in arcsec from the middle of the sky."""

    east: float
    north: float
    sigma: float = 0.6
    flux: float = 10.0

    def brightness(self, east: Array, north: Array) -> Array:
        """Nanomaggies / arcsec2."""
        r2 = (east - self.east) ** 2 + (north - self.north) ** 2
        return self.flux * np.exp(-r2 / 2 / self.sigma**2) / (2 * np.pi * self.sigma**2)


SCATTERED = (
    Blob(0, 0), Blob(3, 4, 1.5, 40), Blob(-7, 2, 0.55, 4), Blob(2, -9, 0.8, 9),
    # Beyond the 21 arcsec that an image reaches past the corner: only the neighbours have these.
    Blob(-25, 4, 0.55, 20), Blob(5, -26, 0.6, 15), Blob(26, 3, 0.7, 15), Blob(-2, 27, 0.55, 20),
    Blob(-25, 26, 0.6, 12), Blob(24, -25, 0.55, 15), Blob(-24, -26, 0.6, 12), Blob(25, 25, 0.55, 15),
)  # fmt: skip


def matrix(scale: float, angle: float = 0.0, *, mirrored: bool = False) -> Array:
    """Pixels per arcsec of (east, north): north up and east left, turned by `angle` deg; or east right."""
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ np.diag([1.0 if mirrored else -1.0, 1.0]) / scale


def drawn(blobs: Iterable[Blob], grid: PixelGrid, shape: tuple[int, int], bands: int = 3) -> Cutout:
    """The blobs on a grid whose centre is the middle of the sky, the same in every band."""
    y, x = np.indices(shape, dtype=np.float64)
    inverse = np.linalg.inv(grid.matrix)
    dx, dy = x - grid.centre[0], y - grid.centre[1]
    east, north = inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
    flux = np.stack([blob.brightness(east, north) for blob in blobs]).sum(axis=0)
    planes = np.stack([flux.astype(np.float32)] * bands)
    return Cutout(planes, np.zeros(planes.shape, np.bool_), grid)


@dataclass(eq=False)
class ArrayImage:
    """A `TileImage` of an array; remembers the boxes that were asked for."""

    pixels: NDArray[Any]
    header: Mapping[str, Any]
    asked: list[tuple[int, int, int, int]] = field(default_factory=list)
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = self.pixels.shape

    def section(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        if not (0 <= y0 < y1 <= self.shape[-2] and 0 <= x0 < x1 <= self.shape[-1]):
            raise ValueError(f"[{y0}:{y1}, {x0}:{x1}] is not inside {self.shape}")
        self.asked.append((y0, y1, x0, x1))
        return self.pixels[..., y0:y1, x0:x1].copy()


def tan_header(ra: float, dec: float, size: int, scale: float = PIXEL) -> dict[str, Any]:
    """The cards of a brick: tangent at its middle, north up, east left."""
    middle = (size + 1) / 2
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": middle, "CRPIX2": middle,
        "CD1_1": -scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale / 3600,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """The part of the sky that a brick owns, degrees, and the middle of its image."""

    name: str
    ra: float
    dec: float
    ra1: float
    ra2: float
    dec1: float
    dec2: float


@dataclass(eq=False)
class BrickSky:
    """Bricks that share a sky of blobs around one place, `size` pixels a side, as an archive in memory.

    Without `cells` they are 2x2 around a corner. Every band shows the same.
    """

    ra: float = 0.0  # deg: the corner
    dec: float = 0.0
    size: int = 400
    blobs: tuple[Blob, ...] = SCATTERED
    background: float = 0.01  # nanomaggies / arcsec2: keeps measured pixels from being 0
    bands: tuple[str, ...] = ("g", "r", "z")
    cells: tuple[Cell, ...] = ()
    images: dict[str, ArrayImage] = field(default_factory=dict)  # by path

    def __post_init__(self) -> None:
        self.cells = self.cells or corner_cells(self.ra, self.dec, self.cell)
        y, x = np.indices((self.size, self.size), dtype=np.float64)
        for name, (ra, dec) in self.centres.items():
            header = tan_header(ra, dec, self.size)
            pixels = (self.brightness(header, x, y) * PIXEL**2).astype(np.float32)
            for band in self.bands:
                self.images[path(name, band)] = ArrayImage(pixels.copy(), header)
            empty = np.zeros((self.size, self.size), np.int32)
            self.images[path(name, None)] = ArrayImage(empty, header)

    @property
    def cell(self) -> float:
        """Degrees from side to side of a cell."""
        return cell_side(self.size)

    @property
    def centres(self) -> dict[str, tuple[float, float]]:
        return {cell.name: (cell.ra, cell.dec) for cell in self.cells}

    def table(self) -> pa.Table:
        """The survey-bricks table, with the region."""
        exposed = {f"nexp_{band}": 1 for band in self.bands}
        rows = [
            {
                "brickname": cell.name, "ra": cell.ra, "dec": cell.dec, "region": "south",
                "ra1": cell.ra1, "ra2": cell.ra2, "dec1": cell.dec1, "dec2": cell.dec2,
            } | exposed
            for cell in self.cells
        ]  # fmt: skip
        return pa.Table.from_pylist(rows)

    def brightness(self, header: Mapping[str, Any], x: Array, y: Array) -> Array:
        """The sky on the pixels of a header's plane, anywhere: nanomaggies / arcsec2."""
        ra, dec = Tan.of(header, "sky").to_sky(x, y)
        middle = Tan.of(tan_header(self.ra, self.dec, 1, 1.0), "sky")  # pixels of 1 arcsec, x to the west
        west, north = middle.to_pixels(ra, dec)
        return self.background + np.sum([blob.brightness(-west, north) for blob in self.blobs], axis=0)

    def position(self, east: float, north: float) -> tuple[float, float]:
        """ra, dec in degrees of offsets in arcsec from the corner."""
        middle = Tan.of(tan_header(self.ra, self.dec, 1, 1.0), "sky")
        ra, dec = middle.to_sky(np.array([-east]), np.array([north]))
        return float(ra[0]), float(dec[0])

    def __call__(self, product: Product) -> TileImage:
        if product.path not in self.images:
            raise FileNotFoundError(product.path)
        return self.images[product.path]


def cell_side(size: int) -> float:
    """Degrees: 82.4 pixels less than the image on each side, as in the survey."""
    return (size - 165) * PIXEL / 3600


def corner_cells(ra: float, dec: float, side: float) -> tuple[Cell, ...]:
    """2x2 cells around a corner."""
    half, stretch = side / 2, 1 / np.cos(np.radians(dec))
    return tuple(
        Cell(
            f"{ew}{ns}", (ra + east * half * stretch) % 360, dec + north * half,
            (ra + (east - 1) * half * stretch) % 360, (ra + (east + 1) * half * stretch) % 360 or 360.0,
            dec + (north - 1) * half, dec + (north + 1) * half,
        )
        for ew, east in (("E", 1), ("W", -1))
        for ns, north in (("N", 1), ("S", -1))
    )  # fmt: skip


def polar_cells(pole: int, side: float) -> tuple[Cell, ...]:
    """A pole of the survey's grid of bricks: one cell around it and a row of ten (desiutil `brick.py`); 90 or -90."""
    sign = 1 if pole > 0 else -1
    count = 2 * math.ceil(360 / side * math.cos(math.radians(90 - 1.5 * side)) / 2)
    edges = [sign * (90 - 1.5 * side), sign * (90 - 0.5 * side)]
    width = 360 / count
    row = [
        Cell(f"R{n}", (n + 0.5) * width, sign * (90 - side), n * width, (n + 1) * width, min(edges), max(edges))
        for n in range(count)
    ]
    ends = sorted([edges[1], float(pole)])
    return (Cell("P0", 180.0, float(pole), 0.0, 360.0, *ends), *row)


def brick_sky(ra: float = 0.0, dec: float = 0.0) -> BrickSky:
    """A sky of one's own around a corner, drawn once."""
    return deepcopy(_drawn_once(ra, dec))


@cache
def _drawn_once(ra: float, dec: float) -> BrickSky:
    return BrickSky(ra, dec)


def path(brick: str, band: str | None) -> str:
    product = "maskbits" if band is None else f"image-{band}"
    return f"dr10/south/coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-{product}.fits.fz"


def scattered(tree: Path, path: Path, count: int) -> Path:
    """A table of positions in and around the galaxies of a mock sky, some of which leave their brick."""
    truth = pq.read_table(tree / "truth/truth.parquet")
    rng = np.random.default_rng(1)
    rows = rng.integers(0, truth.num_rows, count)
    moved = rng.normal(0, 10 / 3600, (2, count))  # deg
    table = pa.table(
        {
            "object_id": np.arange(count) + 10**9,
            "ra": truth["ra"].to_numpy()[rows] + moved[0],
            "dec": truth["dec"].to_numpy()[rows] + moved[1],
            "radius": pa.array(rng.uniform(1.0, 5.0, count), pa.float32()),
        }
    )
    pq.write_table(table, path)
    return path
