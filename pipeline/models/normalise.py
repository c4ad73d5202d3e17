"""Scores to attention, each image by itself: the four normalisations of AG-CNN and a learned mix of three.

Bowles et al. 2021, MNRAS 501, 4579, compare softmax, sigmoid, range and standard-deviation normalisation. The
code that they released takes the minimum and maximum of `range` and `std` over the whole batch, so that a
galaxy's answer depends on its neighbours there: by up to 74 % of its logits (reference/networks.md sec. 1.2).
Here no operation crosses images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.configs.agcnn import MIX_NAMES, Fixed

# A constant score of psi's first bias, 10, carries float32 rounding of 1e-6; a range that small says nothing.
LEAST_RANGE = 1e-5
LEAST_TEMPERATURE = 0.01  # ours: scores are divided by it


def normalise(score: Tensor, kind: Fixed) -> Tensor:
    """Scores (N, h, w) to attention (N, h, w), with s the scores of one image.

    softmax  exp s / sum exp s
    sigmoid  1 / (1 + exp -s)
    range    (s - min s) / (max s - min s); 0 where the score is constant
    std      (range - 1/2) / (1/4), from -2 to 2. The released code divides by the maximum before the minimum is
             taken off, which has no bound; this form is our guess at what was meant (reference sec. 1.2).
    """
    if kind == "softmax":
        return score.flatten(1).softmax(1).reshape(score.shape)
    if kind == "sigmoid":
        return score.sigmoid()
    lowest, highest = score.amin((1, 2), keepdim=True), score.amax((1, 2), keepdim=True)
    unit = (score - lowest) / (highest - lowest).clamp_min(LEAST_RANGE)
    return unit if kind == "range" else (unit - 0.5) / 0.25


class FixedNormalisation(nn.Module):
    """The same normalisation for every image."""

    def __init__(self, kind: Fixed) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, score: Tensor, context: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (N, h, w) to attention (N, h, w). The context is not asked, and there is nothing more to say."""
        return normalise(score, self.kind), {}


class LearnedMix(nn.Module):
    """Each image chooses its own mix: the adaptive normalisation that the review asks for (sec. 3.2.1).

    From the context, features (N, G, h', w'), a linear layer draws weights w of sum 1 and a temperature t:

        z = (s - mean s) / t,   a = w_range range(z) + w_sigmoid sigmoid(z) + w_softmax softmax(z) / max softmax(z)

    so that the three maps share the scale 0 to 1. It starts as the equal mix with t = 1. The form is ours
    (reference/networks.md sec. 6, item 1); whether it beats a fixed normalisation is for training to show.
    """

    names = MIX_NAMES

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.router = nn.Linear(channels, len(self.names))
        nn.init.zeros_(self.router.weight)
        nn.init.zeros_(self.router.bias)
        self.unit = math.log(math.e - 1)  # softplus of it is 1

    def forward(self, score: Tensor, context: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores (N, h, w) to attention (N, h, w) from 0 to 1, and the weights and temperature (N,) by name."""
        routes = self.router(context.mean((2, 3)))  # (N, 4)
        weights = routes[:, :3].softmax(1)
        temperature = F.softplus(routes[:, 3] + self.unit).clamp_min(LEAST_TEMPERATURE)
        z = (score - score.mean((1, 2), keepdim=True)) / temperature[:, None, None]
        peaked = (z - z.amax((1, 2), keepdim=True)).exp()  # softmax over its maximum
        maps = torch.stack([normalise(z, "range"), z.sigmoid(), peaked], 1)  # (N, 3, h, w)
        attention = torch.einsum("nk,nkhw->nhw", weights, maps)
        return attention, dict(zip(self.names, [*weights.unbind(1), temperature], strict=True))
