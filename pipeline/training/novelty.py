"""Fit what tells novel images apart (pipeline/models/novelty.py) to what a trained network makes of its galaxies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.models.novelty import Classes, Novelty, Scale, Seen, largest, scores

LEAST = 100  # held-out galaxies: the share of one in ten is then known to a third
KNOTS = 64  # of a scale
TAIL = 10  # held-out galaxies above the last knot: beyond it single galaxies would decide
# Of the oracle's shrinkage, which hides axes along which galaxies hardly vary and other things do. Held-out galaxies
# are likelier still with less, but there the rounding of bfloat16 would tell.
SHRUNK = 0.1
EXCESS = 0.05  # of the held-out galaxies lie above the threshold from which the tail's slope is taken


def fit_novelty(learned: Seen, labels: Tensor, held_out: Seen) -> Novelty:
    """The model of novelty of a network: its classes from training galaxies, its scales from others.

    `learned` and its `labels` (N,) are of galaxies that the weights were fitted to; `held_out` are galaxies of the
    same sample that they were not: on the former a network is too sure of itself for what it makes of them to be a
    scale. All in eval mode, the network being the one that is stored, and all changed in the same way, or none.
    Raises ValueError where there are too few galaxies, or where a value is not finite.
    """
    if len(held_out.features) < LEAST:
        raise ValueError(f"expected at least {LEAST} held-out galaxies, got {len(held_out.features)}")
    if not all(values.isfinite().all() for values in (*learned, *held_out)):
        raise ValueError("expected finite features and logits")
    late, early = _classes(learned.features.double(), labels), _classes(learned.early.double(), labels)
    found = scores(late, early, held_out)
    energy, distance, early_distance = scales = [_scale(score) for score in found]
    return Novelty(late, early, energy, distance, early_distance, _scale(largest(scales, found)))


def _classes(features: Tensor, labels: Tensor) -> Classes:
    """In float32, of features (N, D) float64 and labels (N,)."""
    centre = features.mean(0)
    present = torch.tensor(sorted(set(labels.tolist())))
    means = torch.stack([features[labels == label].mean(0) for label in present])  # (C, D)
    within = features - means[torch.searchsorted(present, labels)]
    variances, axes = torch.linalg.eigh(_covariance(within))
    whitening = axes / variances.sqrt()  # (D, D), a column an axis
    return Classes(((means - centre) @ whitening).float(), whitening.float().contiguous(), centre.float())


def _covariance(deviations: Tensor) -> Tensor:
    """(D, D) of deviations (N, D), shrunk towards a multiple of the identity, so that it has an inverse.

    By SHRUNK of the oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010, arXiv:0907.4698, eq. 23).
    Raises ValueError where nothing varies.
    """
    count, width = deviations.shape
    sample = deviations.T @ deviations / count
    trace, square = sample.trace(), (sample**2).sum()
    if not trace > 0:
        raise ValueError(f"the features of {count} galaxies do not vary within their classes")
    excess = (count + 1 - 2 / width) * (square - trace**2 / width)
    shrinkage = SHRUNK * (((1 - 2 / width) * square + trace**2) / excess.clamp_min(1e-300)).clamp(0, 1)
    return (1 - shrinkage) * sample + shrinkage * trace / width * torch.eye(width, dtype=sample.dtype)


def _scale(scores: Tensor) -> Scale:
    """The surprise of scores (N,): knots evenly along it up to TAIL galaxies, an exponential tail from there."""
    descending = scores.double().sort(descending=True).values
    count = len(descending)
    wanted = torch.linspace(0, math.log10(count / TAIL), KNOTS, dtype=torch.float64)
    ranks = torch.tensor(sorted(set((count / 10**wanted).round().long().tolist()), reverse=True))  # N to TAIL galaxies
    high = descending[: max(TAIL, round(EXCESS * count))]
    excess = (high - high[-1]).mean().clamp_min(1e-6 * max(1.0, abs(high[-1].item())))  # float32 sees no less
    return Scale(
        scores=descending[ranks - 1].float(),
        surprises=torch.log10(count / ranks.double()).float(),
        tail=(1 / (excess * math.log(10))).float(),
    )
