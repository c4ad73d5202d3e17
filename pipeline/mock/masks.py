"""The survey's mask bits of one brick (archives.md 1.3; Legacy Surveys DR10, bitmasks)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.mock.bricks import PIXEL, Brick
from pipeline.mock.images import pixel_sky, position
from pipeline.mock.sources import BANDS, Galaxy, Star

NPRIMARY, BRIGHT, MEDIUM, GALAXY = 1 << 0, 1 << 1, 1 << 11, 1 << 12
SATURATED = {"g": 1 << 2, "r": 1 << 3, "z": 1 << 4}
ALL_MASKED = {"g": 1 << 5, "r": 1 << 6, "z": 1 << 7}
LARGE = 6.0  # arcsec, half-light: the mock's limit for the GALAXY bit, which the survey takes from an atlas
_SATURATION = 15.0  # nanomaggies a pixel: the mock's limit; real cores saturate exposure by exposure


def star_radius(star: Star) -> float:
    """Arcsec of the MEDIUM mask; BRIGHT has half of it (legacypipe `mask_radius_for_mag`; DR10 bitmasks)."""
    return float(1630 * 1.396 ** -star.mags[BANDS.index("r")])


def brick_maskbits(
    brick: Brick, galaxies: tuple[Galaxy, ...], stars: tuple[Star, ...], flux: NDArray[np.float32]
) -> NDArray[np.int32]:
    """(H, W) bits: outside the cell, masks of stars and large galaxies, saturated cores, no data.

    `flux` is (C, H, W) in the bands of the brick. Stars carry BRIGHT below 13 mag, MEDIUM below 16.
    """
    bits = np.where(brick.owns(*pixel_sky(brick)), 0, NPRIMARY).astype(np.int32)
    for star in stars:
        r_mag = star.mags[BANDS.index("r")]
        if r_mag < 16:
            _paint(bits, brick, star, star_radius(star), MEDIUM)
        if r_mag < 13:
            _paint(bits, brick, star, star_radius(star) / 2, BRIGHT)
    for galaxy in galaxies:
        if galaxy.radius >= LARGE:
            _paint(bits, brick, galaxy, 2 * galaxy.radius, GALAXY)
    for plane, band in zip(flux, brick.bands, strict=True):
        bits[plane > _SATURATION] |= SATURATED[band]
        bits[plane == 0] |= ALL_MASKED[band]
    return bits


def _paint(bits: NDArray[np.int32], brick: Brick, source: Galaxy | Star, radius: float, bit: int) -> None:
    """Set `bit` in the disc of `radius` arcsec around a source."""
    centre, reach = position(brick, source.ra, source.dec), radius / PIXEL
    x0, y0 = max(0, int(centre.x - reach) - 1), max(0, int(centre.y - reach) - 1)
    part = bits[y0 : max(0, int(centre.y + reach) + 2), x0 : max(0, int(centre.x + reach) + 2)]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    part[np.hypot(x + x0 + 1 - centre.x, y + y0 + 1 - centre.y) < reach] |= bit
