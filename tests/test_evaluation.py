"""`pipeline evaluate` on images whose answers are known, from the recipe to the card."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.errors import JobError
from pipeline.evaluation.answers import answers
from pipeline.evaluation.comparison import compared, outsider, over_seeds, participant
from pipeline.evaluation.evaluate import Evaluation, Material, evaluate, finished, material
from pipeline.evaluation.fields import bright_radii
from pipeline.evaluation.judgement import Said, judge
from pipeline.evaluation.leak import LEAST, Side, leaks
from pipeline.evaluation.novelty import Strangeness, separations
from pipeline.evaluation.shipping import Stored, stored, write_finished
from pipeline.evaluation.writing import figures, worst_errors
from pipeline.models.checkpoint import CLASSES, Checkpoint, read_checkpoint
from pipeline.models.prior import Prior
from tests.evaluated import recipe


@pytest.fixture(scope="module")
def given(discs: Path) -> Material:
    return material(recipe(), discs)


def read(path: Path) -> Checkpoint:
    return read_checkpoint(path.read_bytes(), path.name)


@pytest.fixture(scope="module")
def checkpoint(discs_checkpoint: Path, given: Material) -> Checkpoint:
    return finished(read(discs_checkpoint), given)


@pytest.fixture(scope="module")
def evaluation(checkpoint: Checkpoint, given: Material) -> Evaluation:
    return evaluate(checkpoint, given)


def permuted(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with its answers moved on by one class: it knows everything and says all of it wrongly."""
    weights = dict(checkpoint.weights)
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].roll(1, 0)
    return replace(checkpoint, weights=weights)


def test_a_network_that_learned_its_classes_scores_one(evaluation: Evaluation, given: Material) -> None:
    assert given.headline == "survey"
    headline = evaluation.judgements[0]
    assert (headline.name, headline.headline.classes) == ("survey", ("smooth", "edge_on", "spiral", "merger"))
    assert headline.own.classes == CLASSES
    assert headline.headline.accuracy.value == headline.own.accuracy.value == 1
    assert headline.own.images == len(given.test[0].examples) == sum(map(sum, headline.own.confusion))


def test_a_permuted_network_scores_nothing(checkpoint: Checkpoint, given: Material) -> None:
    found = evaluate(permuted(checkpoint), given).judgements[0].own
    assert found.accuracy.value == 0
    assert all(found.confusion[k][(k + 1) % 6] == found.by_class[k].images for k in range(6))


def test_collections_stand_apart_and_no_image_is_on_two_sides(given: Material) -> None:
    assert [one.name for one in given.test] == ["survey", "extra"]
    sides = [{str(i) for one in sets for i in one.examples.ids} for sets in (given.train, given.validation, given.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 1000
    assert np.isfinite(given.test[0].axis_ratio).all()


def test_the_finished_checkpoint_says_what_it_was_calibrated_on(checkpoint: Checkpoint, given: Material) -> None:
    assert checkpoint.calibrated_on == f"coloured discs: {len(given.held_out.examples)} held-out images of survey"
    assert checkpoint.novelty is not None
    assert checkpoint.prior is not None
    labels = given.train[0].examples.labels
    np.testing.assert_allclose(checkpoint.prior.target, np.bincount(labels) / len(labels), atol=2e-3)


def test_the_prior_is_the_one_with_the_higher_f1_on_what_was_held_out(checkpoint: Checkpoint, given: Material) -> None:
    """A network that knows nothing answers with one class, which the shares choose: best is the commonest."""
    counts = np.bincount(given.train[0].examples.labels, minlength=6)
    commonest = int(np.bincount(given.held_out.examples.labels, minlength=6).argmax())
    weights = dict(checkpoint.weights)
    weights["classifier.weight"] = torch.zeros_like(weights["classifier.weight"])
    weights["classifier.bias"] = torch.zeros(6)
    even, uneven = (1 / 6,) * 6, tuple(0.95 if k == commonest else 0.01 for k in range(6))
    sample = finished(replace(checkpoint, weights=weights, prior=Prior(even, even)), given).prior
    assert sample is not None
    np.testing.assert_allclose(sample.target, counts / counts.sum(), atol=2e-3)
    weights["classifier.bias"] = torch.arange(6).eq(commonest).float()
    drawn = finished(replace(checkpoint, weights=weights, prior=Prior(uneven, even)), given).prior
    assert drawn == Prior(uneven, uneven)


def test_the_temperature_lowers_the_error_of_a_network_that_is_too_sure(
    discs_checkpoint: Path, given: Material
) -> None:
    """Half of the held-out labels are changed: whoever is sure is wrong half of the time."""
    half = np.random.default_rng(1)

    def doubtful(one: Any) -> Any:
        labels = one.examples.labels.copy()
        wrong = half.random(len(labels)) < 0.5
        labels[wrong] = half.integers(6, size=int(wrong.sum()))
        return replace(one, examples=replace(one.examples, labels=labels))

    noisy = replace(
        given, validation=tuple(map(doubtful, given.validation)), test=tuple(map(doubtful, given.test)), others=()
    )
    found = evaluate(finished(read(discs_checkpoint), noisy), noisy).judgements[0]
    assert found.temperature > 1.5
    assert found.before.ece.value > 0.3
    assert found.after.ece.value < 0.1


def test_novelty_is_fitted_to_galaxies_in_the_middle_where_they_are_served(
    discs_checkpoint: Path, given: Material
) -> None:
    """Training may move them far: an image is not ordinary because nothing is in its middle."""

    def scales(shift: float) -> list[float]:
        moved = replace(given.recipe, augmentation=replace(given.recipe.augmentation, shift=shift))
        novelty = finished(read(discs_checkpoint), replace(given, recipe=moved)).novelty
        assert novelty is not None
        return novelty.early_distance.scores.tolist()

    assert scales(0.3) == scales(0.02) != scales(0.0)


def test_a_checkpoint_is_halved_where_no_answer_changes_by_it(
    checkpoint: Checkpoint, given: Material, tmp_path: Path
) -> None:
    small, how = stored(checkpoint, given)
    assert how == Stored(half=0, images=sum(len(one.examples) for one in given.test), flips=0)
    sizes = []
    for half in (0, None):
        again = write_finished(tmp_path / "tiny.safetensors", small, {}, half=half)
        sizes.append((tmp_path / "tiny.safetensors").stat().st_size)
        assert all(torch.equal(value, again.weights[name]) for name, value in small.weights.items())
    assert sizes[0] < sizes[1]


def test_a_checkpoint_stays_whole_where_float16_changes_an_answer(checkpoint: Checkpoint, given: Material) -> None:
    """Two classes whose weights differ by less than float16 can say: which is larger is then another one."""
    weights = dict(checkpoint.weights)
    rows = weights["classifier.weight"][:1].repeat(6, 1)
    weights["classifier.weight"], weights["classifier.bias"] = rows, torch.arange(6) * 1e-5 + 100
    even = replace(checkpoint, weights=weights, prior=None)
    kept, how = stored(even, given)
    assert how.half is None
    assert how.flips == how.images
    assert kept is even


def test_what_is_written_into_a_checkpoint_is_what_was_judged(
    checkpoint: Checkpoint, evaluation: Evaluation, given: Material, tmp_path: Path
) -> None:
    target = tmp_path / "copy.safetensors"
    write_finished(target, checkpoint, figures(evaluation, given))
    again = read(target)
    assert (again.temperature, again.prior, again.calibrated_on) == (
        checkpoint.temperature,
        checkpoint.prior,
        checkpoint.calibrated_on,
    )
    assert again.novelty is not None
    assert again.metrics["test_survey_accuracy_4"] == 1
    assert again.metrics["validation_accuracy"] == 1
    np.testing.assert_array_equal(
        evaluate(again, given).said["survey"].calibrated, evaluation.said["survey"].calibrated
    )
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_a_network_is_compared_with_itself_and_with_one_that_is_always_wrong(
    checkpoint: Checkpoint, evaluation: Evaluation, given: Material
) -> None:
    good, wrong = participant(evaluation), participant(evaluate(permuted(checkpoint), given))
    rows = compared({"good": good, "same": good, "wrong": wrong}, given)
    one, _, bad = (row for row in rows if row.set == "survey")
    assert one.headline_less is None
    assert bad.own_less is not None
    assert bad.own_less["f1"].value == bad.own_less["f1"].low == 1
    assert len(rows) == 3 * len(evaluation.judgements)


def test_runs_that_differ_in_their_seed_are_summed_up(checkpoint: Checkpoint, given: Material) -> None:
    good, wrong = (participant(evaluate(one, given)) for one in (checkpoint, permuted(checkpoint)))
    rows = compared({"net_seed0": good, "net_seed1": wrong, "other": good}, given)
    (survey, extra) = over_seeds(rows)
    assert (survey.set, survey.name, survey.runs, extra.set) == ("survey", "net", 2, "extra")
    assert survey.own["accuracy"] == pytest.approx((0.5, 2**-0.5))


def test_answers_from_elsewhere_stand_beside_a_checkpoint(
    evaluation: Evaluation, given: Material, tmp_path: Path
) -> None:
    ids = np.concatenate([one.examples.ids for one in given.test])
    labels = np.concatenate([one.examples.labels for one in given.test])
    logits = 9.0 * np.eye(6)[(labels + 1) % 6]
    table = {"id": ids, **{name: logits[:, k] for k, name in enumerate(CLASSES)}}
    order = np.random.default_rng(0).permutation(len(ids))
    pq.write_table(pa.table(table).take(order), tmp_path / "answers.parquet")
    other = outsider(tmp_path / "answers.parquet", given)
    assert other.judgements["survey"].own.accuracy.value == 0
    row = compared({"net": participant(evaluation), "ann": other}, given)[1]
    assert (row.name, row.own_less and row.own_less["accuracy"].value) == ("ann", 1)
    pq.write_table(pa.table(table).slice(1), tmp_path / "fewer.parquet")
    with pytest.raises(JobError, match="no answer for 1 test images"):
        outsider(tmp_path / "fewer.parquet", given)


def test_a_part_of_the_test_images_is_judged_by_itself(checkpoint: Checkpoint, discs: Path, given: Material) -> None:
    parted = material(recipe(), discs, subsets=["class6=spiral", "axis_ratio=0.9"])
    names = {one.name: len(one.examples) for one in parted.others}
    assert names.keys() == {"survey, class6=spiral", "extra, class6=spiral", "survey, axis_ratio=0.9"}
    assert names["extra, class6=spiral"] == len(given.test[1].examples)
    with pytest.raises(JobError, match="has the column colour"):
        material(recipe(), discs, subsets=["colour=red"])


def test_a_checkpoint_of_other_classes_is_refused(checkpoint: Checkpoint, given: Material) -> None:
    with pytest.raises(JobError, match="the recipe has round"):
        evaluate(replace(checkpoint, classes=tuple(reversed(CLASSES))), given)


def test_answers_do_not_depend_on_what_stands_beside(checkpoint: Checkpoint, given: Material) -> None:
    examples = given.test[0].examples
    whole = answers(checkpoint, examples)
    part = answers(checkpoint, examples.take(np.arange(40, 45)))
    np.testing.assert_allclose(part.logits, whole.logits[40:45], atol=1e-5)
    np.testing.assert_allclose(part.novelty, whole.novelty[40:45], atol=1e-3)
    assert answers(checkpoint, examples.take(np.arange(0))).logits.shape == (0, 6)


def side(count: int, apart: float, seed: int) -> Side:
    rng = np.random.default_rng(seed)
    second = np.arange(count) % 2
    features = rng.normal(0, 1, (count, 12)).astype(np.float32)
    features[:, 3] += apart * second
    return Side(features, np.full(count, 4), np.where(second, "b", "a"))


def test_the_probe_finds_a_collection_that_shows_and_none_that_does_not() -> None:
    (shown,) = leaks(side(400, 3.0, 1), side(200, 3.0, 2), CLASSES)
    (hidden,) = leaks(side(400, 0.0, 1), side(200, 0.0, 2), CLASSES)
    assert (shown.name, shown.collections, shown.fitted, shown.tested) == ("spiral", ("a", "b"), (200, 200), (100, 100))
    assert shown.auroc.low > 0.95
    assert hidden.auroc.low < 0.5 < hidden.auroc.high
    assert leaks(side(2 * LEAST - 2, 3.0, 1), side(200, 3.0, 2), CLASSES) == []


def test_the_leak_of_a_frame_that_only_one_collection_has_is_found(evaluation: Evaluation) -> None:
    (leak,) = evaluation.leaks
    assert (leak.name, leak.collections) == ("spiral", ("extra", "survey"))
    assert leak.auroc.value > 0.9


def test_what_is_strange_is_told_by_its_scores_and_nan_is_left_out() -> None:
    plain_ones = Strangeness(np.linspace(0, 1, 100), np.linspace(0, 1, 100))
    stars = Strangeness(np.array([2.0, 3.0, math.nan]), np.array([0.5, 0.5, 0.5]))
    trails = Strangeness(np.array([-1.0]), np.array([2.0]))
    rows = {row.kind: row for row in separations({"star": stars, "trail": trails}, {"gz1": plain_ones})}
    assert (rows["star"].novelty.value, rows["trail"].novelty.value) == (1, 0)
    assert rows["all"].novelty.value == pytest.approx(2 / 3)
    assert rows["star"].doubt.value == pytest.approx(0.5)
    assert rows["all"].images == (4, 100)


def test_the_bright_part_of_a_disc_has_its_radius() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    image = np.where(np.hypot(x, y) < 16, 0.8, 0.1)
    assert bright_radii(torch.from_numpy(np.stack([image] * 3))[None]).item() == pytest.approx(0.25, abs=0.005)


def test_a_set_without_images_is_refused() -> None:
    nothing = Said(np.zeros((0, 6)), np.zeros((0, 6)), 1.0, 1.0)
    with pytest.raises(ValueError, match="at least 1 labelled image"):
        judge("empty", np.zeros(0, np.int64), CLASSES, nothing)


def test_the_worst_errors_come_first_with_what_they_are_and_were_said(checkpoint: Checkpoint, given: Material) -> None:
    wrong = evaluate(permuted(checkpoint), given)
    images, captions = worst_errors(wrong, given, "survey")
    assert len(images) == len(captions) == 24
    assert images.dtype == np.uint8
    examples, said = given.test[0].examples, wrong.said["survey"].calibrated
    worst = int(said[np.arange(len(said)), examples.labels].argmin())
    label = examples.labels[worst]
    names = ["round", "in-between", "cigar", "edge-on", "spiral", "merger"]
    assert captions[0].startswith(f"{names[label]} → {names[(label + 1) % 6]}, ")
