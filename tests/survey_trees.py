"""Trees of survey files in memory, each in the shape that its documentation gives, over a sky that is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data import Product
from pipeline.surveys import TileImage
from pipeline.surveys.tan import Tan
from tests.skies import ArrayImage, Blob, BrickSky, matrix

Store = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Nanomaggies / arcsec2, or Jy/beam -> the numbers that a file holds."""


def sky_of(ra: float, dec: float, *blobs: Blob) -> BrickSky:
    """A sky to draw from, without bricks."""
    return BrickSky(ra=ra, dec=dec, size=166, blobs=blobs, bands=())


def turned_header(
    ra: float, dec: float, shape: tuple[int, int], scale: float, angle: float = 0.0, shift: tuple[float, float] = (0, 0)
) -> dict[str, Any]:
    """A TAN header around a position, turned by `angle` deg, its middle moved by `shift` pixels."""
    steps = np.linalg.inv(matrix(scale, angle)) / 3600
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec,
        "CRPIX1": (shape[1] + 1) / 2 + shift[0], "CRPIX2": (shape[0] + 1) / 2 + shift[1],
        "CD1_1": steps[0, 0], "CD1_2": steps[0, 1], "CD2_1": steps[1, 0], "CD2_2": steps[1, 1],
    }  # fmt: skip


def drawn_on(
    sky: BrickSky, header: Mapping[str, Any], shape: tuple[int, int], store: Store = lambda light: light, **cards: Any
) -> ArrayImage:
    """The sky on the pixels of a TAN header, with `cards` besides."""
    y, x = np.indices(shape, dtype=np.float64)
    return ArrayImage(store(sky.brightness(header, x, y)).astype(np.float32), {**header, **cards})


def corners_of(header: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    """(4, 2) ra, dec in degrees of the corners of an image."""
    height, width = shape
    x, y = np.array([0.0, width, width, 0.0]) - 0.5, np.array([0.0, 0.0, height, height]) - 0.5
    return np.stack(Tan.of(header, "tile").to_sky(x, y), axis=1)


@dataclass
class Archive:
    """Files by path; those that are asked for and not there are missing."""

    files: dict[str, ArrayImage] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, product: Product) -> TileImage:
        self.asked.append(product.path)
        if product.path not in self.files:
            raise FileNotFoundError(product.path)
        return self.files[product.path]


def sdss_fields(rows: Mapping[str, tuple[float, float, float, float]]) -> pa.Table:
    """A `window_flist` of an equatorial stripe: "run/camcol/field" -> RA and Dec from and to, degrees."""
    names = [tuple(int(part) for part in name.split("/")) for name in rows]
    low_ra, high_ra, low_dec, high_dec = (list(values) for values in zip(*rows.values(), strict=True))
    run, camcol, number = (list(values) for values in zip(*names, strict=True))
    same = {"rerun": ["301"] * len(run), "node": [95.0] * len(run), "incl": [0.0] * len(run)}
    field_columns = {"run": run, "camcol": camcol, "field": number}
    stripe = {"mu_start": low_ra, "mu_end": high_ra, "nu_start": low_dec, "nu_end": high_dec}
    return pa.table({**field_columns, **same, **stripe})


def footprint_table(rows: Mapping[tuple[str, str], tuple[str, NDArray[np.float64]]]) -> pa.Table:
    """(tile, band) -> path and corners, as a footprint table of the survey `tiles`."""
    corners = np.stack([found for _, found in rows.values()]).reshape(len(rows), 8)
    columns = {f"{axis}{n + 1}": corners[:, 2 * n + (axis == "dec")] for n in range(4) for axis in ("ra", "dec")}
    tiles, bands = zip(*rows, strict=True)
    return pa.table({"tile": list(tiles), "band": list(bands), "path": [path for path, _ in rows.values()], **columns})


def euclid_mosaics(
    rows: Mapping[str, tuple[str, NDArray[np.float64]]], bucket: str = "nasa-irsa-euclid-q1"
) -> pa.Table:
    """IRSA's answer, ObsCore: key in the bucket -> band and corners; a noise map beside each."""
    answer = []
    for key, (band, corners) in rows.items():
        region = "POLYGON ICRS " + " ".join(f"{value:.8f}" for value in corners.ravel())
        cloud = f'{{"aws": {{"bucket_name": "{bucket}", "key": "{key}", "region": "us-east-1"}}}}'
        row = {"cloud_access": cloud, "s_region": region, "energy_bandpassname": band}
        answer += [row | {"dataproduct_subtype": kind} for kind in ("science", "noise")]
    return pa.Table.from_pylist(answer)
