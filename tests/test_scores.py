"""Scores, intervals and calibration against answers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.evaluation import calibration, intervals, scores
from pipeline.evaluation.intervals import Estimate

SIX = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")


def labels_of(count: int, classes: int = 6, seed: int = 0) -> scores.Labels:
    return np.random.default_rng(seed).integers(classes, size=count)


def test_a_perfect_classifier_scores_one_in_everything() -> None:
    labels = labels_of(300)
    found = scores.estimates(scores.confusion(labels, labels, 6))
    assert set(found) == set(scores.MEASURES)
    assert all(estimate == Estimate(1.0, 1.0, 1.0) for estimate in found.values())


def test_a_permuted_classifier_scores_nothing_and_its_matrix_says_which_way() -> None:
    labels = labels_of(300)
    matrix = scores.confusion(labels, (labels + 1) % 6, 6)
    assert all(estimate.high == 0 for estimate in scores.estimates(matrix).values())
    assert np.array_equal(np.roll(np.diag(np.bincount(labels, minlength=6)), 1, axis=1), matrix)


def test_the_measures_of_a_matrix_worked_by_hand() -> None:
    matrix = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])  # no image of the third class, and none said to be
    found = scores.measures(matrix)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {
            "accuracy": 12 / 15,
            "precision": (8 / 9 + 4 / 6) / 2,
            "recall": (8 / 10 + 4 / 5) / 2,
            "f1": (16 / 19 + 8 / 11) / 2,
        }
    )


def test_the_bootstrap_of_cells_is_the_bootstrap_of_images() -> None:
    labels, rng = labels_of(200, 3), np.random.default_rng(5)
    predicted = np.where(rng.random(200) < 0.8, labels, rng.integers(3, size=200))
    found = scores.estimates(scores.confusion(labels, predicted, 3))
    rows = rng.integers(200, size=(2000, 200))  # the plain bootstrap, image by image
    drawn = [scores.measures(scores.confusion(labels[r], predicted[r], 3)) for r in rows]
    for name in scores.MEASURES:
        low, high = np.quantile([d[name] for d in drawn], [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.012)


def test_the_paired_bootstrap_is_narrower_than_two_that_do_not_know_of_each_other() -> None:
    labels, rng = labels_of(400), np.random.default_rng(1)
    second = np.where(rng.random(400) < 0.7, labels, (labels + 1) % 6)
    first = np.where(rng.random(400) < 0.1, labels, second)  # a little better, and wrong on the same images
    paired = scores.differences(labels, first, second, 6)["accuracy"]
    alone = scores.estimates(scores.confusion(labels, first, 6))["accuracy"]
    assert paired.value == pytest.approx((first == labels).mean() - (second == labels).mean())
    assert 0 < paired.low < paired.value < paired.high
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    backwards = scores.differences(labels, second, first, 6)["accuracy"]
    assert backwards.value == -paired.value
    assert (backwards.low, backwards.high) == pytest.approx((-paired.high, -paired.low), abs=0.006)


def test_a_network_does_not_differ_from_itself() -> None:
    labels = labels_of(100)
    assert set(scores.differences(labels, labels, labels, 6).values()) == {Estimate(0.0, 0.0, 0.0)}


def test_the_scores_of_a_class_carry_wilsons_intervals() -> None:
    matrix = np.array([[9, 1], [3, 7]])
    first, second = scores.class_scores(matrix, ("fri", "frii"))
    assert (first.name, first.images, first.predicted, second.images, second.predicted) == ("fri", 10, 12, 10, 8)
    assert first.recall == intervals.wilson(9, 10)
    assert first.precision == intervals.wilson(9, 12)
    assert first.f1 == pytest.approx(18 / 22)


def test_smooth_galaxies_are_one_class_of_four() -> None:
    probabilities = np.array([[0.2, 0.2, 0.2, 0.3, 0.1, 0.0]])
    four = scores.merged(probabilities, SIX, scores.FOUR)
    np.testing.assert_allclose(four, [[0.6, 0.3, 0.1, 0.0]])
    assert scores.merged_labels(np.array([0, 1, 2, 3, 4, 5, -1]), SIX, scores.FOUR).tolist() == [0, 0, 0, 1, 2, 3, -1]


def test_an_axis_ratio_is_misplaced_by_its_distance_to_the_range_of_the_class() -> None:
    bounds = [(0.8, 1.0), (0.52, 0.8), (0.0, 0.52)]
    found = scores.misplacement(np.array([0, 1, 1, 2, 0]), np.array([0.9, 0.85, 0.5, 0.6, 0.7]), bounds)
    np.testing.assert_allclose(found, [0, 0.05, 0.02, 0.08, 0.1])


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(right: int, total: int, low: float, high: float) -> None:
    found = intervals.wilson(right, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_interval_never_leaves_zero_to_one_or_its_figure() -> None:
    for right, total in [(0, 1), (1, 1), (7, 7), (0, 1000), (1000, 1000)]:
        found = intervals.wilson(right, total)
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert math.isnan(intervals.wilson(0, 0).value)


def test_the_area_under_the_roc_curve_counts_pairs_in_order() -> None:
    assert intervals.auroc([3, 2], [1, 2]).value == (1 + 1 + 1 + 0.5) / 4
    apart = intervals.auroc(np.arange(50) + 100, np.arange(80))
    assert apart.value == apart.high == 1
    assert apart.low == pytest.approx(0.025 ** (1 / 50))
    backwards = intervals.auroc(np.arange(80), np.arange(50) + 100)
    assert backwards.value == 0
    assert backwards.high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert math.isnan(intervals.auroc([], [1.0]).value)


def test_delongs_interval_holds_the_true_area_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(2)
    true = 0.5 * math.erfc(-1 / 2)  # of two normal scores one sigma apart: Phi(1 / sqrt 2)
    found = [intervals.auroc(rng.normal(1, 1, 60), rng.normal(0, 1, 60)) for _ in range(400)]
    inside = np.mean([estimate.low <= true <= estimate.high for estimate in found])
    assert 0.92 < inside < 0.98


def test_the_mean_leaves_out_what_is_not_known() -> None:
    found = intervals.mean([1.0, 3.0, math.nan])
    assert found.value == 2
    assert (found.low, found.high) == (1, 3)
    assert math.isnan(intervals.mean([math.nan]).value)


def planted(count: int, confidence: float, accuracy: float) -> tuple[intervals.Floats, calibration.Labels]:
    """Answers of one confidence, of which a share is right."""
    labels = np.zeros(count, np.int64)
    labels[round(accuracy * count) :] = 1
    return np.tile([confidence, 1 - confidence], (count, 1)), labels


def test_a_known_calibration_error_is_found() -> None:
    probabilities, labels = planted(1000, 0.9, 0.7)
    found = calibration.calibration(probabilities, labels)
    assert found.ece.value == pytest.approx(0.2)
    assert found.ece.low < 0.2 < found.ece.high
    assert found.brier.value == pytest.approx(0.7 * 2 * 0.1**2 + 0.3 * 2 * 0.9**2)
    assert found.nll.value == pytest.approx(-0.7 * math.log(0.9) - 0.3 * math.log(0.1))
    (full,) = (one for one in found.bins if one.images)
    assert full.images == 1000
    assert (full.confidence, full.accuracy.value) == pytest.approx((0.9, 0.7))
    assert full.low < 0.9 <= full.high


def test_the_calibration_error_by_chance_is_that_of_answers_that_are_right_as_often_as_confident() -> None:
    found = calibration.calibration(*planted(1000, 0.9, 0.7)).ece_by_chance
    deviation = math.sqrt(0.9 * 0.1 / 1000)
    assert found.value == pytest.approx(math.sqrt(2 / math.pi) * deviation, rel=0.05)  # of one full bin
    assert found.low < 0.1 * deviation
    assert found.high == pytest.approx(2.24 * deviation, rel=0.1)  # 97.5 % of a half-normal distribution
    rng = np.random.default_rng(9)
    probabilities = calibration.softmax(rng.normal(0, 2, (200, 5)))
    labels = [(rng.random((200, 1)) > probabilities.cumsum(1)).sum(1) for _ in range(40)]
    errors = [calibration.calibration(probabilities, drawn) for drawn in labels]
    assert errors[0].ece_by_chance.value == pytest.approx(np.mean([one.ece.value for one in errors]), rel=0.1)


def test_the_interval_of_a_small_error_holds_the_error() -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 2, (300, 5))
    probabilities = calibration.softmax(logits)
    labels = (rng.random((300, 1)) > probabilities.cumsum(1)).sum(1)
    found = calibration.calibration(probabilities, labels).ece
    assert 0 <= found.low < found.value < found.high < 0.15


def test_a_confidence_on_the_edge_of_two_bins_belongs_to_the_lower() -> None:
    found = calibration.calibration(*planted(10, 9 / 15, 0.6))
    (full,) = (one for one in found.bins if one.images)
    assert (full.low, full.high) == (8 / 15, 9 / 15)


def test_bins_that_miss_on_both_sides_do_not_cancel() -> None:
    (high, right), (low, wrong) = planted(100, 0.9, 1.0), planted(100, 0.6, 0.5)
    found = calibration.calibration(np.concatenate([high, low]), np.concatenate([right, wrong]))
    assert found.ece.value == pytest.approx((0.1 + 0.1) / 2)


def test_the_temperature_undoes_the_scale_of_logits() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (2500, 5))
    labels = (rng.random((2500, 1)) > calibration.softmax(logits).cumsum(1)).sum(1)
    for scale in (0.5, 1.0, 3.0):
        assert calibration.fit_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.08)
    before = calibration.calibration(calibration.softmax(3 * logits), labels)
    after = calibration.calibration(calibration.softmax(logits), labels)
    assert after.ece.value < 0.03 < 0.1 < before.ece.value


def test_logits_that_are_never_wrong_take_the_lowest_temperature() -> None:
    labels = labels_of(50)
    assert calibration.fit_temperature(np.eye(6)[labels], labels) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="at least 1 image"):
        calibration.fit_temperature(np.empty((0, 6)), np.empty(0, np.int64))


def test_risk_grows_as_less_confident_answers_are_kept() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    coverage, risk = calibration.risk_coverage(probabilities, np.array([0, 1, 0, 1]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])


def test_equal_confidences_share_their_risk() -> None:
    _, risk = calibration.risk_coverage(np.tile([0.8, 0.2], (4, 1)), np.array([1, 0, 0, 0]))
    assert risk.tolist() == pytest.approx([0.25] * 4)
