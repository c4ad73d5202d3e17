"""Are the classes right? Accuracy and macro precision, recall and F1, with their bootstrap intervals.

All of them are functions of the confusion matrix alone. A bootstrap sample of N images therefore is a draw of its
cells from a multinomial, exactly and at once for all samples; two networks compared on the same images
are a draw of the cells (class, first answer, second answer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import RESAMPLES, Estimate, Floats, percentiles, wilson

Labels = NDArray[np.int64]
MEASURES = ("accuracy", "precision", "recall", "f1")  # the last three as means over the classes

# The first three of the six are one class to the eye: an elliptical whose axis ratio was measured.
FOUR: Mapping[str, tuple[str, ...]] = {
    "smooth": ("round", "in_between", "cigar"),
    "edge_on": ("edge_on",),
    "spiral": ("spiral",),
    "merger": ("merger",),
}


@dataclass(frozen=True)
class ClassScore:
    """How one class fares."""

    name: str
    images: int  # that are of the class
    predicted: int  # that are said to be
    precision: Estimate  # Wilson's intervals
    recall: Estimate
    f1: float


def confusion(labels: Labels, predicted: Labels, classes: int) -> Labels:
    """(K, K) images by class (rows) and answer (columns)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def measures(matrices: NDArray[np.int64]) -> dict[str, Floats]:
    """Each of MEASURES (...,) of confusion matrices (..., K, K).

    Means are over the classes that the matrix has images of: a class that none has cannot be recalled. Where no image
    is said to be of a class, its precision counts as 0.
    """
    right = np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)  # (..., K)
    images, said = matrices.sum(-1), matrices.sum(-2)
    present = images > 0
    return {
        "accuracy": _share(right.sum(-1), images.sum(-1)),
        "precision": _mean_over(_share(right, said), present),
        "recall": _mean_over(_share(right, images), present),
        "f1": _mean_over(_share(2 * right, images + said), present),
    }


def estimates(matrix: Labels, seed: int = 0) -> dict[str, Estimate]:
    """MEASURES of a confusion matrix (K, K), each with its bootstrap interval over the images."""
    values = measures(matrix)
    drawn = measures(_resampled(matrix, seed))
    return {name: percentiles(float(values[name]), drawn[name]) for name in MEASURES}


def differences(labels: Labels, first: Labels, second: Labels, classes: int, seed: int = 0) -> dict[str, Estimate]:
    """MEASURES of the first's answers less those of the second's on the same images: the paired bootstrap."""
    cells = np.bincount((labels * classes + first) * classes + second, minlength=classes**3)
    cells = cells.reshape(classes, classes, classes)
    drawn = _resampled(cells, seed)
    whole, parts = ({}, {})
    for name, axis in (("first", -1), ("second", -2)):
        whole[name], parts[name] = measures(cells.sum(axis)), measures(drawn.sum(axis))
    return {
        name: percentiles(
            float(whole["first"][name] - whole["second"][name]), parts["first"][name] - parts["second"][name]
        )
        for name in MEASURES
    }


def class_scores(matrix: Labels, names: Sequence[str]) -> list[ClassScore]:
    """How each class of a confusion matrix (K, K) fares."""
    found = []
    for k, name in enumerate(names):
        right, images, said = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        f1 = 2 * right / (images + said) if images + said else float("nan")
        found.append(ClassScore(name, images, said, wilson(right, said), wilson(right, images), f1))
    return found


def merged(probabilities: Floats, classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Floats:
    """(N, G) of probabilities (N, K): the sums over the classes of each group."""
    columns = [[classes.index(name) for name in group] for group in groups.values()]
    return np.stack([probabilities[:, group].sum(1) for group in columns], 1)


def merged_labels(labels: Labels, classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Labels:
    """(N,) the group of each label; -1 stays -1."""
    of = {name: g for g, group in enumerate(groups.values()) for name in group}
    table = np.array([*(of[name] for name in classes), -1], np.int64)
    return table[labels]


def misplacement(predicted: Labels, axis_ratio: Floats, bounds: Sequence[tuple[float, float]]) -> Floats:
    """(N,) by how much an axis ratio lies outside the range [low, high) of the class that is said; 0 inside it.

    `bounds` are those of the classes that `predicted` counts.
    """
    low, high = np.array(bounds, np.float64)[predicted].T
    return np.maximum(0, np.maximum(low - axis_ratio, axis_ratio - high))


def _resampled(cells: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(R, *cells.shape) counts of as many images, drawn with replacement."""
    total = int(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(total, cells.ravel() / max(total, 1), size=RESAMPLES)
    return drawn.reshape(RESAMPLES, *cells.shape)


def _share(part: Floats, whole: NDArray[np.int64]) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def _mean_over(values: Floats, present: NDArray[np.bool_]) -> Floats:
    """The mean over the last axis of what is present."""
    return np.where(present, values, 0).sum(-1) / np.maximum(present.sum(-1), 1)
