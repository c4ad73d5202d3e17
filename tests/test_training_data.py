"""Labelled images, their frames and their sides: a galaxy is on one side, whatever else is in the files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.errors import JobError
from pipeline.training.duplicates import same_galaxies
from pipeline.training.examples import Examples, decode, read_examples
from pipeline.training.fitting import prepare
from pipeline.training.frames import AREA_RADIUS, FLATTENING, LARGEST, SMALLEST, frame_fractions, half_light_radii
from pipeline.training.recipe import Split, read_recipe
from pipeline.training.split import joined, split_groups
from tests.training_sets import SIDE, picture, recipe, write_set

SHARED = Path(os.environ.get("GALAXY_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED}")
JOBS = Path(__file__).parent.parent / "jobs/training"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "set").parent


@pytest.fixture(scope="module")
def examples(root: Path) -> Examples:
    return read_examples(recipe().data, root, 3, {"batch": "judged"})


def test_rows_of_other_labels_are_left_out_and_the_rest_keeps_its_order(examples: Examples) -> None:
    wanted = [i for i in range(60) if i % 5 != 4]
    assert examples.ids.tolist() == [f"g{i}" for i in wanted]
    assert examples.labels.tolist() == [i % 2 for i in wanted]
    assert examples.groups.tolist() == [f"s{i // 2}" for i in wanted]
    assert examples.fixed_test.tolist() == [i % 10 == 0 for i in wanted]
    assert examples.images.shape == (48, 3, SIDE, SIDE)
    np.testing.assert_array_equal(examples.images[1], decode(picture("bar", 1), 3, SIDE, "g1"))


def test_an_image_is_cut_or_padded_about_its_middle() -> None:
    whole = decode(picture("disc", 3, side=20), 3, 20, "x")
    np.testing.assert_array_equal(decode(picture("disc", 3, side=20), 3, 12, "x"), whole[:, 4:16, 4:16])
    wide = decode(picture("disc", 3, side=20), 3, 26, "x")
    np.testing.assert_array_equal(wide[:, 3:23, 3:23], whole)
    assert wide.sum() == whole.sum()
    assert decode(picture("disc", 3), 1, SIDE, "x").shape == (1, SIDE, SIDE)


def test_outside_the_circle_it_can_be_black(root: Path, examples: Examples) -> None:
    round_ = read_examples(recipe(data={"circle": True}).data, root, 3, {})
    assert round_.images[:, :, 0, 0].max() == round_.images[:, :, 2, 3].max() == 0
    assert examples.images[:, :, 2, 3].max() > 0
    np.testing.assert_array_equal(round_.images[:, :, 12], examples.images[:, :, 12])


def test_what_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="galaxy 7: the image cannot be decoded"):
        decode(b"no image", 3, SIDE, "galaxy 7")
    with pytest.raises(JobError, match="lacks the columns nothing"):
        read_examples(recipe(data={"columns": {"label": "label", "group": "nothing"}}).data, root, 3, {})
    with pytest.raises(JobError, match="no Parquet file at"):
        read_examples(recipe(data={"images": ["absent"]}).data, root, 3, {})
    with pytest.raises(JobError, match="no row of set has one of the labels"):
        read_examples(recipe(data={"labels": {"ring": "disc"}}).data, root, 3, {})


def test_the_frame_is_the_served_multiple_of_the_half_light_radius(root: Path) -> None:
    columns = {"label": "label", "radius": "radius", "axis_ratio": "ratio", "width": "width"}
    got = read_examples(recipe(data={"columns": columns, "radius_multiple": 4.0, "shows": 0.5}).data, root, 3, {})
    half_light = (5.0 + np.array([int(name[1:]) % 3 for name in got.ids])) / AREA_RADIUS
    np.testing.assert_allclose(got.half_light, half_light / (SIDE * 0.5), rtol=1e-6)
    np.testing.assert_allclose(got.frames, 4.0 * half_light / (SIDE * 0.5), rtol=1e-6)


def test_a_flat_galaxy_has_the_larger_half_light_radius_of_two_with_one_area() -> None:
    round_, flat, broken = half_light_radii(np.full(3, 10.0), np.array([1.0, 0.25, 0.0]))
    assert round_ == 10.0 / AREA_RADIUS
    assert flat == pytest.approx(round_ * 4**FLATTENING)
    assert np.isfinite(broken)


def test_a_missing_radius_counts_as_the_median_and_a_wild_one_is_limited() -> None:
    data = recipe(data={"radius_multiple": 2.0}).data
    got = frame_fractions(np.array([10.0, np.nan, 20.0, 30.0, 1e6, 1e-3]), np.full(6, 100.0), data)
    np.testing.assert_allclose(got, [0.25, 0.5, 0.4, 0.6, LARGEST, SMALLEST], atol=0.1)
    assert got[1] == np.float32(2.0 * 0.2)


def test_a_side_depends_on_the_group_alone(examples: Examples) -> None:
    rule = Split(test=0.3, validation=0.2)
    sides = split_groups(examples, rule)
    every = np.concatenate([sides.train, sides.validation, sides.test])
    assert sorted(every.tolist()) == list(range(len(examples)))
    names = [set(examples.groups[rows]) for rows in (sides.train, sides.validation, sides.test)]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert min(map(len, names)) > 0
    order = np.random.default_rng(0).permutation(len(examples))[:30]
    fewer = examples.take(order)
    test = set(examples.ids[sides.test].tolist())
    assert set(fewer.ids[split_groups(fewer, rule).test].tolist()) == test & set(fewer.ids.tolist())
    assert set(examples.ids[split_groups(examples, replace(rule, salt="other")).test].tolist()) != test


def test_named_rows_are_the_test_and_their_neighbours_are_left_out(examples: Examples) -> None:
    sides = split_groups(examples, Split(validation=0.3, test_where={"batch": "judged"}))
    assert examples.ids[sides.test].tolist() == [f"g{i}" for i in range(0, 60, 10)]
    near = set(examples.groups[sides.test].tolist())
    kept = np.concatenate([sides.train, sides.validation])
    assert not near & set(examples.groups[kept].tolist())
    assert len(kept) == sum(group not in near for group in examples.groups)


def test_groups_that_pairs_tie_together_go_one_way(examples: Examples) -> None:
    chain = [(0, 7), (7, 20), (40, 41)]
    groups = joined(examples.groups, chain)
    assert len({groups[0], groups[7], groups[20]}) == 1
    assert groups[40] == groups[41] != groups[0]
    pairs = [(i, i + 1) for i in range(len(examples) - 1)]
    sides = split_groups(examples, Split(test=0.5, validation=0.0), pairs)
    assert len(sides.test) in (0, len(examples))


def _two_surveys(turned: bool) -> Examples:
    """Eight skies of a disc and its neighbours; the second survey shows the first four again, 1.1 times as wide."""
    draw = np.random.default_rng(5)
    sky = draw.uniform(0, 255, (12, 1, 16, 16)).astype(np.float32)
    wide = torch.nn.functional.interpolate(torch.from_numpy(sky), (64, 64), mode="bicubic").clamp(0, 255)
    again = torch.nn.functional.interpolate(wide[:4, :, 3:61, 3:61], (64, 64), mode="bilinear")
    images = torch.cat([wide[:8], again.flip(3) if turned else again, wide[8:]])
    count = len(images)
    return Examples(
        images=images.byte().expand(-1, 3, -1, -1).numpy().copy(),
        labels=np.zeros(count, np.int64),
        ids=np.array([str(i) for i in range(count)]),
        groups=np.array([str(i) for i in range(count)]),
        collections=np.array(["a"] * 8 + ["b"] * 8),
        frames=np.full(count, 0.8, np.float32),
        half_light=np.full(count, 0.1, np.float32),
        fixed_test=np.zeros(count, np.bool_),
    )


def test_one_galaxy_under_two_ids_is_found_though_its_frame_differs() -> None:
    assert same_galaxies(_two_surveys(turned=False)) == [(0, 8), (1, 9), (2, 10), (3, 11)]
    assert same_galaxies(_two_surveys(turned=True)) == []


@needs_shared
def test_the_real_galaxies_fall_on_their_sides() -> None:
    prepared = prepare(read_recipe(JOBS / "tang.yaml"), SHARED)
    examples, sides = prepared.examples, prepared.sides
    assert len(examples) == 6469
    assert prepared.duplicates >= 4
    assert len(sides.test) / len(examples) == pytest.approx(0.2, abs=0.02)
    assert set(examples.labels[sides.test].tolist()) == set(range(6))
    shown = examples.half_light / examples.frames  # of the frame's width
    assert np.median(shown) == pytest.approx(1 / 8.5, rel=0.01)
    assert np.mean(np.abs(shown * 8.5 - 1) > 0.1) < 0.03


@needs_shared
def test_no_radio_source_is_near_one_that_tests() -> None:
    prepared = prepare(read_recipe(JOBS / "radio_tang.yaml"), SHARED)
    examples, sides = prepared.examples, prepared.sides
    published = pq.read_table(SHARED / "first/mirabest.parquet", columns=["id", "label", "mirabest_batch"]).to_pylist()
    wanted = {r["id"] for r in published if r["mirabest_batch"] == "test_batch" and r["label"] in ("FRI", "FRII")}
    assert set(examples.ids[sides.test].tolist()) == wanted
    kept = np.concatenate([sides.train, sides.validation])
    assert not set(examples.groups[kept].tolist()) & set(examples.groups[sides.test].tolist())
    assert examples.images.shape[1:] == (1, 150, 150)


def test_a_null_label_is_left_out(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "label": ["disc", None], "image": [picture("disc", 1)] * 2})
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set/part.parquet")
    got = read_examples(recipe(data={"columns": {"label": "label"}}).data, tmp_path, 3, {})
    assert got.ids.tolist() == ["a"]
