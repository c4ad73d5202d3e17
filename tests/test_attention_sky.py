"""Attention on the sky: drawn at a known place, size and direction, through a real projection and the real image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord
from astropy.units import arcsec, deg
from astropy.wcs import WCS
from numpy.typing import NDArray

from pipeline.attention import summarise
from pipeline.catalogue.attention_sky import NEEDED, sky_columns
from pipeline.data import Cutout, ImageContract, PixelGrid
from pipeline.models.network import ATTENTION_COLUMNS
from pipeline.preprocess import contract_image
from pipeline.surveys.tan import Tan
from pipeline.surveys.wcs import linearised

FOV = 40.0  # arcsec
SIZE = 128  # pixels of the image
HALF = 110  # pixels of the tile on each side of the source
PIXEL = 0.262  # arcsec
SHORT = 2.0  # arcsec: sigma of the planted light, 2 : 1
LONG = 2 * SHORT


@dataclass(frozen=True)
class Planted:
    """An elliptical Gaussian at a separation (arcsec) and direction from the source, its major axis at `pa`."""

    separation: float
    direction: float  # deg east of north
    pa: float  # deg east of north


def tile(ra: float, dec: float, turn: float, away: tuple[float, float]) -> dict[str, object]:
    """A header whose tangent point lies `away` degrees (longitude on the sky, latitude) from the source, turned."""
    tangent = SkyCoord(ra * deg, dec * deg).spherical_offsets_by(away[0] * deg, away[1] * deg)
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    header: dict[str, object] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1.0, "CRPIX2": 1.0}
    header |= {"CRVAL1": float(tangent.ra.deg), "CRVAL2": float(tangent.dec.deg), "CUNIT1": "deg", "CUNIT2": "deg"}
    header |= {"CD1_1": -cos * PIXEL / 3600, "CD1_2": sin * PIXEL / 3600}
    return header | {"CD2_1": sin * PIXEL / 3600, "CD2_2": cos * PIXEL / 3600}


def drawn(header: dict[str, object], ra: float, dec: float, light: Planted, grid: PixelGrid) -> Cutout:
    """The light around the source on the tile's own pixels, by astropy's sphere and WCS alone."""
    x0, y0 = round(grid.centre[0]) - HALF, round(grid.centre[1]) - HALF
    y, x = np.mgrid[y0 : y0 + 2 * HALF + 1, x0 : x0 + 2 * HALF + 1]
    sky = SkyCoord(*WCS(header).all_pix2world(x, y, 0), unit="deg")
    source = SkyCoord(ra * deg, dec * deg)
    middle = source.directional_offset_by(light.direction * deg, light.separation * arcsec)
    # North at the light is not north at the source: 0.9 degrees off at 5 arcsec and 360 from the pole.
    converged = middle.position_angle(source).deg + 180 - light.direction
    away, towards = middle.separation(sky).arcsec, middle.position_angle(sky).rad - np.radians(light.pa + converged)
    brightness = 3 * np.exp(-((away * np.cos(towards) / LONG) ** 2 + (away * np.sin(towards) / SHORT) ** 2) / 2)
    flux = np.stack([brightness.astype(np.float32)] * 3)
    own = PixelGrid((grid.centre[0] - x0, grid.centre[1] - y0), grid.matrix)
    return Cutout(flux, np.zeros(flux.shape, np.bool_), own)


def linear(image: NDArray[np.uint8]) -> torch.Tensor:
    """The image as a map (1, S, S), 0 where there is no flux. The stretch bends the profile, not its place and axes."""
    light = image.astype(np.float64).mean(0, keepdims=True)
    return torch.from_numpy(light - light.min())


def columns(maps: torch.Tensor, fov: float = FOV, radius: float = 5.0) -> dict[str, float]:
    """The statistics of one map and what they are on the sky."""
    found = dict(zip(ATTENTION_COLUMNS, summarise(maps)[0].double().numpy().T, strict=True))
    sky = sky_columns({name: found[name] for name in NEEDED}, np.array([fov]), np.array([radius]))
    return {name: float(values[0]) for name, values in (found | sky).items()}


PLACES = [
    (150.0, 2.0, 0.0, (0.1, -0.1)),
    (0.0005, -30.0, 0.0, (0.12, 0.12)),  # 1.6 arcsec from RA 0: the light lies on both sides
    (359.9999, 5.0, 0.0, (-0.1, 0.1)),
    (30.0, 84.9, 0.0, (0.12, 0.1)),  # the tile's north is 1.3 degrees from the source's
    (200.0, 89.9, 0.0, (0.12, 0.0)),  # and here half a right angle
    (75.0, -62.0, 37.0, (0.05, 0.0)),
]
LIGHTS = [Planted(6.0, 30.0, 75.0), Planted(4.0, 200.0, 160.0), Planted(5.0, 305.0, 5.0)]


@pytest.mark.parametrize("general", [False, True], ids=["tan", "wcs"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]:g} {place[1]:g}")
@pytest.mark.parametrize("light", LIGHTS, ids=lambda light: f"pa{light.pa:g}")
def test_a_light_planted_on_the_sky_is_found_where_it_was_planted(
    place: tuple[float, float, float, tuple[float, float]], light: Planted, general: bool
) -> None:
    ra, dec, turn, away = place
    header = tile(ra, dec, turn, away)
    grid = linearised(header, (1, 1), (ra, dec), "tile") if general else Tan.of(header, "tile").grid_at(ra, dec)
    contract = ImageContract(size=SIZE)
    found = columns(linear(contract_image(drawn(header, ra, dec, light, grid), contract, FOV)))
    assert found["offset_arcsec"] == pytest.approx(light.separation, abs=0.01)
    assert abs((found["offset_pa"] - light.direction + 180) % 360 - 180) < 0.15
    assert found["peak_arcsec"] == pytest.approx(light.separation, abs=FOV / SIZE)
    assert abs((found["pa"] - light.pa + 90) % 180 - 90) < 0.15
    assert found["east_arcsec"] == pytest.approx(light.separation * np.sin(np.radians(light.direction)), abs=0.02)
    assert found["north_arcsec"] == pytest.approx(light.separation * np.cos(np.radians(light.direction)), abs=0.02)
    assert found["offset_radii"] == pytest.approx(found["offset_arcsec"] / 5)


def blob(east: float, north: float, sigma: float, side: int = 64) -> torch.Tensor:
    """A round Gaussian map of sigma arcsec in an image FOV wide, at arcsec of its centre."""
    offset = FOV * (0.5 - (torch.arange(side, dtype=torch.float64) + 0.5) / side)
    return torch.exp(-((offset[None, :] - east) ** 2 + (offset[:, None] - north) ** 2) / 2 / sigma**2)[None]


def test_a_size_is_in_arcsec_and_in_radii() -> None:
    found = columns(blob(3.0, -4.0, 2.5), radius=5.0)
    assert found["sigma_arcsec"] == pytest.approx(2.5, rel=1e-3)
    assert found["sigma_radii"] == pytest.approx(0.5, rel=1e-3)
    assert (found["east_arcsec"], found["north_arcsec"]) == pytest.approx((3.0, -4.0), abs=1e-3)
    assert found["offset_arcsec"] == pytest.approx(5.0, abs=1e-3)
    assert found["offset_pa"] == pytest.approx(143.130, abs=0.01)  # south-east: 180 - atan(3 / 4)
    assert found["offset_radii"] == pytest.approx(1.0, abs=1e-3)


def test_twice_the_field_is_twice_the_size_and_the_same_direction() -> None:
    once, twice = (columns(blob(3.0, 1.0, 2.0), fov) for fov in (FOV, 2 * FOV))
    for name in ("east_arcsec", "north_arcsec", "offset_arcsec", "peak_arcsec", "sigma_arcsec", "sigma_radii"):
        assert twice[name] == pytest.approx(2 * once[name])
    assert twice["offset_pa"] == once["offset_pa"]


def test_a_map_that_is_centred_and_round_has_no_direction() -> None:
    rounding = 1 + 1e-7 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found = columns((blob(0.0, 0.0, 2.0) * rounding).float())
    assert np.isnan([found["offset_pa"], found["pa"]]).all()
    assert found["offset_arcsec"] == pytest.approx(0, abs=1e-4)
    assert found["sigma_arcsec"] == pytest.approx(2.0, rel=1e-3)


def test_a_flat_map_is_nowhere() -> None:
    found = columns(torch.ones(1, 8, 8))
    sky = [name for name in found if name.endswith(("_arcsec", "_radii", "_pa"))]
    assert len(sky) == 8
    assert np.isnan([found[name] for name in sky]).all()


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan])
def test_a_source_without_a_radius_has_no_units_of_it(radius: float) -> None:
    found = columns(blob(3.0, 1.0, 2.0), radius=radius)
    assert np.isnan([found["offset_radii"], found["sigma_radii"]]).all()
    assert np.isfinite([found["offset_arcsec"], found["sigma_arcsec"]]).all()
