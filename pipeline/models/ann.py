"""ANN: three layers over five numbers measured on the image, as the first network that classified galaxies had.

Storrie-Lombardi, Lahav, Sodre and Storrie-Lombardi 1992, MNRAS 259, 8P: parameters of a catalogue in (13 of ESO-LV),
classes out (five types), trained by back-propagation; its first choice agreed with the catalogue for 64 % of the
galaxies. Their paper was not at hand beyond its abstract: sigmoid units are those of its time, how many is our choice.
The five indicators are the non-parametric ones of today (Conselice 2003, ApJS 147, 1; Lotz et al. 2004, AJ 128, 163).

A baseline that the others are compared with, and no more: it sees no image and has no attention, so it stands beside
NETWORKS, not in it. training/indicators.py measures images for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

INDICATORS = ("axis_ratio", "concentration", "asymmetry", "gini", "m20")
FARTHEST = 5.0  # deviations from the mean: what lies beyond is a failed measurement, and counts as this


@dataclass(frozen=True)
class ANNConfig:
    """One ANN. Raises ValueError where a layer would be empty."""

    classes: int = 6
    hidden: int = 16  # units of the middle layer

    def __post_init__(self) -> None:
        if min(self.classes, self.hidden) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")

    def build(self) -> ANN:
        """The network with untrained weights, drawn from torch's global generator."""
        return ANN(self)


class ANN(nn.Module):
    """Indicators (N, 5), in the order of INDICATORS, to logits (N, K).

    A NaN, where nothing could be measured, counts as the mean of the training set: a row without any indicator is
    answered as an average galaxy would be.
    """

    def __init__(self, config: ANNConfig) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(len(INDICATORS)))
        self.register_buffer("deviation", torch.ones(len(INDICATORS)))
        self.hidden = nn.Linear(len(INDICATORS), config.hidden)
        self.classifier = nn.Linear(config.hidden, config.classes)

    def forward(self, indicators: Tensor) -> Tensor:
        standard = ((indicators - self.mean) / self.deviation).nan_to_num(0.0)  # (N, 5)
        return self.classifier(self.hidden(standard.clamp(-FARTHEST, FARTHEST)).sigmoid())  # (N, 16) to (N, K)

    def fit_scale(self, indicators: Tensor) -> None:
        """Take the mean and deviation of each indicator from a training set (N, 5), leaving out what is NaN.

        Raises ValueError where an indicator was measured on no image, or is the same on all.
        """
        mean = indicators.nanmean(0)
        deviation = (indicators - mean).square().nanmean(0).sqrt()
        if wrong := [name for name, size in zip(INDICATORS, deviation.tolist(), strict=True) if not size > 0]:
            raise ValueError(f"expected indicators that differ between images, got none of {', '.join(wrong)}")
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
