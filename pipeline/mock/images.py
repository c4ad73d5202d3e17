"""The pixels of one brick: the same sky, drawn on the brick's own tangent plane."""

from __future__ import annotations

from collections.abc import Sequence

import galsim
import numpy as np
from numpy.typing import NDArray

from pipeline.mock.bricks import PIXEL, Brick
from pipeline.mock.light import SEEING, Light
from pipeline.mock.places import Gap
from pipeline.mock.sources import ZEROPOINT

# 5 sigma, AB, point source: what the survey planned for two observations (Legacy Surveys DR10, description,
# Depths).
DEPTH = {"g": 24.7, "r": 23.9, "z": 23.0}
SKY_RESIDUAL = 1e-3  # nanomaggies a pixel left by the sky subtraction; keeps measured pixels from being 0


def pixel_noise(seeing: float, depth: float) -> float:
    """Standard deviation in nanomaggies a pixel that gives a depth (as DEPTH) over the disc of the seeing (arcsec).

    The noise-equivalent area of a Gaussian is 4 pi sigma^2 (King 1983, PASP 95, 163).
    """
    sigma = seeing / 2.3548 / PIXEL
    return float(10 ** (0.4 * (ZEROPOINT - depth)) / 5 / np.sqrt(4 * np.pi * sigma**2))


def brick_flux(
    brick: Brick, lights: Sequence[Light], gap: Gap, noise: np.random.Generator | None
) -> NDArray[np.float32]:
    """(C, H, W) nanomaggies a pixel in the bands of the brick; exactly 0 in the empty corner."""
    flux = np.full((len(brick.bands), brick.pixels, brick.pixels), SKY_RESIDUAL, np.float32)
    empty = in_gap(brick, gap)
    wcs = brick.wcs()
    for plane, band in zip(flux, brick.bands, strict=True):
        image = galsim.ImageF(plane, xmin=1, ymin=1)
        for light in lights:
            _add(image, wcs, light, band)
        if noise is not None:
            plane += pixel_noise(SEEING[band], DEPTH[band]) * noise.standard_normal(plane.shape, np.float32)
        plane[empty] = 0
    return flux


def pixel_sky(brick: Brick) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(H, W) RA and Dec of the pixel centres, degrees."""
    x, y = np.meshgrid(np.arange(1.0, brick.pixels + 1), np.arange(1.0, brick.pixels + 1))
    ra, dec = brick.wcs().xyToradec(x.ravel(), y.ravel(), units=galsim.degrees)
    return ra.reshape(x.shape), dec.reshape(x.shape)


def position(brick: Brick, ra: float, dec: float) -> galsim.PositionD:
    """Pixel (1-based) of a position in degrees."""
    return brick.wcs().toImage(galsim.CelestialCoord(ra * galsim.degrees, dec * galsim.degrees))


def in_gap(brick: Brick, gap: Gap) -> NDArray[np.bool_]:
    """(H, W) True in the empty corner."""
    if brick.ra1 > gap.ra or brick.dec1 > gap.dec:
        return np.zeros((brick.pixels, brick.pixels), np.bool_)
    ra, dec = pixel_sky(brick)
    return (ra < gap.ra) & (dec < gap.dec)


def _add(image: galsim.Image, wcs: galsim.GSFitsWCS, light: Light, band: str) -> None:
    """Draw one source, if any of it falls on the image."""
    centre = wcs.toImage(galsim.CelestialCoord(light.ra * galsim.degrees, light.dec * galsim.degrees))
    half = int(np.ceil(light.extent / PIXEL))
    middle = centre.round()
    stamp = galsim.BoundsI(middle.x - half, middle.x + half, middle.y - half, middle.y + half)
    common = stamp & image.bounds
    if not common.isDefined():
        return
    drawn = galsim.ImageF(stamp, wcs=wcs.local(centre))
    light.seen(band).drawImage(drawn, method="no_pixel", center=centre)
    image[common] += drawn[common]
