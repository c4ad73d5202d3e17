"""What is no galaxy, as a network would see it: stars, diffraction spikes, satellite trails, halos and empty sky.

Drawn on the noise of the mock sky and shown by the same image contract as galaxies, with galaxies drawn the same way
beside them, so that a score which tells them apart does not merely tell drawn from real. `--stars` adds the real
stars of a folder of FITS cutouts, on drawn sky.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.arguments import errors_in_a_line, positive
from pipeline.data import Cutout, ImageContract, PixelGrid
from pipeline.errors import JobError
from pipeline.mock.bricks import PIXEL
from pipeline.mock.images import DEPTH, pixel_noise
from pipeline.mock.light import MOFFAT, SEEING
from pipeline.mock.sources import BANDS, ZEROPOINT
from pipeline.mock.stamps import MARGIN, TELESCOPES, stamps
from pipeline.preprocess import contract_image

Plane = NDArray[np.float64]
FIELD = (16.0, 64.0)  # arcsec across: the contract's lower limit, and what four of ten mock galaxies stay below
HSC_ZEROPOINT = 27.0  # AB magnitude of one count of an HSC coadd (header FLUXMAG0, 10^(0.4 * 27))
HSC_PIXEL = 0.168  # arcsec
REAL = "real star"
GALAXY = "galaxy"


class Sky:
    """The pixels around one position: offsets in arcsec, and flux to which things are added."""

    def __init__(self, width: float, rng: np.random.Generator) -> None:
        side = 2 * int(np.ceil(width / PIXEL / 2)) + 2 * MARGIN
        axis = (np.arange(side) - (side - 1) / 2) * PIXEL
        self.width, self.rng = width, rng
        self.x, self.y = np.meshgrid(axis, axis)  # (side, side) arcsec
        noise = [pixel_noise(SEEING[band], DEPTH[band]) for band in BANDS]
        self.flux = np.array(noise)[:, None, None] * rng.standard_normal((len(BANDS), side, side))  # nanomaggies

    def add(self, surface: Mapping[str, Plane]) -> None:
        """Add nanomaggies / arcsec2, a band each."""
        for band, plane in surface.items():
            self.flux[BANDS.index(band)] += plane * PIXEL**2

    def image(self, contract: ImageContract) -> NDArray[np.uint8]:
        """(C, size, size) as the network sees it."""
        middle = (len(self.x) - 1) / 2
        grid = PixelGrid((middle, middle), np.diag([-1.0, 1.0]) / PIXEL)
        cutout = Cutout((self.flux / PIXEL**2).astype(np.float32), np.zeros(self.flux.shape, np.bool_), grid)
        return contract_image(cutout, contract, self.width)


def star(sky: Sky) -> None:
    """One star of 14 to 20 mag in the middle."""
    _point(sky, _fluxes(sky, sky.rng.uniform(14, 20)), (0.0, 0.0))


def spikes(sky: Sky) -> None:
    """A star of 8 to 12 mag, its light spread along four arms by what holds the secondary mirror.

    The arms fall as 1 / r^2, as those of a straight edge far from the axis do; together they hold one per cent of
    the light, chosen.
    """
    at = tuple(sky.rng.normal(0, 0.05, 2) * sky.width)
    fluxes, turn = _fluxes(sky, sky.rng.uniform(8, 12)), sky.rng.uniform(0, np.pi / 2)
    _point(sky, fluxes, at)
    x, y = sky.x - at[0], sky.y - at[1]
    along = np.abs(x * np.cos(turn) + y * np.sin(turn)), np.abs(y * np.cos(turn) - x * np.sin(turn))
    for band, flux in fluxes.items():
        width = SEEING[band] / 2.3548
        arms = [
            np.exp(-(across**2) / (2 * width**2)) / (np.maximum(reach, 1.0) ** 2 * np.sqrt(2 * np.pi) * width)
            for reach, across in (along, along[::-1])
        ]
        sky.add({band: 0.01 * flux / 4 * (arms[0] + arms[1])})


def trail(sky: Sky) -> None:
    """A satellite's trail past the middle, in one band: it crossed one exposure. Its ridge: 20 to 23 mag / arcsec2."""
    band = str(sky.rng.choice(BANDS))
    turn, miss = sky.rng.uniform(0, np.pi), sky.rng.normal(0, 0.1) * sky.width
    across = sky.x * np.sin(turn) - sky.y * np.cos(turn) - miss
    ridge = 10 ** (0.4 * (ZEROPOINT - sky.rng.uniform(20, 23)))
    sky.add({band: ridge * (1 + (across / _core(SEEING[band])) ** 2) ** (0.5 - MOFFAT)})


def halo(sky: Sky) -> None:
    """The reflection of a star outside the frame: a disc with a hole, 23 to 25 mag / arcsec2, and the star's wings."""
    turn = sky.rng.uniform(0, 2 * np.pi)
    reach = sky.width * sky.rng.uniform(0.55, 0.9)
    x, y = sky.x - reach * np.cos(turn), sky.y - reach * np.sin(turn)
    away = np.hypot(x, y)
    outer = reach * sky.rng.uniform(0.9, 1.3)  # its edge passes near the middle
    disc = 1 / (1 + np.exp((away - outer) / 0.5)) - 0.7 / (1 + np.exp((away - 0.35 * outer) / 0.5))
    level, colour = 10 ** (0.4 * (ZEROPOINT - sky.rng.uniform(23, 25))), _fluxes(sky, ZEROPOINT)
    tint = sky.rng.uniform(0.7, 1.3, len(BANDS))  # coatings do not reflect all bands alike
    wings = 10 ** (0.4 * (ZEROPOINT - sky.rng.uniform(21, 23))) * (np.maximum(away, 2.0) / 10) ** -2.0
    sky.add({band: colour[band] * (part * level * disc + wings) for band, part in zip(BANDS, tint, strict=True)})


def nothing(sky: Sky) -> None:
    """Noise, and perhaps stars of 20 to 23 mag anywhere."""
    for _ in range(sky.rng.poisson(1.0)):
        at = sky.rng.uniform(-0.5, 0.5, 2) * sky.width
        _point(sky, _fluxes(sky, sky.rng.uniform(20, 23)), (at[0], at[1]))


KINDS: Mapping[str, Callable[[Sky], None]] = {
    "star": star,
    "spikes": spikes,
    "trail": trail,
    "halo": halo,
    "sky": nothing,
}


def artefacts(count: int, seed: int, contract: ImageContract) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """`count` images (C, S, S) of each kind, with its name."""
    for number, (kind, draw) in enumerate(KINDS.items()):
        for one in range(count):
            rng = np.random.default_rng((seed, 20, number, one))
            sky = Sky(float(np.exp(rng.uniform(*np.log(FIELD)))), rng)
            draw(sky)
            yield kind, sky.image(contract)


def real_stars(folder: Path, each: int, seed: int, contract: ImageContract) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every i-band star of the folder `each` times on drawn sky, in colours and turns drawn by lot.

    Raises JobError where the folder has no FITS file.
    """
    from astropy.io import fits

    paths = sorted(folder.glob("*.fits"))
    if not paths:
        raise JobError(f"{folder} has no stars: there is no *.fits")
    for number, path in enumerate(paths):
        counts = fits.getdata(path, 1).astype(np.float64)
        for one in range(each):
            rng = np.random.default_rng((seed, 21, number, one))
            sky = Sky(FIELD[0], rng)
            _paste(sky, np.rot90(counts, int(rng.integers(4))))
            yield REAL, sky.image(contract)


def artefact_table(count: int, seed: int, contract: ImageContract, stars: Path | None = None) -> pa.Table:
    """All kinds, and as many galaxies, as a table: `id`, `kind`, `image` (PNG bytes)."""
    from PIL import Image

    galaxies = stamps(count, seed, TELESCOPES["decals"], contract)
    rows: dict[str, list[object]] = {"id": [], "kind": [], "image": []}
    drawn = [*artefacts(count, seed, contract), *((GALAXY, stamp.image) for stamp in galaxies)]
    drawn += [] if stars is None else list(real_stars(stars, max(1, count // 12), seed, contract))
    for number, (kind, image) in enumerate(drawn):
        data = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(data, "PNG")
        for column, value in zip(rows, (f"{kind}-{seed}-{number:05d}", kind, data.getvalue()), strict=True):
            rows[column].append(value)
    return pa.table(rows).replace_schema_metadata({"mock": f"drawn artefacts of seed {seed}"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Write images of what is no galaxy, and of as many galaxies, as a Parquet file for `pipeline evaluate`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.mock.artefacts", description=main.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=positive, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=positive, default=128, help="pixels a side")
    parser.add_argument("--stars", type=Path, help="folder of HSC i-band FITS cutouts of stars")
    given = parser.parse_args(arguments)
    contract = replace(ImageContract(), size=given.size)
    with errors_in_a_line(parser):
        given.path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(artefact_table(given.count, given.seed, contract, given.stars), given.path)


def _point(sky: Sky, fluxes: Mapping[str, float], at: tuple[float, ...]) -> None:
    squared = (sky.x - at[0]) ** 2 + (sky.y - at[1]) ** 2
    for band, flux in fluxes.items():
        core = _core(SEEING[band])
        sky.add({band: flux * (MOFFAT - 1) / (np.pi * core**2) * (1 + squared / core**2) ** -MOFFAT})


def _fluxes(sky: Sky, magnitude: float) -> dict[str, float]:
    """Nanomaggies a band of a star of this r magnitude, its colour drawn as those of the mock sky's stars."""
    colour = sky.rng.uniform(0.3, 1.4)
    mags = (magnitude + colour, magnitude, magnitude - 0.55 * colour)
    return {band: 10 ** (0.4 * (ZEROPOINT - mag)) for band, mag in zip(BANDS, mags, strict=True)}


def _core(seeing: float) -> float:
    """Arcsec: the scale of a Moffat profile of this full width at half maximum."""
    return float(seeing / (2 * (2 ** (1 / MOFFAT) - 1) ** 0.5))


def _paste(sky: Sky, counts: Plane) -> None:
    """Add a star's cutout to the middle, each pixel of the sky taking the nearest of the cutout's."""
    brightness = counts * 10 ** (0.4 * (ZEROPOINT - HSC_ZEROPOINT)) / HSC_PIXEL**2  # nanomaggies / arcsec2
    peak = np.unravel_index(brightness.argmax(), brightness.shape)
    row = np.round(sky.y / HSC_PIXEL).astype(int) + peak[0]
    column = np.round(sky.x / HSC_PIXEL).astype(int) + peak[1]
    inside = (row >= 0) & (row < len(brightness)) & (column >= 0) & (column < brightness.shape[1])
    plane = np.zeros(sky.x.shape)
    plane[inside] = brightness[row[inside], column[inside]]
    colour = _fluxes(sky, ZEROPOINT)  # of one nanomaggy in r
    sky.add({band: plane * colour[band] for band in BANDS})


if __name__ == "__main__":
    main()
