"""From logits to probabilities: the one formula that training, evaluation and inference share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-3  # by which shares that were written down in decimals may miss a sum of 1


@dataclass(frozen=True)
class Prior:
    """Shares of the classes, in the order of the logits.

    A network that is trained on a balanced sample answers for a balanced sky. Where the sky is known to be
    otherwise its probabilities are corrected by the ratio of the shares (Saerens, Latinne & Decaestecker 2002,
    Neural Computation 14, 21, eq. 2.4).
    """

    training: tuple[float, ...]  # as the training saw the classes, sampling and weights included
    target: tuple[float, ...]  # as the probabilities take them to be

    def __post_init__(self) -> None:
        for name, shares in (("training", self.training), ("target", self.target)):
            if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > ROUNDING:
                raise ValueError(f"expected {name} shares above 0 of sum 1, got {shares}")
        if len(self.training) != len(self.target):
            raise ValueError(f"expected as many shares, got {len(self.training)} and {len(self.target)}")

    @property
    def shift(self) -> tuple[float, ...]:
        """What is added to each logit, after the temperature: ln(target / training)."""
        return tuple(math.log(target / training) for training, target in zip(self.training, self.target, strict=True))


def probabilities(logits: Tensor, temperature: float, shift: Tensor | None = None) -> Tensor:
    """Logits (N, K) to probabilities (N, K) float32: softmax(logits / temperature + shift).

    `shift` (K,) is Prior.shift. The temperature is that of Guo et al. 2017, arXiv:1706.04599, sec. 4.2. A row
    whose logits are not all finite gets NaN.
    """
    scaled = logits.float() / temperature
    shifted = scaled if shift is None else scaled + shift
    finite = logits.isfinite().all(1, keepdim=True)
    return torch.where(finite, shifted.softmax(1), torch.nan)
