"""Simulated X-ray images of galaxy clusters in three ordered classes: cool core, weak cool core, none.

SIMULATED: no labelled X-ray images of clusters could be had, so that a score on these says how a network copes with
central peaks in Poisson noise, and nothing of real clusters. `python -m pipeline.training.clusters FILE.parquet`.

A cluster is a beta model (Cavaliere and Fusco-Femiano 1976, A&A 49, 137), the gas of cool cores adding a second, narrow
one in its centre:

    S(r) = (1 + (r / r1)^2)^(1/2 - 3 b1) + A (1 + (r / r2)^2)^(1/2 - 3 b2)

Its class is the concentration of its light, c = flux within 40 kpc / flux within 400 kpc, cut where Santos et al. 2008,
A&A 483, 35, sec. 4, cut it: no cool core below 0.075, a weak one up to 0.155, a strong one above. A follows from c.
The slopes and core radii are in the range of Jones and Forman 1984, ApJ 276, 38; clusters without an excess
have A = 0. The ends of every range are chosen here.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.arguments import errors_in_a_line, positive
from pipeline.data import FieldOfView, ImageContract
from pipeline.preprocess import colours

CLASSES = ("cool_core", "weak", "none")  # in their order, as the Cramer distance needs it
WEAK, STRONG, STRONGEST = 0.075, 0.155, 0.30  # of the concentration c
INNER, OUTER = 40.0, 400.0  # kpc
WIDTH = 1000.0  # kpc from edge to edge, as Su et al. 2020, MNRAS 498, 5620
EXPOSURE = 100e3  # s, as theirs with Chandra's ACIS-I
PSF = 0.5  # arcsec, full width at half maximum on axis: Chandra Proposers' Observatory Guide, ch. 4
BACKGROUND = 0.3 / (8.3 * 60) ** 2  # counts / s / arcsec2: 0.3 / s a chip of 8.3 arcmin (same guide, ch. 6, rounded)
OVERSAMPLED = 4  # points a side of a pixel at which the profile is taken

# One count a pixel lights up about eleven levels of 255, and a thousand fill the range.
IMAGE = ImageContract(
    bands=("x",),
    planes=("x",),
    scales=(7e-3,),
    offset=0.0,
    softening=40.0,
    reference_pixel=1.0,
    size=128,
    fov=FieldOfView(fixed=None),
    min_bands=1,
)


@dataclass(frozen=True)
class Cluster:
    """One simulated cluster. Its image is drawn from `seed`."""

    kind: str  # one of CLASSES
    concentration: float
    excess: float  # A: the narrow component over the wide one, in the centre
    wide: float  # kpc, r1
    narrow: float  # kpc, r2
    slope: float  # b1
    narrow_slope: float  # b2
    axis_ratio: float
    angle: float  # rad
    redshift: float
    rate: float  # counts / s within 400 kpc
    offset: tuple[float, float]  # kpc from the image's centre
    seed: int


def clusters(count: int, seed: int) -> list[Cluster]:
    """As many of each class as the count allows, in turn; the same for the same seed."""
    rng = np.random.default_rng((seed, 0))
    return [_cluster(CLASSES[number % len(CLASSES)], rng) for number in range(count)]


def counts(cluster: Cluster, side: int = IMAGE.size) -> NDArray[np.int64]:
    """(side, side) counts a pixel: the profile as the telescope blurs it, and background, with Poisson noise."""
    scale = WIDTH / side / kiloparsecs(cluster.redshift)  # arcsec a pixel
    shape = _blurred(_profile(cluster, side), PSF / 2.3548 / scale)
    within = cluster.rate * EXPOSURE / _flux(cluster, OUTER) * (WIDTH / side) ** 2
    expected = shape * within + BACKGROUND * EXPOSURE * scale**2
    return np.random.default_rng((cluster.seed, 1)).poisson(expected)


def picture(cluster: Cluster) -> NDArray[np.uint8]:
    """(1, side, side) the image of a network, by the contract IMAGE."""
    return colours(counts(cluster)[None].astype(np.float32), IMAGE)


def kiloparsecs(redshift: float) -> float:
    """Kpc an arcsec, in a flat universe of H0 = 70 km/s/Mpc and matter 0.3."""
    z = np.linspace(0, redshift, 1001)
    distance = np.trapezoid(299792.458 / 70 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7), z)  # Mpc, comoving
    return float(distance / (1 + redshift) * 1000 * math.pi / 180 / 3600)


def cluster_table(count: int, seed: int) -> pa.Table:
    """Images for the trainer: `id`, `label`, `image` (PNG bytes) and what each was drawn with."""
    from PIL import Image

    made = clusters(count, seed)
    images = []
    for one in made:
        data = io.BytesIO()
        Image.fromarray(picture(one)[0]).save(data, "PNG")
        images.append(data.getvalue())
    columns = {
        "id": [f"simulated-{seed}-{number:05d}" for number in range(count)],
        "collection": ["simulated"] * count,
        "label": [one.kind for one in made],
        "concentration": [one.concentration for one in made],
        "redshift": [one.redshift for one in made],
        "rate": [one.rate for one in made],
        "core_radius": [one.wide for one in made],
        "image": images,
    }
    return pa.table(columns).replace_schema_metadata({"simulated": "beta models with Poisson noise, no real clusters"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Write simulated clusters as a Parquet file for `pipeline train`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.training.clusters", description=main.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=positive, default=954, help="as many as Zhang et al. 2020 had projections")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with errors_in_a_line(parser):
        given.path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(cluster_table(given.count, given.seed), given.path)


def _cluster(kind: str, rng: np.random.Generator) -> Cluster:
    wide, slope = _wide(rng)
    narrow, narrow_slope = rng.uniform(15, 35), rng.uniform(0.65, 0.9)
    own, own_outer = _beta_flux(INNER, wide, slope), _beta_flux(OUTER, wide, slope)
    concentration = {
        "cool_core": rng.uniform(STRONG, STRONGEST),
        "weak": rng.uniform(WEAK, STRONG),
        "none": own / own_outer,
    }[kind]
    core, core_outer = _beta_flux(INNER, narrow, narrow_slope), _beta_flux(OUTER, narrow, narrow_slope)
    excess = (concentration * own_outer - own) / (core - concentration * core_outer)
    return Cluster(
        kind=kind,
        concentration=float(concentration),
        excess=float(excess) if kind != "none" else 0.0,
        wide=wide,
        narrow=narrow,
        slope=slope,
        narrow_slope=narrow_slope,
        axis_ratio=rng.uniform(0.7, 1.0),
        angle=rng.uniform(0, math.pi),
        redshift=rng.uniform(0.05, 0.3),
        rate=float(np.exp(rng.uniform(math.log(0.05), math.log(1.0)))),
        offset=(rng.uniform(-50, 50), rng.uniform(-50, 50)),
        seed=int(rng.integers(2**31)),
    )


def _wide(rng: np.random.Generator) -> tuple[float, float]:
    """Core radius (kpc) and slope of a gas that has no cool core: of a concentration below WEAK by itself."""
    while True:
        core, slope = rng.uniform(120, 300), rng.uniform(0.5, 0.8)
        if _beta_flux(INNER, core, slope) < WEAK * _beta_flux(OUTER, core, slope):
            return core, slope


def _profile(cluster: Cluster, side: int) -> NDArray[np.float64]:
    """(side, side) the mean surface brightness of each pixel, in units of the wide component's centre."""
    fine = side * OVERSAMPLED
    axis = ((np.arange(fine) + 0.5) / fine - 0.5) * WIDTH
    x, y = axis[None, :] - cluster.offset[0], axis[:, None] - cluster.offset[1]
    along = x * math.cos(cluster.angle) + y * math.sin(cluster.angle)
    across = y * math.cos(cluster.angle) - x * math.sin(cluster.angle)
    squared = along**2 * cluster.axis_ratio + across**2 / cluster.axis_ratio  # an ellipse of the circle's area
    bright = _beta(squared, cluster.wide, cluster.slope)
    bright += cluster.excess * _beta(squared, cluster.narrow, cluster.narrow_slope)
    return bright.reshape(side, OVERSAMPLED, side, OVERSAMPLED).mean((1, 3))


def _beta(squared: NDArray[np.float64], core: float, slope: float) -> NDArray[np.float64]:
    return (1 + squared / core**2) ** (0.5 - 3 * slope)


def _flux(cluster: Cluster, radius: float) -> float:
    """Within a radius, in units of the wide component's centre times kpc2."""
    narrow = _beta_flux(radius, cluster.narrow, cluster.narrow_slope)
    return _beta_flux(radius, cluster.wide, cluster.slope) + cluster.excess * narrow


def _beta_flux(radius: float, core: float, slope: float) -> float:
    """The integral of a beta model over a disc, kpc2."""
    power = 1.5 - 3 * slope
    grown = 1 + (radius / core) ** 2
    inside = math.log(grown) if abs(power) < 1e-9 else (grown**power - 1) / power
    return math.pi * core**2 * inside


def _blurred(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Under a Gaussian of `sigma` pixels; the light that leaves at one edge comes in at the other."""
    frequency = np.fft.fftfreq(len(image))
    kernel = np.exp(-2 * (math.pi * sigma * frequency) ** 2)
    return np.fft.ifft2(np.fft.fft2(image) * kernel[:, None] * kernel[None, :]).real.clip(0)


if __name__ == "__main__":
    main()
