"""Are the probabilities right? Proper scores, the calibration error, and the temperature that lowers it.

Probabilities are (N, K) of sum 1, labels (N,) from 0 to K - 1. The confidence of an answer is its largest
probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import PARTS, RESAMPLES, Estimate, Floats, percentiles, resampled_means, wilson

Labels = NDArray[np.int64]
BINS = 15  # of confidence, as Guo et al. 2017 have them
TINY = 1e-12  # a probability of 0 that came true costs 28 nats instead of infinitely many
TEMPERATURES = (0.05, 20.0)  # the range that is searched
GOLDEN = (math.sqrt(5) - 1) / 2
PRECISION = 1e-5  # of the logarithm of the temperature


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float  # their mean
    accuracy: Estimate  # with Wilson's interval


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be taken at their word."""

    brier: Estimate  # 0 to 2: the mean squared distance of the probabilities from the truth, summed over the classes
    nll: Estimate  # nats: the mean of -log of the probability of the true class
    ece: Estimate  # the mean gap of confidence and accuracy over BINS equal bins, weighted by their images
    ece_by_chance: Estimate  # what a network shows whose answers are right just as often as it is confident
    confidence: float  # mean
    bins: tuple[Bin, ...]


def softmax(logits: Floats) -> Floats:
    """(N, K) of logits (N, K)."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def calibration(probabilities: Floats, labels: Labels, seed: int = 0) -> Calibration:
    """Brier (Brier 1950), log loss and expected calibration error (Guo et al. 2017, arXiv:1706.04599, sec. 2).

    Intervals are bootstrap percentiles. The calibration error is biased upwards by the noise of its bins, the more the
    fewer images: `ece_by_chance` is what the noise alone makes of a calibrated network, and less of one that is not.
    """
    rows = np.arange(len(labels))
    of_truth = probabilities[rows, labels]
    brier = (probabilities**2).sum(1) - 2 * of_truth + 1  # (N,)
    nll = -np.log(np.maximum(of_truth, TINY))
    drawn = resampled_means(np.stack([brier, nll], 1), seed)
    return Calibration(
        brier=percentiles(float(brier.mean()), drawn[:, 0]),
        nll=percentiles(float(nll.mean()), drawn[:, 1]),
        ece=_calibration_error(probabilities, labels, seed),
        ece_by_chance=_error_by_chance(probabilities.max(1), seed),
        confidence=float(probabilities.max(1).mean()),
        bins=_bins(probabilities, labels),
    )


def fit_temperature(logits: NDArray[np.floating[Any]], labels: Labels, shift: Sequence[float] | None = None) -> float:
    """The T that minimises the log loss of softmax(logits / T + shift) (Guo et al. 2017, sec. 4.2), by golden section.

    The loss is convex in 1 / T, hence unimodal in log T. Where one end of the range is the best, it is returned.
    Raises ValueError without images.
    """
    if len(labels) == 0:
        raise ValueError("expected at least 1 image to fit a temperature on")
    rows = np.arange(len(labels))
    centred = (logits - logits.max(1, keepdims=True)).astype(np.float64)
    added = np.zeros(logits.shape[1]) if shift is None else np.asarray(shift, np.float64)

    def loss(log_t: float) -> float:
        scaled = centred * math.exp(-log_t) + added
        return float((np.log(np.exp(scaled).sum(1)) - scaled[rows, labels]).mean())

    low, high = map(math.log, TEMPERATURES)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def risk_coverage(probabilities: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Coverage (N,) and risk (N,): the error rate among the most confident answers, as more and more are kept.

    Equal confidences enter together, with their mean risk. Geifman and El-Yaniv 2017, arXiv:1705.08500.
    """
    confidence = probabilities.max(1)
    wrong = (probabilities.argmax(1) != labels).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    _, group = np.unique(-confidence[order], return_inverse=True)
    shared = (np.bincount(group, wrong[order]) / np.bincount(group))[group]
    kept = np.arange(1, len(labels) + 1)
    return kept / len(labels), np.cumsum(shared) / kept


def _bins(probabilities: Floats, labels: Labels) -> tuple[Bin, ...]:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = _places(confidence)
    found = []
    for k in range(BINS):
        mine = place == k
        count = int(mine.sum())
        average = float(confidence[mine].mean()) if count else math.nan
        found.append(Bin(k / BINS, (k + 1) / BINS, count, average, wilson(int(right[mine].sum()), count)))
    return tuple(found)


def _calibration_error(probabilities: Floats, labels: Labels, seed: int) -> Estimate:
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == labels) - confidence  # (N,)
    by_bin = np.zeros((len(labels), BINS))
    by_bin[np.arange(len(labels)), _places(confidence)] = gap
    value = float(np.abs(by_bin.mean(0)).sum())
    drawn = np.abs(resampled_means(by_bin, seed)).sum(1)
    # A resample adds its own noise to every bin, so that its error is the greater by as much in the mean.
    return percentiles(value, np.maximum(0, drawn - (drawn.mean() - value)))


def _error_by_chance(confidence: Floats, seed: int) -> Estimate:
    """The calibration error of answers (N,) that are right with the chance of their own confidence.

    Its mean over draws, and the ends between which 95 % of them lie (consistency resampling: Broecker & Smith 2007,
    Weather and Forecasting 22, 651).
    """
    rng, parts = np.random.default_rng(seed), []
    by_bin = np.eye(BINS)[_places(confidence)]  # (N, BINS)
    for _ in range(PARTS):
        gaps = (rng.random((RESAMPLES // PARTS, len(confidence))) < confidence) - confidence
        parts.append(np.abs(gaps @ by_bin).sum(1) / len(confidence))
    drawn = np.concatenate(parts)
    return percentiles(float(drawn.mean()), drawn)


def _places(confidence: Floats) -> Labels:
    """(N,) the bin of each confidence; bins are open below and closed above."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
