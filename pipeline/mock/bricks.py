"""The bricks of the mock sky: a block of the real brick grid, with cells shrunk about one grid corner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

BRICK_DEGREES = 0.25  # cells of the real grid (desiutil `brick.py`, bricksize)
BRICK_PIXELS = 3600  # sides of a real brick image (archives.md 1.3)
PIXEL = 0.262  # arcsec (archives.md 1.3)
MARGIN = (BRICK_PIXELS - BRICK_DEGREES * 3600 / PIXEL) / 2  # pixels by which an image leaves its cell: 82.4
ANCHOR = (150.0, 1.875)  # deg: a corner that four real bricks share; two sweep files meet there as well
ROWS = 721  # 180 / 0.25 + 1


@dataclass(frozen=True, slots=True)
class MockSky:
    """How much sky to draw.

    Names, BRICKID, row and column are those of real bricks around RA 150, Dec 1.9. Only the size of their
    cells differs: `brick_pixels` 3600 gives the real grid, fewer pixels shrink the cells about `ANCHOR` so
    that an image still leaves its cell by 82 pixels a side. Readers take the cells from the tables.
    """

    columns: int = 3
    rows: int = 2
    brick_pixels: int = 1500
    galaxies: int = 150
    stars: int = 150
    max_radius: float = 10.0  # arcsec, half-light

    def __post_init__(self) -> None:
        """Raises ValueError for a sky that cannot hold what it must show."""
        if self.columns < 2 or self.rows < 2:
            raise ValueError(f"expected at least 2x2 bricks, got {self.columns}x{self.rows}")
        if not 400 <= self.brick_pixels <= BRICK_PIXELS or 0 < self.brick_pixels % 100 < 4:
            raise ValueError(
                f"expected bricks of 400 to {BRICK_PIXELS} pixels whose last 100-pixel tile has 4 or more, "
                f"got {self.brick_pixels}"
            )
        if not 1.5 <= self.max_radius <= 15:
            raise ValueError(f"expected a largest radius of 1.5 to 15 arcsec, got {self.max_radius}")
        needed = self.columns * self.rows * 3
        if self.galaxies < needed:
            raise ValueError(f"expected at least {needed} galaxies for their fixed places, got {self.galaxies}")

    @property
    def shrink(self) -> float:
        """Size of a cell over that of the real grid."""
        return (self.brick_pixels - 2 * MARGIN) / (BRICK_PIXELS - 2 * MARGIN)


@dataclass(frozen=True, slots=True)
class Brick:
    """One brick: its identity in the real grid and its cell on the mock sky."""

    name: str
    brickid: int
    brickq: int
    row: int
    column: int
    ra1: float  # deg, edges of the cell
    ra2: float
    dec1: float
    dec2: float
    pixels: int  # sides of the image
    bands: tuple[str, ...]

    @property
    def ra(self) -> float:
        return (self.ra1 + self.ra2) / 2

    @property
    def dec(self) -> float:
        return (self.dec1 + self.dec2) / 2

    def owns(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """True where a position lies in the cell: the survey's `brick_primary`."""
        return (ra >= self.ra1) & (ra < self.ra2) & (dec >= self.dec1) & (dec < self.dec2)

    def wcs_cards(self) -> list[dict[str, Any]]:
        """The tangent plane of the image as FITS cards: legacypipe `wcs_for_brick` (archives.md 1.3)."""
        degrees = PIXEL / 3600
        centre = (self.pixels + 1) / 2
        values: list[tuple[str, Any]] = [
            ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"),
            ("CRVAL1", self.ra), ("CRVAL2", self.dec),
            ("CRPIX1", centre), ("CRPIX2", centre),
            ("CD1_1", -degrees), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", degrees),
            ("CUNIT1", "deg"), ("CUNIT2", "deg"), ("EQUINOX", 2000.0), ("RADESYS", "ICRS"),
        ]  # fmt: skip
        return [{"name": name, "value": value} for name, value in values]

    def wcs(self) -> galsim.GSFitsWCS:
        """The same plane for drawing; pixel centres are integers, 1-based as in the header."""
        return galsim.GSFitsWCS(header={card["name"]: card["value"] for card in self.wcs_cards()})


def block(sky: MockSky) -> tuple[Brick, ...]:
    """The bricks of `sky`, by row and then column. The last one has no z band."""
    row0 = round((ANCHOR[1] + 90 + BRICK_DEGREES / 2) / BRICK_DEGREES)
    bricks = []
    for row in range(row0, row0 + sky.rows):
        first = round(ANCHOR[0] / 360 * columns_per_row()[row]) - 1
        for column in range(first, first + sky.columns):
            last = row == row0 + sky.rows - 1 and column == first + sky.columns - 1
            bricks.append(_brick(row, column, sky, ("g", "r") if last else ("g", "r", "z")))
    return tuple(bricks)


@cache
def columns_per_row() -> NDArray[np.int64]:
    """(721,) bricks in each row of the real grid; even, and one at each pole (desiutil `brick.py`)."""
    low = np.abs(-90 + BRICK_DEGREES * np.arange(ROWS)) - BRICK_DEGREES / 2
    columns = (2 * np.ceil(360 / BRICK_DEGREES * np.cos(np.radians(low)) / 2)).astype(np.int64)
    columns[[0, -1]] = 1
    return columns


def _brick(row: int, column: int, sky: MockSky, bands: tuple[str, ...]) -> Brick:
    """The brick of the real grid at `row` and `column`, its cell shrunk (desiutil `brick.py`)."""
    columns = columns_per_row()
    width = 360 / int(columns[row])
    ra, dec = (column + 0.5) * width, -90 + row * BRICK_DEGREES
    sign = "p" if dec >= 0 else "m"
    return Brick(
        name=f"{f'{ra * 10000:07.0f}'[:4]}{sign}{f'{abs(dec) * 10000:06.0f}'[:3]}",
        brickid=int(columns[:row].sum()) + column + 1,
        brickq=column % 2 + 2 * (row % 2),
        row=row,
        column=column,
        ra1=_shrunk(ra - width / 2, ANCHOR[0], sky),
        ra2=_shrunk(ra + width / 2, ANCHOR[0], sky),
        dec1=_shrunk(dec - BRICK_DEGREES / 2, ANCHOR[1], sky),
        dec2=_shrunk(dec + BRICK_DEGREES / 2, ANCHOR[1], sky),
        pixels=sky.brick_pixels,
        bands=bands,
    )


def _shrunk(edge: float, anchor: float, sky: MockSky) -> float:
    """A cell edge moved towards the anchor; rounded so that neighbours share it to the bit. Degrees."""
    return round(anchor + (edge - anchor) * sky.shrink, 9)
