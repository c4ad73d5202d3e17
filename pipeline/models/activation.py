"""Maps for networks that have no attention of their own: where the last convolution spoke, without a gradient.

* `class_map`, where a linear layer reads pooled features: what each position adds to the predicted class (class
  activation map, CAM, Zhou et al. 2016, arXiv:1512.04150). It depends on the predicted class.
* `energy_map`, where dense layers stand between: the sum of squared activations (Zagoruyko and Komodakis 2017,
  arXiv:1612.03928, sec. 3.1). It says where the features respond, not what for.

Neither is comparable in height with the attention that a network learns (reference/networks.md sec. 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-5  # a range below this fraction of the terms that were summed is float32 rounding of a constant


def class_map(features: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
    """Features (N, C, h, w), the linear layer's weight (K, C) and its logits (N, K) to maps (N, h, w) in [0, 1].

    S = sum_k W[c, k] M_k of the highest logit c, shifted and scaled to a least of 0 and a highest of 1, each
    image by itself; a constant S gives a map of zeros.
    """
    terms = at_least_float32(features) * at_least_float32(weight)[logits.argmax(1)][:, :, None, None]
    score = terms.sum(1)  # (N, h, w)
    lowest, highest = score.amin((1, 2), keepdim=True), score.amax((1, 2), keepdim=True)
    noise = FLAT * terms.detach().abs().sum(1).amax((1, 2), keepdim=True)
    varied = highest - lowest > noise
    return torch.where(varied, (score - lowest) / torch.where(varied, highest - lowest, 1.0), 0.0)


def energy_map(features: Tensor) -> Tensor:
    """Features (N, C, h, w) to the mean over channels of their squares (N, h, w)."""
    return at_least_float32(features).square().mean(1)


def over_positions(features: Tensor) -> Tensor:
    """Features (N, C, h, w) to their mean over the positions (N, C), at least in float32."""
    return features.mean((2, 3), dtype=torch.promote_types(features.dtype, torch.float32))


def at_least_float32(values: Tensor) -> Tensor:
    """Values in float32 where autocast made them coarser, else as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
