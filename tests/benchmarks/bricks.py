"""Bricks of the survey's size and formats for the benchmarks: noise as deep as the survey's, galaxies and stars."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
from numpy.typing import NDArray

from pipeline.mock.files import image_bytes
from pipeline.mock.images import DEPTH, SKY_RESIDUAL, pixel_noise
from pipeline.mock.light import SEEING
from pipeline.surveys.tan import Tan
from tests.skies import tan_header

SIDE = 3600  # pixels of a brick
BANDS = "grz"
SOURCES = 900  # drawn in each brick: 300 galaxies and 600 stars (peers.md C)
CELL = 0.25  # deg


def centre(brick: int) -> tuple[float, float]:
    """ra, dec in degrees of brick number `brick`, three in a row."""
    return 150.0 + CELL * (brick % 3), 2.0 + CELL * (brick // 3)


def name_of(brick: int) -> str:
    ra, dec = centre(brick)
    return f"{int(ra * 10):04d}p{int(dec * 10):03d}"


def write_bricks(folder: Path, count: int, *, plain: bool = True) -> None:
    """Rice-compressed bricks as legacypipe writes them, `NAME-g.fits.fz`, and the same pixels as `NAME-g.fits`."""
    for brick in range(count):
        header = tan_header(*centre(brick), SIDE)
        cards = [{"name": key, "value": value} for key, value in header.items()]
        for band in BANDS:
            path = folder / f"{name_of(brick)}-{band}.fits.fz"
            if not path.exists():
                path.write_bytes(image_bytes(flux(brick, band), cards))
            if plain and not path.with_suffix("").exists():
                fitsio.write(path.with_suffix(""), fitsio.read(path, ext=1), header=cards)


def flux(brick: int, band: str) -> NDArray[np.float32]:
    """(SIDE, SIDE) nanomaggies a pixel."""
    rng = np.random.default_rng((brick, ord(band)))
    pixels = SKY_RESIDUAL + pixel_noise(SEEING[band], DEPTH[band]) * rng.standard_normal((SIDE, SIDE), np.float32)
    y, x = np.mgrid[-20:21, -20:21]
    for column, row in rng.integers(25, SIDE - 25, (SOURCES, 2)):
        sigma, total = rng.uniform(2, 6), 10 ** rng.uniform(0, 2)
        blob = total / (2 * np.pi * sigma**2) * np.exp(-(x**2 + y**2) / 2 / sigma**2)
        pixels[row - 20 : row + 21, column - 20 : column + 21] += blob.astype(np.float32)
    return pixels.astype(np.float32)


def places(brick: int, sources: int, size: int) -> list[tuple[int, int]]:
    """Lower corners (y, x) of boxes of `size` pixels inside a brick."""
    rng = np.random.default_rng((brick, sources))
    return [(int(y), int(x)) for y, x in rng.integers(0, SIDE - size, (sources, 2))]


def position(brick: int, y: float, x: float) -> tuple[float, float]:
    """ra, dec in degrees of a pixel."""
    ra, dec = Tan.of(tan_header(*centre(brick), SIDE), "brick").to_sky(np.array([x]), np.array([y]))
    return float(ra[0]), float(dec[0])
