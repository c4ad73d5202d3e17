"""Writes the mock sky as the survey publishes it: below one root, file by file."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.mock.bricks import Brick, MockSky, block
from pipeline.mock.files import image_bytes, table_bytes, write
from pipeline.mock.images import brick_flux
from pipeline.mock.light import Light, light
from pipeline.mock.masks import brick_maskbits
from pipeline.mock.places import Gap, empty_corner, galaxy_places, star_places
from pipeline.mock.sources import CLASSES, SMALLEST, Galaxy, Star, bright_stars, deal, galaxies, stars
from pipeline.mock.tables import all_sky_rows, south_rows, sweep_name, sweep_rows, tractor_rows
from pipeline.mock.truth import truth_table

SOUTH = "dr10/south"
TRUTH = "truth/truth.parquet"
LABEL = "mock.json"  # written last: says that the tree is a mock, from which seed and sky
DEFAULT_SKY = MockSky()


@dataclass(frozen=True)
class MockSummary:
    """What was written."""

    root: Path
    bricks: tuple[str, ...]
    galaxies: Mapping[str, int]  # class -> how many
    stars: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """One sky: everything that every brick draws."""

    bricks: tuple[Brick, ...]
    gap: Gap
    galaxies: tuple[Galaxy, ...]
    stars: tuple[Star, ...]
    lights: tuple[Light, ...]  # galaxies, then stars


def write_mock(root: Path, seed: int = 1, *, sky: MockSky = DEFAULT_SKY, noiseless: bool = False) -> MockSummary:
    """Draw a miniature of DECaLS DR10 south below `root`: bricks, catalogues, checksums and the truth.

    The tree has the layout, formats and columns of archives.md 1.3. The same seed and sky give the same
    bytes. Galaxies stand on brick edges on purpose, the last brick has no z band, and the south-western
    corner of the first has no data at all. Raises JobError where `root` holds something already.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise JobError(f"the mock sky needs an empty folder, and {root} is not one")
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    scene = _scene(sky, seed)
    tables: list[NDArray[np.void]] = []
    sweeps: dict[str, list[NDArray[np.void]]] = {}
    truth: dict[int, tuple[str, int, int, int]] = {}
    for brick in scene.bricks:
        noise = None if noiseless else np.random.default_rng((seed, 2, brick.brickid))
        rows, index = _write_brick(partial, brick, scene, noise)
        tables.append(rows)
        for name, part in _by_sweep(sweep_rows(rows)).items():
            sweeps.setdefault(name, []).append(part)
        for row, n in zip(rows, index, strict=True):
            if row["brick_primary"]:
                truth[int(n)] = brick.name, int(row["release"]), int(row["brickid"]), int(row["objid"])
    _write_tables(partial, scene, tables, sweeps)
    count = len(scene.galaxies)
    table = truth_table(scene.galaxies, scene.lights[:count], [truth[n] for n in range(count)])
    (partial / TRUTH).parent.mkdir(parents=True)
    pq.write_table(table, partial / TRUTH)
    write(partial / LABEL, json.dumps({"mock": True, "seed": seed, "noiseless": noiseless, **asdict(sky)}).encode())
    partial.rename(root)
    return _summary(root, scene)


def _scene(sky: MockSky, seed: int) -> _Scene:
    """The sky of a seed. Places and details have random streams of their own."""
    places_rng, details_rng = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    bricks = block(sky)
    kinds = deal(sky.galaxies, details_rng)
    places = galaxy_places(sky, bricks, [SMALLEST[kind] for kind in kinds], places_rng)
    bright = bright_stars(sky)
    all_galaxies = galaxies(kinds, places, details_rng)
    all_stars = stars(star_places(sky, bricks, places, bright, places_rng), bright, details_rng)
    lights = (*map(light, all_galaxies), *map(light, all_stars))
    return _Scene(bricks, empty_corner(bricks), all_galaxies, all_stars, lights)


def _write_brick(
    root: Path, brick: Brick, scene: _Scene, noise: np.random.Generator | None
) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Coadds, mask, tractor table and checksums of one brick; the tractor rows and their sources."""
    folder, prefix = brick.name[:3], f"legacysurvey-{brick.name}"
    flux = brick_flux(brick, scene.lights, scene.gap, noise)
    maskbits = brick_maskbits(brick, scene.galaxies, scene.stars, flux)
    rows, index = tractor_rows(brick, (*scene.galaxies, *scene.stars), scene.lights, maskbits, scene.gap)
    files = {
        f"coadd/{folder}/{brick.name}/{prefix}-image-{band}.fits.fz": image_bytes(plane, _image_cards(brick, band))
        for plane, band in zip(flux, brick.bands, strict=True)
    }
    files[f"coadd/{folder}/{brick.name}/{prefix}-maskbits.fits.fz"] = image_bytes(maskbits, brick.wcs_cards())
    files[f"tractor/{folder}/tractor-{brick.name}.fits"] = table_bytes(rows, _brick_cards(brick))
    # "<sha256> *<path below the region>", as legacypipe's `run_brick` writes it.
    sums = [f"{write(root / SOUTH / name, data)} *{name}\n" for name, data in files.items()]
    write(root / SOUTH / f"tractor/{folder}/brick-{brick.name}.sha256sum", "".join(sums).encode())
    return rows, index


def _write_tables(
    root: Path,
    scene: _Scene,
    tables: list[NDArray[np.void]],
    sweeps: Mapping[str, list[NDArray[np.void]]],
) -> None:
    """The tables that span bricks."""
    write(root / "survey-bricks.fits.gz", table_bytes(all_sky_rows(scene.bricks)))
    south = south_rows(scene.bricks, tables, scene.gap)
    write(root / SOUTH / "survey-bricks-dr10-south.fits.gz", table_bytes(south))
    for name, parts in sweeps.items():
        write(root / SOUTH / "sweep/10.1" / name, table_bytes(np.concatenate(parts)))


def _by_sweep(rows: NDArray[np.void]) -> dict[str, NDArray[np.void]]:
    """Rows by the sweep file that they belong to."""
    names = np.array([sweep_name(row["RA"], row["DEC"]) for row in rows])
    return {str(name): rows[names == name] for name in np.unique(names)}


def _brick_cards(brick: Brick) -> list[dict[str, Any]]:
    """The identity of a brick as legacypipe's headers give it."""
    values = {"SURVEY": "DECaLS", "LSDR": "DR10", "BRICK": brick.name, "BRICKNAM": brick.name,
              "BRICKID": brick.brickid, "RAMIN": brick.ra1, "RAMAX": brick.ra2, "DECMIN": brick.dec1,
              "DECMAX": brick.dec2}  # fmt: skip
    return [{"name": name, "value": value} for name, value in values.items()]


def _image_cards(brick: Brick, band: str) -> list[dict[str, Any]]:
    """The header of one coadd."""
    values = {"IMAGEW": brick.pixels, "IMAGEH": brick.pixels, "IMAGETYP": "image", "FILTER": band, "BAND": band,
              "MAGZERO": 22.5, "BUNIT": "nanomaggy", "TELESCOP": "CTIO 4.0-m telescope",
              "INSTRUME": "DECam"}  # fmt: skip
    return _brick_cards(brick) + brick.wcs_cards() + [{"name": n, "value": v} for n, v in values.items()]


def _summary(root: Path, scene: _Scene) -> MockSummary:
    files = [path for path in root.rglob("*") if path.is_file()]
    kinds = Counter(galaxy.kind for galaxy in scene.galaxies)
    return MockSummary(
        root=root,
        bricks=tuple(brick.name for brick in scene.bricks),
        galaxies={kind: kinds[kind] for kind in CLASSES},
        stars=len(scene.stars),
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
    )
