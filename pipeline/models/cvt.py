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
from typing import Any

from torch import Tensor, nn

from pipeline.models.activation import at_least_float32, over_positions
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.extra import from_extra
from pipeline.models.network import NetworkResult


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
            said = self.cvt(images, output_hidden_states=True)
        finally:
            hook.remove()
        features = self.norm(said.cls_token_value.squeeze(1))  # (N, 384)
        early = over_positions(said.hidden_states[-2])  # (N, 192) of (N, 192, S/8, S/8)
        return NetworkResult(self.classifier(features), class_token_map(seen[0]), {}, features, early)


def class_token_map(attention: Tensor) -> Tensor:
    """Attention (N, heads, 1 + HW, 1 + hw), class token first, to the map (N, h, w) of sum 1 that the token has.

    What the token gives to itself is left out.
    """
    weights = at_least_float32(attention)[:, :, 0, 1:].mean(1)  # (N, hw)
    side = math.isqrt(weights.shape[1])
    return (weights / weights.sum(1, keepdim=True)).reshape(-1, side, side)
