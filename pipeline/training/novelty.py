"""Fit what tells novel images apart (pipeline/models/novelty.py) to what a trained network makes of its galaxies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.models.novelty import Novelty, Scale, energy

LEAST = 100  # held-out galaxies: the share of one in ten is then known to a third
KNOTS = 64  # of a scale
TAIL = 10  # held-out galaxies above the last knot: beyond it single galaxies would decide
EXCESS = 0.05  # of the held-out galaxies lie above the threshold from which the tail's slope is taken


def fit_novelty(features: Tensor, logits: Tensor, labels: Tensor, *, held_out: tuple[Tensor, Tensor]) -> Novelty:
    """The model of novelty of a network: its classes from training galaxies, its scales from others.

    `features` (N, D), `logits` (N, K) and `labels` (N,) are of galaxies that the weights were fitted to; `held_out`
    are features and logits of galaxies of the same sample that they were not: on the former a network is too sure
    of itself for what it makes of them to be a scale. All in eval mode, the network being the one that is stored,
    and all changed in the same way, or none. Raises ValueError where there are too few galaxies, or where a value is
    not finite.
    """
    held_features, held_logits = held_out
    if len(held_features) < LEAST:
        raise ValueError(f"expected at least {LEAST} held-out galaxies, got {len(held_features)}")
    if not all(values.isfinite().all() for values in (features, logits, *held_out)):
        raise ValueError("expected finite features and logits")
    centre, whitening, means = _classes(features.double(), labels)
    unscaled = Scale(torch.zeros(2), torch.zeros(2), torch.zeros(()))
    draft = Novelty(means, whitening, centre, unscaled, unscaled, unscaled)
    energies, distances = energy(held_logits), draft.distances(held_features)
    first, second = _scale(energies), _scale(distances)
    larger = torch.maximum(first.surprise(energies), second.surprise(distances))
    return Novelty(means, whitening, centre, first, second, _scale(larger))


def _classes(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (D,), whitening (D, D) and whitened class means (C, D), float32, of features (N, D) float64."""
    centre = features.mean(0)
    present = torch.tensor(sorted(set(labels.tolist())))
    means = torch.stack([features[labels == label].mean(0) for label in present])  # (C, D)
    within = features - means[torch.searchsorted(present, labels)]
    variances, axes = torch.linalg.eigh(_covariance(within))
    whitening = axes / variances.sqrt()  # (D, D), a column an axis
    return centre.float(), whitening.float().contiguous(), ((means - centre) @ whitening).float()


def _covariance(deviations: Tensor) -> Tensor:
    """(D, D) of deviations (N, D), shrunk towards a multiple of the identity, so that it has an inverse.

    By the oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010, arXiv:0907.4698, eq. 23).
    Raises ValueError where nothing varies.
    """
    count, width = deviations.shape
    sample = deviations.T @ deviations / count
    trace, square = sample.trace(), (sample**2).sum()
    if not trace > 0:
        raise ValueError(f"the features of {count} galaxies do not vary within their classes")
    excess = (count + 1 - 2 / width) * (square - trace**2 / width)
    shrinkage = (((1 - 2 / width) * square + trace**2) / excess.clamp_min(1e-300)).clamp(0, 1)
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
