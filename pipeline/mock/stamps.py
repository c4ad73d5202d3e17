"""Single galaxies of the mock sky as a network sees them: out of the centre, among stars, under another telescope.

For what survey tiles cannot show: attention that is right only because galaxies stand in the middle, and classes that
change with seeing and depth. The same galaxies come under every telescope, so that what differs is the telescope.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.arguments import errors_in_a_line, positive, within
from pipeline.data import Cutout, ImageContract, PixelGrid
from pipeline.mock.bricks import ANCHOR, PIXEL
from pipeline.mock.images import DEPTH, pixel_noise
from pipeline.mock.light import SEEING, Light, light
from pipeline.mock.places import Place
from pipeline.mock.sources import BANDS, SMALLEST, Galaxy, deal, galaxies, stars
from pipeline.mock.truth import galaxy_mask, mask_width
from pipeline.preprocess import contract_image

MARGIN = 8  # pixels beyond the image that resampling may ask for
STARS = 1.0  # a stamp, on average: about as many a square arcmin as there are to 21 mag far from the Milky Way
MAX_RADIUS = 10.0  # arcsec, as MockSky's


@dataclass(frozen=True)
class Telescope:
    """What is between the sky and the picture, a band of the mock sky each."""

    seeing: Mapping[str, float]  # arcsec, full width at half maximum
    depth: Mapping[str, float]  # 5 sigma, AB, point source


TELESCOPES: Mapping[str, Telescope] = {
    "decals": Telescope(SEEING, DEPTH),
    # SDSS DR17, scope: median seeing in r, and depths; its colour pictures show g, r and i, so the depth of z is i's.
    "sdss": Telescope(dict.fromkeys(BANDS, 1.32), {"g": 23.13, "r": 22.70, "z": 22.20}),
    # Seeing: medians of BASS DR2 (batc.bao.ac.cn); depths: Zou et al. 2019, arXiv:1908.07099, abstract.
    "bass_mzls": Telescope({"g": 1.60, "r": 1.42, "z": 1.04}, {"g": 24.2, "r": 23.6, "z": 23.0}),
}


@dataclass(frozen=True, eq=False)
class Stamp:
    """One galaxy and its picture."""

    galaxy: Galaxy
    image: NDArray[np.uint8]  # (C, S, S)
    mask: NDArray[np.bool_]  # (64, 64) over the same field: where the galaxy alone is brighter than 25 r mag / arcsec2
    offset: tuple[float, float]  # of the galaxy from the image's centre, image sides, to the west and the north


def stamps(
    count: int, seed: int, telescope: Telescope, contract: ImageContract, jitter: float = 0.0, crowd: float = STARS
) -> Iterator[Stamp]:
    """Galaxies of the six classes in turn, each up to `jitter` image sides from the centre along either axis.

    `crowd` stars stand around each, on average. A seed has its galaxies, places and stars whatever the telescope is.
    """
    details = np.random.default_rng((seed, 10))
    kinds = deal(count, details)
    radii = (np.clip(details.lognormal(np.log(2.6), 0.55), SMALLEST[kind], MAX_RADIUS) for kind in kinds)
    places = [Place(*ANCHOR, float(radius)) for radius in radii]
    for number, galaxy in enumerate(galaxies(kinds, places, details)):
        rng = np.random.default_rng((seed, 11, number))
        yield _stamp(galaxy, telescope, contract, jitter, crowd, rng)


def stamp_table(count: int, seed: int, contract: ImageContract, jitter: float = 0.0) -> pa.Table:
    """Stamps under every telescope as a table: `id`, `label`, `telescope`, `image` (PNG bytes), `mask`, ..."""
    from PIL import Image

    rows: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    for name, telescope in TELESCOPES.items():
        for number, stamp in enumerate(stamps(count, seed, telescope, contract, jitter)):
            data = io.BytesIO()
            Image.fromarray(stamp.image.transpose(1, 2, 0)).save(data, "PNG")
            galaxy = stamp.galaxy
            values = (
                f"stamp-{seed}-{number:05d}-{name}",
                galaxy.kind,
                name,
                data.getvalue(),
                np.packbits(stamp.mask).tobytes(),
                *stamp.offset,
                galaxy.radius,
                mask_width(galaxy),
                galaxy.axis_ratio,
                galaxy.r_mag,
            )
            for column, value in zip(_COLUMNS, values, strict=True):
                rows[column].append(value)
    return pa.table(rows).replace_schema_metadata({"mock": f"drawn galaxies of seed {seed}, jitter {jitter}"})


_COLUMNS = (
    *("id", "label", "telescope", "image", "mask", "offset_west", "offset_north"),
    *("radius", "fov_arcsec", "axis_ratio", "mag_r"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write single galaxies of the mock sky, under every telescope, as a Parquet file for `pipeline evaluate`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.mock.stamps", description=main.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=positive, default=300, help="galaxies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jitter", type=within(0.0, 0.5), default=0.35, help="image sides from the centre, at most, along an axis"
    )
    parser.add_argument("--size", type=positive, default=128, help="pixels a side")
    given = parser.parse_args(arguments)
    contract = replace(ImageContract(), size=given.size)
    with errors_in_a_line(parser):
        given.path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(stamp_table(given.count, given.seed, contract, given.jitter), given.path)


def _stamp(
    galaxy: Galaxy,
    telescope: Telescope,
    contract: ImageContract,
    jitter: float,
    crowd: float,
    rng: np.random.Generator,
) -> Stamp:
    width = mask_width(galaxy)
    offset = tuple(rng.uniform(-jitter, jitter, 2))
    near = rng.uniform(-0.5, 0.5, (int(rng.poisson(crowd)), 2))  # image sides from the centre
    shining = stars([ANCHOR] * len(near), 0, rng)
    lights = [(light(galaxy), offset), *((light(star), tuple(at)) for star, at in zip(shining, near, strict=True))]
    side = 2 * int(np.ceil(width / PIXEL / 2)) + 2 * MARGIN
    flux = np.stack([_plane(side, lights, width, telescope, band, rng) for band in BANDS])
    grid = PixelGrid(((side - 1) / 2, (side - 1) / 2), np.diag([-1.0, 1.0]) / PIXEL)
    cutout = Cutout((flux / PIXEL**2).astype(np.float32), np.zeros(flux.shape, np.bool_), grid)
    image = contract_image(cutout, contract, width)
    seen = _under(lights[0][0], telescope)
    return Stamp(galaxy, image, galaxy_mask(seen, width, offset), offset)


def _plane(
    side: int,
    lights: list[tuple[Light, tuple[float, ...]]],
    width: float,
    telescope: Telescope,
    band: str,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(side, side) nanomaggies a pixel; rows from south to north, columns from east to west."""
    image = galsim.ImageD(side, side, scale=PIXEL)
    for source, (west, north) in lights:
        drawn = _under(source, telescope).seen(band).shift(west * width, north * width)
        drawn.drawImage(image, method="no_pixel", add_to_image=True)
    noise = pixel_noise(telescope.seeing[band], telescope.depth[band])
    return image.array + noise * rng.standard_normal(image.array.shape)


def _under(source: Light, telescope: Telescope) -> Light:
    return replace(source, seeing=telescope.seeing)


if __name__ == "__main__":
    main()
