"""The sets that a network never saw, and the table of attention that is measured on them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.errors import JobError
from pipeline.evaluation.answers import planes
from pipeline.evaluation.evaluate import evaluate, material
from pipeline.evaluation.fields import field_shares
from pipeline.evaluation.focus import CONTROL_SEED, Scene, brightest, centred, controls, focus_row, measured, scene
from pipeline.evaluation.sets import artefact_sets, decals_set, drawn_sets
from pipeline.mock.artefacts import main as write_artefacts
from pipeline.mock.stamps import main as write_stamps
from pipeline.mock.stamps import stamp_table
from pipeline.models.checkpoint import CLASSES, Checkpoint, read_checkpoint
from pipeline.training.frames import half_light_radii
from pipeline.training.randomisation import randomised
from tests.evaluated import recipe

RULE = replace(recipe().data, radius_multiple=8.5)


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stamps") / "stamps.parquet"
    write_stamps([str(path), "--count", "12", "--size", "32", "--jitter", "0.25"])
    return path


@pytest.fixture(scope="module")
def checkpoint(discs_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(discs_checkpoint.read_bytes(), "tiny")


def decals_folder(root: Path, rows: list[tuple[str, str, float, float]]) -> Path:
    """A folder as gz_decals: file, class6, axis_ratio, radius_px."""
    folder = root / "gz_decals"
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class6", "axis_ratio", "radius_px", "group"])
        for name, label, ratio, radius in rows:
            writer.writerow([name, label, ratio, radius, f"group-{name}"])
            y, x = np.mgrid[:256, :256] - 127.5
            disc = np.where(np.hypot(x, y) < radius, 200, 20).astype(np.uint8)
            Image.fromarray(np.stack([disc] * 3, 2)).save(folder / "images" / name, "JPEG", quality=95)
    return root


def test_decals_images_are_framed_by_their_radius_and_those_without_a_class_left_out(tmp_path: Path) -> None:
    rows = [("a.jpg", "Round", 1.0, 20.0), ("b.jpg", "", 0.9, 20.0), ("c.jpg", "Edge-On", 1.0, 40.0)]
    found = decals_set(decals_folder(tmp_path, rows), RULE)
    assert found is not None
    assert [CLASSES[k] for k in found.examples.labels] == ["round", "edge_on"]
    radii = half_light_radii(np.array([20.0, 40.0]), np.ones(2))
    np.testing.assert_allclose(found.examples.frames, 8.5 * radii / 256, rtol=1e-6)
    shares = {row.name: row for row in field_shares([found], CLASSES, "reflection")}
    assert shares["round"].bright_radius == pytest.approx(20 / radii[0] / 8.5, rel=0.05)
    assert shares["round"].bright_radius == pytest.approx(shares["edge_on"].bright_radius, rel=0.05)
    assert shares["all"].half_light == pytest.approx(1 / 8.5)


def test_a_folder_without_decals_or_a_network_of_other_classes_has_no_such_set(tmp_path: Path) -> None:
    assert decals_set(tmp_path, RULE) is None
    folder = decals_folder(tmp_path, [("a.jpg", "Round", 1.0, 20.0)])
    assert decals_set(folder, replace(RULE, classes=("fri", "frii"))) is None
    (folder / "gz_decals" / "images" / "a.jpg").unlink()
    with pytest.raises(JobError, match=r"cannot read .*a\.jpg"):
        decals_set(folder, RULE)


def test_drawn_galaxies_come_a_telescope_at_a_time_with_their_masks(stamps: Path) -> None:
    found = drawn_sets(stamps, CLASSES, 3)
    assert [one.name for one in found] == ["drawn, decals", "drawn, sdss", "drawn, bass_mzls"]
    table = pq.read_table(stamps).slice(0, 12).to_pydict()
    assert [CLASSES[k] for k in found[0].examples.labels] == table["label"]
    assert found[0].masks == tuple(table["mask"])
    assert found[0].examples.images.shape == (12, 3, 32, 32)
    with Image.open(io.BytesIO(table["image"][5])) as image:
        np.testing.assert_array_equal(found[0].examples.images[5], np.asarray(image).transpose(2, 0, 1))


def test_a_file_that_was_written_by_something_else_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(JobError, match="lacks the columns label"):
        drawn_sets(tmp_path / "other.parquet", CLASSES, 3)
    with pytest.raises(JobError, match="lacks the columns kind"):
        artefact_sets(tmp_path / "other.parquet", 3)


def test_a_checkpoint_is_judged_on_all_that_is_given(
    discs: Path, stamps: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    write_artefacts([str(tmp_path / "art.parquet"), "--count", "4", "--size", "32"])
    given = material(recipe(), discs, stamps, tmp_path / "art.parquet")
    found = evaluate(checkpoint, given)
    assert [one.name for one in found.judgements][2:] == ["drawn, decals", "drawn, sdss", "drawn, bass_mzls"]
    kinds = {(row.kind, row.galaxies): row.images for row in found.separations}
    assert kinds["star", "drawn galaxies"] == (4, 4)
    assert kinds["all", "survey"] == (20, len(given.test[0].examples))
    assert ("galaxy", "survey") not in kinds


@pytest.fixture(scope="module")
def seen(stamps: Path, checkpoint: Checkpoint, discs: Path) -> Scene:
    real = material(recipe(), discs).test[0].examples
    return scene(drawn_sets(stamps, CLASSES, 3)[0], real, checkpoint.config.size, count=(12, 8))


def test_the_ways_that_need_no_network_point_where_they_say(seen: Scene, stamps: Path) -> None:
    spot = torch.zeros(2, 3, 24, 24)
    spot[0, :, 4, 17] = spot[1, :, 12, 12] = 1.0
    peaks = [divmod(int(one.argmax()), 24) for one in brightest(spot)]
    assert all(
        abs(row - y) <= 2 and abs(column - x) <= 2
        for (row, column), (y, x) in zip(peaks, [(4, 17), (12, 12)], strict=True)
    )
    assert centred(spot)[0, 11:13, 11:13].mean() == centred(spot).max()
    middle, bright = controls(seen)
    assert middle.name == "Gaussian in the centre"
    assert middle.rotation is None
    assert 0 < middle.hit.value < 1  # the galaxies stand aside
    assert bright.hit.value > 0.5


def test_a_network_is_measured_beside_its_control(seen: Scene, checkpoint: Checkpoint) -> None:
    row = focus_row("tiny", checkpoint, seen)
    module = checkpoint.build()
    own = measured(module, seen, checkpoint.image)
    control = measured(randomised(module, checkpoint.config.build, CONTROL_SEED).eval(), seen, checkpoint.image)
    assert row.hit.value == pytest.approx(own.hit.mean())
    assert row.margin is not None
    assert row.margin.value == pytest.approx((own.insertion - own.deletion).mean())
    assert row.control_gain is not None
    assert row.control_gain.value == pytest.approx(control.gain.mean())
    assert row.over_centre is not None
    assert row.over_centre.value == pytest.approx(row.hit.value - controls(seen)[0].hit.value)
    assert row.likeness is not None
    assert row.likeness.value < 0.95


def test_masks_are_needed_where_place_is_measured(discs: Path) -> None:
    plain = material(recipe(), discs).test[0]
    with pytest.raises(ValueError, match="a mask an image"):
        scene(plain, plain.examples, 24)


def test_images_that_are_framed_already_are_not_framed_again(stamps: Path) -> None:
    drawn = drawn_sets(stamps, CLASSES, 3)[0].examples
    shown = planes(drawn, slice(0, 2), 32)
    np.testing.assert_allclose(shown.numpy() * 255, drawn.images[:2], atol=1e-3)


def test_stamps_without_jitter_put_every_galaxy_in_the_middle() -> None:
    from pipeline.data import ImageContract

    table = stamp_table(6, 1, replace(ImageContract(), size=32))
    assert set(table["offset_west"].to_pylist()) == {0.0}
