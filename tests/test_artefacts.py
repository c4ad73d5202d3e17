"""What is no galaxy looks like what it is called, and comes with galaxies drawn the same way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.data import ImageContract
from pipeline.mock import artefacts as drawn
from pipeline.mock.artefacts import GALAXY, KINDS, REAL, artefacts, real_stars

SMALL = replace(ImageContract(), size=64)
Grey = NDArray[np.float64]


@pytest.fixture(scope="module")
def images() -> dict[str, list[Grey]]:
    """(64, 64) mean of the planes, by kind."""
    found: dict[str, list[Grey]] = {kind: [] for kind in KINDS}
    for kind, image in artefacts(8, 3, SMALL):
        found[kind].append(image.astype(np.float64).mean(0))
    return found


def turned(image: Grey) -> float:
    """The correlation of an image with itself turned by a quarter."""
    return float(np.corrcoef(image.ravel(), np.rot90(image).ravel())[0, 1])


def ring(image: Grey, inner: float, outer: float) -> Grey:
    y, x = np.mgrid[:64, :64] - 31.5
    away = np.hypot(x, y)
    return image[(away >= inner) & (away < outer)]


def test_a_star_is_a_point_in_the_middle(images: dict[str, list[Grey]]) -> None:
    for image in images["star"]:
        assert ring(image, 0, 3).mean() > 2 * ring(image, 20, 32).mean()
        peak = np.unravel_index(image.argmax(), image.shape)
        assert np.hypot(peak[0] - 31.5, peak[1] - 31.5) < 4


def test_spikes_cross_and_trails_do_not(images: dict[str, list[Grey]]) -> None:
    assert max(turned(image) for image in images["trail"]) < 0.2
    assert np.median([turned(image) for image in images["spikes"]]) > 0.4


def test_a_trail_reaches_two_edges_in_one_band() -> None:
    for kind, image in artefacts(8, 3, SMALL):
        if kind == "trail":
            spread = image.reshape(3, -1).std(1)
            assert spread.max() > 1.5 * np.median(spread)
            edge = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1).max(0)
            assert edge.max() > image[:, ::3, ::3].mean() + 30


def test_empty_sky_is_dim_and_a_halo_is_broad(images: dict[str, list[Grey]]) -> None:
    assert max(np.median(image) for image in images["sky"]) < 60
    assert min(ring(image, 0, 32).mean() for image in images["halo"]) > np.mean([i.mean() for i in images["sky"]])


def test_a_real_star_keeps_its_shape_on_drawn_sky(tmp_path: Path) -> None:
    y, x = np.mgrid[:25, :24] - 12.0
    star = 500 * np.exp(-(x**2 + y**2) / 8).astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(star)]).writeto(tmp_path / "star.fits")
    found = list(real_stars(tmp_path, 3, 1, SMALL))
    assert [kind for kind, _ in found] == [REAL] * 3
    for _, image in found:
        grey = image.astype(np.float64).mean(0)
        assert ring(grey, 0, 3).mean() > 3 * ring(grey, 16, 32).mean()


def test_the_command_writes_every_kind_and_as_many_galaxies(tmp_path: Path) -> None:
    path = tmp_path / "a new folder/artefacts.parquet"
    drawn.main([str(path), "--count", "2", "--size", "32"])
    table = pq.read_table(path)
    assert Counter(table["kind"].to_pylist()) == dict.fromkeys([*KINDS, GALAXY], 2)
    assert len(set(table["id"].to_pylist())) == table.num_rows
    again = tmp_path / "again.parquet"
    drawn.main([str(again), "--count", "2", "--size", "32"])
    assert pq.read_table(again).equals(table)
