"""The shares of the classes that probabilities are meant for."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
