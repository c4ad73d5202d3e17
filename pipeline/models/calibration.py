"""From logits to probabilities: the one formula that training, evaluation and inference share."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor, temperature: float, shift: Tensor | None = None) -> Tensor:
    """Logits (N, K) to probabilities (N, K) float32: softmax(logits / temperature + shift).

    `shift` (K,) is Prior.shift. The temperature is that of Guo et al. 2017, arXiv:1706.04599, sec. 4.2. A row
    whose logits are not all finite gets NaN.
    """
    scaled = logits.float() / temperature
    shifted = scaled if shift is None else scaled + shift
    finite = logits.isfinite().all(1, keepdim=True)
    return torch.where(finite, shifted.softmax(1), torch.nan)
