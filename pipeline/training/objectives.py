"""What a step minimises: the loss of a batch, by the kind of network and how far the run has come."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.branch_losses import LossWeights, cramer_distance, joint_weights, mban_loss
from pipeline.models.focus import clarity_loss, clarity_weight
from pipeline.models.mban import MBAN
from pipeline.training.recipe import Objective


def batch_loss(module: nn.Module, images: Tensor, labels: Tensor, how: Objective, progress: float) -> Tensor:
    """The loss of images (N, C, S, S) with labels (N,), after this fraction of the run."""
    if isinstance(module, MBAN):
        return mban_loss(module.branches(images), labels, phase_weights(how, progress), how.label_smoothing)
    result = module(images)
    loss = F.cross_entropy(result.logits.float(), labels, label_smoothing=how.label_smoothing)
    if how.order:
        loss = loss + how.order * cramer_distance(result.logits.float(), labels)
    if how.clarity:
        loss = loss + clarity_weight(progress) * clarity_loss(result.attention)
    return loss


def phase_weights(how: Objective, progress: float) -> LossWeights:
    """The weights of MBAN's branches (networks.md sec. 6, item 6): the primary's alone, the new ones', then all.

    Without phases all count from the start.
    """
    if not how.phases:
        return LossWeights(order=how.order)
    first, second = how.phases
    if progress < first:
        return LossWeights(auxiliary=0.0, fusion=0.0)
    if progress < first + second:
        return LossWeights(primary=0.0, order=how.order)
    return joint_weights((progress - first - second) / (1 - first - second), how.order)


def frozen(name: str, how: Objective, progress: float) -> bool:
    """Whether this parameter stands still: named in `still`, or the primary branch's while the new ones catch up."""
    if name.startswith(how.still):
        return True
    if not how.phases:
        return False
    first, second = how.phases
    return first <= progress < first + second and name.startswith(("primary.", "primary_head."))
