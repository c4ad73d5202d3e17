"""What every network must stand: images that are extreme, and batches that are cut differently."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.network import NetworkResult


def values(result: NetworkResult) -> list[Tensor]:
    """Everything that a network says."""
    return [result.logits, result.attention, result.features, *result.scalars.values()]


def together_and_apart(module: nn.Module, images: Tensor) -> float:
    """The largest change of any output of an image, of that output's own size, between batches of 1, 7 and all."""
    changes = [0.0]
    with torch.inference_mode():
        whole = values(module(images))
        for rows in (slice(0, 1), slice(9, 10), slice(0, 7), slice(7, 14)):
            pairs = zip(values(module(images[rows])), whole, strict=True)
            changes += [((one - all_[rows]).abs().max() / all_.abs().max()).item() for one, all_ in pairs]
    return max(changes)
