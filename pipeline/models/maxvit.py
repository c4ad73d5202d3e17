"""MaxViT: attention within windows and across a grid by turns; one of the networks that DMAGNet was compared with.

Tu et al. 2022, arXiv:2204.01697, MaxViT-T, as torchvision builds it (30,919,624 parameters with 1000 classes at 224
pixels): a stem, four stages of inverted bottlenecks, each followed by attention within windows and by attention
across positions that lie a window apart. Windows are a 32nd of the image wide, so that in the last stage the grid is
all that there is and every position attends to every other.

The map is the attention that each position gets there, its mean over heads and over the positions that give it, which
are pooled alike. It needs the extra `maxvit`: torchvision must be built for the torch that is installed.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from pipeline.models.activation import at_least_float32, over_positions
from pipeline.models.configs.maxvit import REDUCTION, MaxViTConfig
from pipeline.models.extra import from_extra
from pipeline.models.network import NetworkResult


class MaxViT(nn.Module):
    """Images (N, 3, S, S) float32 in [0, 1] to logits and the attention that each position of the last stage gets."""

    def __init__(self, config: MaxViTConfig) -> None:
        super().__init__()
        maxvit: Any = from_extra("torchvision.models.maxvit", "maxvit")
        network = maxvit.MaxVit(
            input_size=(config.size, config.size),
            stem_channels=config.stem,
            partition_size=config.size // REDUCTION,
            block_channels=list(config.dims),
            block_layers=list(config.depths),
            head_dim=config.head_channels,
            stochastic_depth_prob=config.drop_path,
            num_classes=config.classes,
        )
        self.stem, self.stages = network.stem, network.blocks
        *pool, self.classifier = network.classifier
        self.pool = nn.Sequential(*pool)  # the mean, a norm, a dense layer and tanh

    def forward(self, images: Tensor) -> NetworkResult:
        """The stages one by one, with an ear to what the last attention layer gets."""
        x = self.stem(images)  # (N, 64, S/2, S/2)
        seen: list[Tensor] = []
        last = self.stages[-1].layers[-1].layers.grid_attention.attn_layer[1]
        hook = last.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
        try:
            stages = []
            for stage in self.stages:
                x = stage(x)  # (N, 64, S/4, S/4), (N, 128, S/8, S/8), (N, 256, S/16, S/16), (N, 512, S/32, S/32)
                stages.append(x)
        finally:
            hook.remove()
        features = self.pool(x)  # (N, 512)
        attention, early = received_attention(last, seen[0]), over_positions(stages[-2])
        return NetworkResult(self.classifier(features), attention, {}, features, early)


def received_attention(layer: Any, tokens: Tensor) -> Tensor:
    """The mean weight (N, h, w), of sum 1, that torchvision's relative attention gives to tokens (N, 1, hw, C).

    The layer keeps its weights to itself; they are computed again, from the tokens that it got.
    """
    query, key, _ = layer.to_qkv(tokens[:, 0]).unflatten(-1, (3, layer.n_heads, -1)).unbind(2)  # (N, hw, heads, c)
    scores = layer.scale_factor * (query.transpose(1, 2) @ key.permute(0, 2, 3, 1))  # (N, heads, hw, hw)
    weights = at_least_float32(scores + layer.get_relative_positional_bias()).softmax(-1).mean((1, 2))  # (N, hw)
    side = math.isqrt(weights.shape[1])
    return weights.reshape(-1, side, side)
