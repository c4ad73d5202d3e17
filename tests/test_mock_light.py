"""The light of the mock sky: one sky in every brick, noise and seeing of the survey, and a truth that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.mock.images import SKY_RESIDUAL
from pipeline.mock.sources import CLASSES
from tests.mock_reading import FIRST, PIXEL, around, bricks, image, sweeps, truth


def lonely(root: Path, room: float, *kinds: str) -> list[dict[str, Any]]:
    """Galaxies of these classes with no other source within `room` radii, away from the empty corner."""
    table, found = sweeps(root), []
    for galaxy in truth(root):
        east = (table["RA"] - galaxy["ra"]) * np.cos(np.radians(galaxy["dec"]))
        apart = np.sort(np.hypot(east, table["DEC"] - galaxy["dec"]) * 3600)
        alone = apart[1] > room * galaxy["radius"] and (around(root, galaxy, 8 * galaxy["radius"])[0] > -5e-4).all()
        if galaxy["class"] in kinds and alone:
            found.append(galaxy)
    return found


def test_the_noise_leaves_the_planned_depth_for_point_sources(mock_tree: Path, noiseless_tree: Path) -> None:
    noise = {}
    for band, depth, seeing in (("g", 24.7, 1.29), ("r", 23.9, 1.18), ("z", 23.0, 1.11)):
        difference = image(mock_tree, FIRST, band)[0] - image(noiseless_tree, FIRST, band)[0]
        noise[band] = difference[difference != 0]
        y, x = np.mgrid[-20:21, -20:21]
        star = np.exp(-(x**2 + y**2) / 2 / (seeing / 2.3548 / PIXEL) ** 2)
        error = np.std(noise[band]) / np.sqrt(np.sum((star / star.sum()) ** 2))  # of a matched filter
        assert 22.5 - 2.5 * np.log10(5 * error) == pytest.approx(depth, abs=0.03)
    assert abs(np.corrcoef(noise["g"], noise["r"])[0, 1]) < 0.02


def test_stars_are_as_wide_as_the_seeing_of_each_band(noiseless_tree: Path) -> None:
    table = sweeps(noiseless_tree)
    apart = np.hypot(table["RA"][:, None] - table["RA"], table["DEC"][:, None] - table["DEC"]) * 3600
    alone = np.sort(apart, axis=1)[:, 1] > 10
    stars = table[alone & (table["TYPE"] == "PSF") & (table["FLUX_R"] > 50) & (table["NOBS_Z"] > 0)]
    assert len(stars) >= 2
    for band, seeing in (("g", 1.29), ("r", 1.18), ("z", 1.11)):
        for star in stars:
            flux, wcs = image(noiseless_tree, str(star["BRICKNAME"]), band)
            x, y = wcs.all_world2pix(star["RA"], star["DEC"], 0)
            yy, xx = np.indices(flux.shape)
            near = np.hypot(xx - x, yy - y) * PIXEL < seeing
            within = flux[near].mean() * np.pi * (seeing / PIXEL) ** 2 / star[f"FLUX_{band.upper()}"]
            # The share of a Moffat profile of exponent 3 within its full width at half maximum.
            assert within == pytest.approx(1 - (1 + 4 * (2 ** (1 / 3) - 1)) ** -2, rel=0.05), band


def test_an_overlap_shows_the_same_source_in_both_bricks(noiseless_tree: Path) -> None:
    compared = 0
    for galaxy in truth(noiseless_tree):
        measured = []
        for row in bricks(noiseless_tree):
            flux, wcs = image(noiseless_tree, str(row["brickname"]))
            x, y = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
            reach = 16  # pixels
            if not (reach < x < 499 - reach and reach < y < 499 - reach):
                continue
            yy, xx = np.indices(flux.shape)
            weighted = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 4.0**2)) * flux
            total = weighted.sum()
            measured.append((total, np.sum(weighted * (xx - x)) / total, np.sum(weighted * (yy - y)) / total))
        for other in measured[1:]:
            assert other[0] == pytest.approx(measured[0][0], rel=1e-3)
            assert other[1:] == pytest.approx(measured[0][1:], abs=0.01)  # pixels
            compared += 1
    assert compared >= 5


def test_a_smooth_galaxy_stands_at_its_position_with_half_of_its_light_within_its_radius(noiseless_tree: Path) -> None:
    galaxies = [g for g in lonely(noiseless_tree, 4.0, "round", "in_between", "cigar") if g["radius"] > 2.5]
    assert len(galaxies) >= 3
    for galaxy in galaxies:
        flux, east, north = around(noiseless_tree, galaxy, 7 * galaxy["radius"])
        angle = np.radians(galaxy["position_angle"])
        along, across = (east * np.sin(angle) + north * np.cos(angle), east * np.cos(angle) - north * np.sin(angle))
        inside = np.hypot(along, across / galaxy["axis_ratio"]) < galaxy["radius"]
        total = 10 ** (0.4 * (22.5 - galaxy["mag_r"]))
        assert flux[inside].sum() / total == pytest.approx(0.5, abs=0.12)
        centre = np.average(np.stack([east, north])[:, inside], axis=1, weights=flux[inside])
        assert np.abs(centre).max() < 0.05  # arcsec


def test_flat_galaxies_lie_along_their_position_angle(noiseless_tree: Path) -> None:
    galaxies = lonely(noiseless_tree, 4.0, "cigar", "edge_on")
    assert len(galaxies) >= 3
    for galaxy in galaxies:
        flux, east, north = around(noiseless_tree, galaxy, 4 * galaxy["radius"])
        moments = [np.sum(flux * a * b) for a, b in ((east, east), (north, north), (east, north))]
        angle = np.degrees(np.arctan2(2 * moments[2], moments[1] - moments[0])) / 2
        assert (angle - galaxy["position_angle"] + 90) % 180 == pytest.approx(90, abs=4)


def test_the_mask_of_a_galaxy_is_its_isophote_north_up_east_left(noiseless_tree: Path) -> None:
    galaxies = lonely(noiseless_tree, 3.0, *CLASSES)
    assert {g["class"] for g in galaxies} >= {"merger", "spiral", "edge_on"}
    for galaxy in galaxies:
        mask = np.unpackbits(np.frombuffer(galaxy["mask"], np.uint8)).reshape(64, 64).astype(bool)
        scale = galaxy["mask_width"] / 64
        flux, wcs = image(noiseless_tree, galaxy["brick"])
        x0, y0 = wcs.all_world2pix(galaxy["ra"], galaxy["dec"], 0)
        row, column = np.indices(mask.shape)
        x = np.round(x0 + (column - 31.5) * scale / PIXEL).astype(int)
        y = np.round(y0 + (31.5 - row) * scale / PIXEL).astype(int)
        near = np.hypot(row - 31.5, column - 31.5) * scale < 2.2 * galaxy["radius"]
        on = near & (x >= 0) & (x < 500) & (y >= 0) & (y < 500)
        bright = flux[y[on], x[on]] - SKY_RESIDUAL > 10 ** (0.4 * (22.5 - 25.0)) * PIXEL**2
        assert mask.any()
        assert np.mean(bright == mask[on]) > 0.9, galaxy["class"]
