"""CvT: tokens by convolution, attention over the whole image; the transformer that the review names first.

Wu et al. 2021, arXiv:2103.15808, CvT-13 (19,997,480 parameters with 1000 classes, 4.57 G multiply-adds at 224
pixels; the paper says 20 M and 4.5 G), as the library transformers builds it from a config: nothing is downloaded.
First applied to galaxies by Cao et al. 2024, A&A 683, A42; the review cites a paper of this title as Jiang et al. 2024,
A&A 683, A102. Three stages of convolutional embedding and attention; a class token joins in the last, and the classes
are read from it. Queries, keys and values are made by depthwise convolutions, keys and values at half the resolution.

The map is that token's attention in the last layer, its mean over the heads. It needs the extra `baselines`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline.models.activation import at_least_float32
from pipeline.models.extra import from_extra
from pipeline.models.network import NetworkResult

STAGES = 3
LEAST_SIZE = 16  # pixels a side that leave one position in the last stage


@dataclass(frozen=True)
class CvTConfig:
    """One CvT; the defaults are CvT-13. Raises ValueError where the numbers do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side
    dims: tuple[int, ...] = (64, 192, 384)  # channels of each stage
    depths: tuple[int, ...] = (1, 2, 10)  # layers of each stage
    heads: tuple[int, ...] = (1, 3, 6)
    drop_path: float = 0.1  # of the last stage, in training

    def __post_init__(self) -> None:
        if not len(self.dims) == len(self.depths) == len(self.heads) == STAGES:
            raise ValueError(f"expected {STAGES} dims, depths and heads, got {self}")
        if min(self.bands, self.classes, *self.dims, *self.depths, *self.heads) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if any(depth <= stage for stage, depth in enumerate(self.depths)):  # transformers looks for as many
            raise ValueError(f"expected depths of at least 1, 2 and 3, got {self.depths}")
        if any(width % heads for width, heads in zip(self.dims, self.heads, strict=True)):
            raise ValueError(f"expected dims that heads divide, got {self.dims} and {self.heads}")
        if self.size < LEAST_SIZE:
            raise ValueError(f"expected a size of at least {LEAST_SIZE} px, got {self.size}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"expected drop_path from 0 to below 1, got {self.drop_path}")

    @property
    def scalars(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return self.dims[-1]

    def build(self) -> CvT:
        """The network with untrained weights, drawn from torch's global generator. Raises MissingExtra."""
        return CvT(self)


class CvT(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits and the class token's attention."""

    def __init__(self, config: CvTConfig) -> None:
        super().__init__()
        transformers: Any = from_extra("transformers", "baselines")
        layout = transformers.CvtConfig(
            num_channels=config.bands,
            embed_dim=config.dims,
            depth=config.depths,
            num_heads=config.heads,
            drop_path_rate=(0.0, 0.0, config.drop_path),
        )
        self.cvt = transformers.CvtModel(layout)
        self.norm = nn.LayerNorm(config.dims[-1])
        self.classifier = nn.Linear(config.dims[-1], config.classes)

    def forward(self, images: Tensor) -> NetworkResult:
        seen: list[Tensor] = []
        last = self.cvt.encoder.stages[-1].layers[-1].attention.attention
        # The library does not return its attention; this layer gets it, and passes it on as it is.
        hook = last.dropout.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
        try:
            token = self.cvt(images).cls_token_value  # (N, 1, 384)
        finally:
            hook.remove()
        features = self.norm(token.squeeze(1))
        return NetworkResult(self.classifier(features), class_token_map(seen[0]), {}, features)


def class_token_map(attention: Tensor) -> Tensor:
    """Attention (N, heads, 1 + HW, 1 + hw), class token first, to the map (N, h, w) of sum 1 that the token has.

    What the token gives to itself is left out.
    """
    weights = at_least_float32(attention)[:, :, 0, 1:].mean(1)  # (N, hw)
    side = math.isqrt(weights.shape[1])
    return (weights / weights.sum(1, keepdim=True)).reshape(-1, side, side)
