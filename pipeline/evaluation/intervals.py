"""How sure a figure is: 95 % intervals of proportions, of means and of the area under the ROC curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
Z = 1.959963984540054  # the standard normal's quantile at (1 + LEVEL) / 2
RESAMPLES = 2000  # of the bootstrap: the ends of an interval move by about a twentieth of its width
PARTS = 20  # in which they are drawn


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def wilson(right: int, total: int) -> Estimate:
    """The proportion right / total with Wilson's score interval (Wilson 1927, JASA 22, 209); NaN where total is 0."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan)
    share, squared = right / total, Z**2 / total
    middle = (share + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    # Rounding must not push an end past the figure itself, as at 0 and 1.
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def percentiles(value: float, resampled: ArrayLike) -> Estimate:
    """A figure with the percentile interval of its bootstrap (R,), NaN draws left out."""
    drawn = np.asarray(resampled, np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0:
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """The mean of (N,) values with its bootstrap interval; values that are NaN are left out."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    return percentiles(known.mean(), resampled_means(known[:, None], seed)[:, 0])


def resampled_means(values: Floats, seed: int = 0) -> Floats:
    """(R, F) the means of values (N, F) over bootstrap samples of their rows."""
    count = len(values)
    rng = np.random.default_rng(seed)
    even = np.full(count, 1 / count)
    # How often each row is drawn, (R, N): in parts, so that many rows fit into memory.
    parts = [rng.multinomial(count, even, size=RESAMPLES // PARTS) @ values for _ in range(PARTS)]
    return np.concatenate(parts) / count


def auroc(positive: ArrayLike, negative: ArrayLike) -> Estimate:
    """The chance that a score of `positive` (P,) exceeds one of `negative` (Q,), equals counting half.

    The interval is DeLong's (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44, 837) on the logit scale. Where
    every pair is in order his variance is 0: the end is then that of as many independent pairs as the smaller
    group has, all in order (Clopper and Pearson 1934). NaN where a group is empty.
    """
    above, below = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if len(above) == 0 or len(below) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    placed_above, placed_below = _placements(above, below), 1 - _placements(below, above)
    area = float(placed_above.mean())
    if area in (0.0, 1.0):
        end = ((1 - LEVEL) / 2) ** (1 / min(len(above), len(below)))
        return Estimate(area, min(area, end), max(area, 1 - end))
    deviation = math.sqrt(_variance_of_mean(placed_above) + _variance_of_mean(placed_below))
    logit, step = math.log(area / (1 - area)), Z * deviation / (area * (1 - area))
    return Estimate(area, _logistic(logit - step), _logistic(logit + step))


def _placements(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others that lie below it, equals counting half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return (below + not_above) / (2 * len(others))


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.25


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
