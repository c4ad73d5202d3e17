"""Losses that tell a network where to look and how sharply: what the review asks for in sec. 3.2.1.

They take the attention maps of any network, `NetworkResult.attention` (N, h, w), and are added to the loss of
the classes. Formulas and numbers are ours (reference/networks.md sec. 6, items 2 and 8), not from a paper.
With q = a / max a and p the map as a distribution, sum p = 1 (a map of zeros is a uniform one):

    clarity   relu(exp(H) / hw - 0.06)^2 + 0.1 TV(q),   H = -sum p ln p, TV the mean step between neighbours
    mask      -ln m,              m = sum of p within the source's mask
    contrast  -ln (m / (m + m')), m' the same within the mask moved half an image both ways: a wrong focus

Sharp is not right: clarity rewards any small smooth spot, so it says nothing without a measure of place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

WANTED_AREA = 0.06  # of the pixels, about what a galaxy fills
ROUGHNESS = 0.1  # weight of the total variation
CLARITY_WEIGHT = 0.1  # of clarity beside the cross entropy, at the end of training
CLARITY_START = 0.2  # of training, which is the classes' own until then
FLOOR = 1e-6  # of the highest pixel; keeps logarithms and their gradients finite
NO_ATTENTION = 1e-9  # a map whose highest pixel is below this is one of zeros


def clarity_loss(attention: Tensor) -> Tensor:
    """Maps (N, h, w) to the mean of their clarity losses: 0 for a flat spot of at most the wanted area."""
    q = _relative(attention)
    p = _distribution(q)
    entropy = -(p * p.log()).sum((1, 2))
    area = entropy.exp() / p[0].numel()
    steps = q.diff(dim=1).abs().mean((1, 2)) + q.diff(dim=2).abs().mean((1, 2))
    return ((area - WANTED_AREA).relu() ** 2 + ROUGHNESS * steps).mean()


def clarity_weight(progress: float) -> float:
    """The weight of `clarity_loss` after this fraction of training: 0 for a fifth, then a straight line to 0.1."""
    return CLARITY_WEIGHT * min(max(progress - CLARITY_START, 0.0) / (1 - CLARITY_START), 1.0)


def mask_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """Maps (N, h, w) and sources' masks (N, H, W), bool or 0 to 1, to the mean loss of the images with a mask.

    An image whose mask is empty teaches nothing about place, and its loss is left out.
    """
    p, inside = _distribution(_relative(attention)), _at(masks, attention)
    return _mean_of(-_mass(p, inside).log(), inside)


def contrast_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """As `mask_loss`, but only against a wrong focus: attention outside both counts neither way."""
    p, inside = _distribution(_relative(attention)), _at(masks, attention)
    height, width = attention.shape[1:]
    moved = inside.roll((height // 2, width // 2), (1, 2)) * (1 - inside)
    return _mean_of(F.softplus(_mass(p, moved).log() - _mass(p, inside).log()), inside)


def _relative(attention: Tensor) -> Tensor:
    """Maps (N, h, w) over their highest pixel."""
    maps = attention.float()
    highest = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(highest > NO_ATTENTION, highest, 1.0)


def _distribution(relative: Tensor) -> Tensor:
    """Maps (N, h, w) to p (N, h, w) > 0 of sum 1."""
    raised = relative + FLOOR
    return raised / raised.sum((1, 2), keepdim=True)


def _at(masks: Tensor, attention: Tensor) -> Tensor:
    """Masks (N, H, W) by their area on the grid of maps (N, h, w)."""
    _, height, width = attention.shape
    return F.adaptive_avg_pool2d(masks.to(torch.float32)[:, None], (height, width)).squeeze(1)


def _mass(p: Tensor, inside: Tensor) -> Tensor:
    return (p * inside).sum((1, 2)) + FLOOR


def _mean_of(losses: Tensor, inside: Tensor) -> Tensor:
    """The mean of losses (N,) over the images with a mask, 0 where none has one."""
    taught = inside.amax((1, 2)) > 0
    return torch.where(taught, losses, 0.0).sum() / taught.sum().clamp_min(1)
