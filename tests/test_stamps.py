"""Single galaxies of the mock sky: where they stand, what covers them, and what a telescope does to them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data import ImageContract
from pipeline.mock import stamps as single
from pipeline.mock.sources import CLASSES
from pipeline.mock.stamps import TELESCOPES, Stamp, Telescope, stamps
from pipeline.training.localisation import unpacked_masks

SMALL = replace(ImageContract(), size=64)
QUIET = Telescope(TELESCOPES["decals"].seeing, dict.fromkeys("grz", 30.0))


def drawn(telescope: Telescope, jitter: float = 0.0, crowd: float = 0.0) -> list[Stamp]:
    return list(stamps(12, 3, telescope, SMALL, jitter, crowd))


@pytest.fixture(scope="module")
def jittered() -> list[Stamp]:
    return drawn(QUIET, jitter=0.2)


def test_every_class_is_dealt_equally() -> None:
    kinds = [stamp.galaxy.kind for stamp in drawn(QUIET)]
    assert sorted(kinds) == sorted([*CLASSES] * 2)


def test_a_galaxy_stands_where_its_offset_says(jittered: list[Stamp]) -> None:
    for stamp in jittered:
        light = stamp.image.astype(np.float64).sum(0)
        rows, columns = np.nonzero(light == light.max())
        x, y = (columns.mean() + 0.5) / 64, (rows.mean() + 0.5) / 64
        if stamp.galaxy.kind not in ("merger", "spiral"):  # whose brightest pixel may be a knot or a companion
            assert (x - 0.5, 0.5 - y) == pytest.approx(stamp.offset, abs=0.03)


def test_the_mask_covers_the_light_and_leaves_the_sky(jittered: list[Stamp]) -> None:
    for stamp in jittered:
        light = stamp.image.astype(np.float64).mean(0)
        assert light[stamp.mask].mean() > 2 * light[~stamp.mask].mean()
        assert 0.02 < stamp.mask.mean() < 0.9


def test_without_jitter_every_galaxy_stands_in_the_middle() -> None:
    assert {stamp.offset for stamp in drawn(QUIET)} == {(0.0, 0.0)}


def test_another_telescope_sees_the_same_galaxies_and_stars() -> None:
    names = ("decals", "sdss")
    first, second = (list(stamps(6, 3, TELESCOPES[name], SMALL, 0.2, 2.0)) for name in names)
    for one, other in zip(first, second, strict=True):
        assert (one.galaxy, one.offset) == (other.galaxy, other.offset)
        a, b = (
            stamp.image.astype(np.float64).mean(0).reshape(16, 4, 16, 4).mean((1, 3)).ravel() for stamp in (one, other)
        )
        assert np.corrcoef(a, b)[0, 1] > 0.95


def test_a_shallower_telescope_has_more_noise_and_worse_seeing_a_lower_peak() -> None:
    deep, shallow = (drawn(TELESCOPES[name]) for name in ("decals", "sdss"))
    for one, other in zip(deep, shallow, strict=True):
        sky = ~(one.mask | other.mask)
        assert other.image[:, sky].std() > 1.5 * one.image[:, sky].std()
    blurred = replace(QUIET, seeing=dict.fromkeys("grz", 4.0))
    sharp, soft = (
        next(s for s in drawn(t) if s.galaxy.kind == "cigar").image.astype(np.float64) for t in (QUIET, blurred)
    )
    assert soft.max() < sharp.max()


def test_stars_shine_outside_the_mask() -> None:
    alone, crowded = drawn(QUIET), drawn(QUIET, crowd=3.0)
    brighter = [
        np.sum(b.image[:, ~b.mask].astype(int) > a.image[:, ~a.mask].max() + 20)
        for a, b in zip(alone, crowded, strict=True)
    ]
    assert np.mean(np.array(brighter) > 0) > 0.5


def test_the_command_writes_every_galaxy_under_every_telescope(tmp_path: Path) -> None:
    path = tmp_path / "a new folder/stamps.parquet"
    single.main([str(path), "--count", "6", "--seed", "4", "--size", "32"])
    table = pq.read_table(path)
    assert table.num_rows == len(set(table["id"].to_pylist())) == 6 * len(TELESCOPES)
    assert sorted(set(table["telescope"].to_pylist())) == sorted(TELESCOPES)
    expected = next(stamps(6, 4, TELESCOPES["decals"], replace(SMALL, size=32), 0.35))
    image = np.asarray(Image.open(io.BytesIO(table["image"][0].as_py())))
    assert np.array_equal(image.transpose(2, 0, 1), expected.image)
    assert np.array_equal(unpacked_masks(table["mask"].to_pylist())[0].numpy(), expected.mask)
    assert table["label"][0].as_py() == expected.galaxy.kind
