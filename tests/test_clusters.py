"""Simulated clusters are what they are said to be."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.training import clusters as simulated
from pipeline.training.clusters import CLASSES, IMAGE, WIDTH, Cluster, clusters, counts, kiloparsecs, picture

SIDE = 256


def measured(image: NDArray[np.floating[Any]], radius: float, cluster: Cluster) -> float:
    """Counts within a circle, kpc."""
    axis = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * WIDTH
    away = np.hypot(axis[None, :] - cluster.offset[0], axis[:, None] - cluster.offset[1])
    return float(image[away < radius].sum())


def bright(kind: str) -> Cluster:
    """A round cluster of a class with so many counts that noise hardly shows."""
    found = next(one for one in clusters(30, 3) if one.kind == kind)
    return replace(found, rate=2000.0, axis_ratio=1.0)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_drawn_image_has_the_concentration_and_the_counts_of_its_cluster(kind: str) -> None:
    cluster = bright(kind)
    scale = WIDTH / SIDE / kiloparsecs(cluster.redshift)
    image = counts(cluster, SIDE) - simulated.BACKGROUND * simulated.EXPOSURE * scale**2
    inner, outer = measured(image, 40, cluster), measured(image, 400, cluster)
    assert inner / outer == pytest.approx(cluster.concentration, rel=0.05)
    assert outer == pytest.approx(cluster.rate * simulated.EXPOSURE, rel=0.01)


def test_the_classes_lie_in_their_order_on_the_published_cuts() -> None:
    found = {kind: [one.concentration for one in clusters(300, 1) if one.kind == kind] for kind in CLASSES}
    assert [len(values) for values in found.values()] == [100, 100, 100]
    assert max(found["none"]) < 0.075 < min(found["weak"]) < max(found["weak"]) < 0.155 < min(found["cool_core"])
    excess = {one.kind: one.excess for one in reversed(clusters(3, 1))}
    assert excess["none"] == 0 < excess["weak"]


def test_no_cluster_has_a_hole_in_its_centre() -> None:
    assert min(one.excess for one in clusters(600, 2)) >= 0


def test_the_noise_is_that_of_counts() -> None:
    cluster = clusters(1, 4)[0]
    drawn = np.stack([counts(replace(cluster, seed=seed), 32) for seed in range(60)])
    ratio = drawn.var(0, ddof=1).mean() / drawn.mean()
    assert ratio == pytest.approx(1, abs=0.05)


def test_an_arcsec_at_redshift_a_tenth_is_1_84_kiloparsecs() -> None:
    assert kiloparsecs(0.1) == pytest.approx(1.844, abs=0.002)  # Wright 2006, PASP 118, 1711, with H0 = 70


def test_the_same_seed_gives_the_same_images_and_another_does_not() -> None:
    first, again, other = (clusters(2, seed)[1] for seed in (5, 5, 6))
    assert np.array_equal(picture(first), picture(again))
    assert not np.array_equal(picture(first), picture(other))


def test_the_command_writes_images_that_say_they_are_simulated(tmp_path: Path) -> None:
    path = tmp_path / "a new folder/clusters.parquet"
    simulated.main([str(path), "--count", "7", "--seed", "2"])
    table = pq.read_table(path)
    assert table.num_rows == len(set(table["id"].to_pylist())) == 7
    assert table["label"].to_pylist() == [CLASSES[i % 3] for i in range(7)]
    assert b"simulated" in table.schema.metadata
    image = np.asarray(Image.open(io.BytesIO(table["image"][3].as_py())))
    assert np.array_equal(image, picture(clusters(7, 2)[3])[0])
    assert image.shape == (IMAGE.size, IMAGE.size)
    assert image.max() > 40
