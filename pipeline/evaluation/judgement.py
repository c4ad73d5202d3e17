"""Everything that is said of one checkpoint on one set of labelled images, as plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.calibration import Calibration, calibration, risk_coverage
from pipeline.evaluation.intervals import Estimate, Floats, mean, wilson
from pipeline.evaluation.scores import (
    FOUR,
    MEASURES,
    ClassScore,
    Labels,
    class_scores,
    confusion,
    estimates,
    merged,
    merged_labels,
    misplacement,
)

# Round, in-between and cigar: how Galaxy Zoo's smooth galaxies were cut by their measured axis ratio (the README of
# the labelled images, gz_sdss).
AXIS_RATIOS = ((0.80, 1.0), (0.52, 0.80), (0.0, 0.52))
ROUNDNESS = ("round", "in_between", "cigar")
POINTS = 50  # of a curve of risk and coverage
FEWEST = 10  # answers of its first point: among fewer, one error is all


@dataclass(frozen=True)
class Scores:
    """The classes that a network gives, against those that the images have."""

    classes: tuple[str, ...]
    images: int
    accuracy: Estimate  # Wilson's interval; `measures` has the bootstrap's
    measures: Mapping[str, Estimate]
    by_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows: the class; columns: the answer


@dataclass(frozen=True)
class Roundness:
    """Round, in-between and cigar galaxies by axis ratio: how far outside its range a wrong answer is."""

    images: int
    right: Estimate  # share of answers, of the three alone
    error: Estimate  # axis ratio, mean of |how far outside the range of the class that was said|
    error_of_wrong: Estimate  # the same among the wrong answers
    within_005: Estimate  # share of answers that are right or miss their range by at most 0.05


@dataclass(frozen=True, eq=False)
class Said:
    """What a network says of N images."""

    raw: Floats  # (N, K) probabilities at temperature 1 and without prior
    calibrated: Floats  # (N, K) as the checkpoint gives them
    temperature: float
    images_per_second: float
    novelty: Floats | None = None  # (N,) NaN where the checkpoint cannot tell


@dataclass(frozen=True)
class Judgement:
    """One set of labelled images."""

    name: str
    headline: Scores  # four classes where they are the six of the optical networks, else the network's own
    own: Scores  # the network's own classes
    before: Calibration  # at temperature 1 and without prior
    after: Calibration  # as the checkpoint gives them
    temperature: float
    risk: tuple[tuple[float, float], ...]  # (coverage, risk) of the headline
    images_per_second: float
    roundness: Roundness | None = None


def judge(name: str, labels: Labels, classes: Sequence[str], said: Said, axis_ratio: Floats | None = None) -> Judgement:
    """The judgement of what was said of images with these labels (N,). Raises ValueError without images."""
    if len(labels) == 0:
        raise ValueError(f"{name}: expected at least 1 labelled image")
    optical = is_optical(classes)
    grouped, grouped_labels = headline(said.calibrated, labels, classes)
    own = scores(labels, said.calibrated.argmax(1), classes)
    return Judgement(
        name=name,
        headline=scores(grouped_labels, grouped.argmax(1), tuple(FOUR)) if optical else own,
        own=own,
        before=calibration(said.raw, labels),
        after=calibration(said.calibrated, labels),
        temperature=said.temperature,
        risk=_thinned(*risk_coverage(grouped, grouped_labels)),
        images_per_second=said.images_per_second,
        roundness=None if axis_ratio is None else roundness(labels, said.calibrated, classes, axis_ratio),
    )


def is_optical(classes: Sequence[str]) -> bool:
    """Whether the classes hold the six that the headline makes four of."""
    return set(classes) >= {part for group in FOUR.values() for part in group}


def headline(probabilities: Floats, labels: Labels, classes: Sequence[str]) -> tuple[Floats, Labels]:
    """Probabilities (N, G) and labels (N,) of the four classes, where the network has the six; else as they are."""
    if not is_optical(classes):
        return probabilities, labels
    return merged(probabilities, classes, FOUR), merged_labels(labels, classes, FOUR)


def scores(labels: Labels, predicted: Labels, classes: Sequence[str]) -> Scores:
    """Of answers (N,) for labels (N,)."""
    matrix = confusion(labels, predicted, len(classes))
    found = estimates(matrix)
    return Scores(
        classes=tuple(classes),
        images=len(labels),
        accuracy=wilson(int(np.trace(matrix)), int(matrix.sum())),
        measures={name: found[name] for name in MEASURES},
        by_class=tuple(class_scores(matrix, classes)),
        confusion=tuple(tuple(int(value) for value in row) for row in matrix),
    )


def roundness(labels: Labels, probabilities: Floats, classes: Sequence[str], axis_ratio: Floats) -> Roundness | None:
    """Of the galaxies that are of the three classes and whose axis ratio is known; None where there are none."""
    if not is_optical(classes):
        return None
    columns = [classes.index(name) for name in ROUNDNESS]
    known = np.isin(labels, columns) & np.isfinite(axis_ratio)
    if not known.any():
        return None
    said = probabilities[known][:, columns].argmax(1)
    wrong_by = misplacement(said, axis_ratio[known], AXIS_RATIOS)
    wrong = np.array(columns)[said] != labels[known]
    count = int(known.sum())
    return Roundness(
        images=count,
        right=wilson(int((~wrong).sum()), count),
        error=mean(wrong_by),
        error_of_wrong=mean(wrong_by[wrong]),
        within_005=wilson(int((wrong_by <= 0.05).sum()), count),
    )


def _thinned(coverage: Floats, risk: Floats) -> tuple[tuple[float, float], ...]:
    coverage, risk = coverage[FEWEST - 1 :], risk[FEWEST - 1 :]
    chosen = np.unique(np.linspace(0, len(coverage) - 1, min(POINTS, len(coverage))).round().astype(int))
    return tuple((float(coverage[row]), float(risk[row])) for row in chosen)
