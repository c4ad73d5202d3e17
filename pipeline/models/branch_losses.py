"""What MBAN is trained on: a cross entropy a branch and a distance between ordered classes.

    L = a_p CE(primary) + a_a CE(auxiliary) + a_f CE(fusion) + a_r D(fusion)        (Zhang et al. 2021)
    D = sum_k (P_k - Y_k)^2,  P and Y the cumulative probabilities of the answer and of the truth

D is the squared Cramer distance, for which the classes must have an order, as those of clusters' cores have (cool,
weakly cool, not cool). The six classes of galaxies have none, so a_r is 0 unless it is set. The paper's weights are
unknown; ones, and the ramp below, are our guess (reference/networks.md sec. 2.2 and sec. 6, item 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.models.mban import Branches

RAMP = 0.5  # of the joint phase, over which the new branch's weights rise


@dataclass(frozen=True)
class LossWeights:
    primary: float = 1.0  # a_p
    auxiliary: float = 1.0  # a_a
    fusion: float = 1.0  # a_f
    order: float = 0.0  # a_r


def mban_loss(branches: Branches, labels: Tensor, weights: LossWeights, label_smoothing: float = 0.0) -> Tensor:
    """The loss of a batch whose images all met the auxiliary branch, as in training they do; labels (N,) int64."""
    primary, auxiliary, fusion = (
        F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
        for logits in (branches.primary, branches.auxiliary, branches.fusion)
    )
    return (
        weights.primary * primary
        + weights.auxiliary * auxiliary
        + weights.fusion * fusion
        + weights.order * cramer_distance(branches.fusion.float(), labels)
    )


def cramer_distance(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over logits (N, K) of sum_k (P_k - Y_k)^2, for classes in their order; labels (N,) int64."""
    probabilities = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).to(probabilities.dtype)
    return (probabilities.cumsum(1) - truth.cumsum(1)).square().sum(1).mean()


def joint_weights(progress: float, order: float = 0.0) -> LossWeights:
    """The weights after this fraction of the joint phase: all but the primary's rise from 0 to theirs, then stay."""
    risen = min(max(progress / RAMP, 0.0), 1.0)
    return LossWeights(primary=1.0, auxiliary=risen, fusion=risen, order=risen * order)
