"""DMAGNet: dynamic large kernels and multi-scale feed-forward layers, fused and pooled by attention.

Ma, Qiu, Luo et al. 2025, MNRAS 541, 1928. The paper gives the modules, 9.4 M parameters and 4.8 GFLOPs, not
the widths and depths: the defaults here are a layout that meets both numbers (reference/networks.md sec. 3.3:
9,408,520 and 4.84 G at 3x256x256, two operations a multiply-add), not the authors' own. The modules follow

* DLK: D-Net, Yang et al. 2024, arXiv:2403.10674, in two dimensions
* MS-FFN: TransXNet, Lou et al. 2023, arXiv:2310.19380
* AFF: Dai et al. 2021, arXiv:2009.14082, in place of every residual sum
* attention pooling: CLIP, Radford et al. 2021, arXiv:2103.00020
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import over_positions
from pipeline.models.configs.dmagnet import SCALES, DMAGNetConfig
from pipeline.models.network import NetworkResult

FIRST_CONTEXT = 0.1  # deviation of each context of a fusion before training


class DMAGNet(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits, the pooling's attention map and its scalars.

    `head_spread` is the mean over heads of the distance from a head's centroid to the map's, in image sides.
    `dlk_large_frac_s1` and on: the large kernel's share in the last block of each stage, mean over pixels.
    """

    def __init__(self, config: DMAGNetConfig) -> None:
        super().__init__()
        widths = config.dims
        self.scalars = config.scalars
        self.stem = _reduce(config.bands, widths[0], config.stem_kernel, config.stem_stride)
        self.stages = nn.ModuleList(Stage(config, number) for number in range(len(widths)))
        self.norm = nn.BatchNorm2d(widths[-1])
        positions = (config.size // config.reduction) ** 2
        self.pool = AttentionPool(widths[-1], positions, widths[-1] // config.head_channels)
        self.classifier = nn.Linear(widths[-1], config.classes)

    def forward(self, images: Tensor) -> NetworkResult:
        x = self.stem(images)  # (N, 64, S/4, S/4)
        large_fractions, stages = [], []
        for stage in self.stages:  # (N, 128, S/8, S/8), (N, 256, S/16, S/16), (N, 512, S/32, S/32)
            x, large_fraction = stage(x)
            large_fractions.append(large_fraction)
            stages.append(x)
        pooled = self.pool(self.norm(x))
        scalars = dict(zip(self.scalars, [pooled.spread, *large_fractions], strict=True))
        heads = {f"head {number}": pooled.heads[:, number - 1] for number in range(1, self.pool.heads + 1)}
        logits, early = self.classifier(pooled.features), over_positions(stages[-2:][0])
        return NetworkResult(logits, pooled.attention, scalars, pooled.features, early, heads)


class Stage(nn.Module):
    """Half the side from the second stage on, then `depths[number]` blocks."""

    def __init__(self, config: DMAGNetConfig, number: int) -> None:
        super().__init__()
        width = config.dims[number]
        self.down = _reduce(config.dims[number - 1], width, 2, 2) if number else nn.Identity()
        self.blocks = nn.ModuleList(
            DMA(width, config.hidden_ratio, config.fusion_reduction) for _ in range(config.depths[number])
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to (N, 2C, H/2, W/2), and the large kernel's share in the last block (N,)."""
        x = self.down(x)
        for block in self.blocks:
            x, large_fraction = block(x)
        return x, large_fraction


class DMA(nn.Module):
    """A dynamic large kernel, then a multi-scale feed-forward network, each fused with its input."""

    def __init__(self, channels: int, hidden_ratio: int, fusion_reduction: int) -> None:
        super().__init__()
        self.kernel_norm = nn.BatchNorm2d(channels)
        self.kernel = DynamicLargeKernel(channels)
        self.kernel_fusion = AttentionalFusion(channels, fusion_reduction)
        self.feed_forward_norm = nn.BatchNorm2d(channels)
        self.feed_forward = MultiScaleFeedForward(channels, hidden_ratio)
        self.feed_forward_fusion = AttentionalFusion(channels, fusion_reduction)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the same shape, and the large kernel's share (N,)."""
        branch, large_fraction = self.kernel(self.kernel_norm(x))
        x = self.kernel_fusion(branch, x)
        return self.feed_forward_fusion(self.feed_forward(self.feed_forward_norm(x)), x), large_fraction


class DynamicLargeKernel(nn.Module):
    """DLK (D-Net): each pixel weighs a 5-pixel kernel against a 5 + 6 * 3 = 23-pixel one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.small = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.large = DilatedDepthwise(channels, kernel=7, dilation=3)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the same shape, and the mean over pixels of the large kernel's share (N,)."""
        x = F.gelu(self.enter(x))
        small = self.small(x)
        large = self.large(small)
        # Mean and maximum over the 2C channels of both kernels, without the memory of their concatenation.
        mean = (small.mean(1, keepdim=True) + large.mean(1, keepdim=True)) / 2
        peak = torch.maximum(small.amax(1, keepdim=True), large.amax(1, keepdim=True))
        scores = self.select(torch.cat([mean, peak], 1))  # (N, 2, H, W)
        weight_small, weight_large = scores.sigmoid().split(1, 1)
        # w2 / (w1 + w2) from the logarithms, because both weights can be too small for a float.
        log_small, log_large = F.logsigmoid(scores.float()).unbind(1)
        large_fraction = (log_large - log_small).sigmoid().mean((1, 2))
        return self.leave(small * weight_small + large * weight_large + x), large_fraction


class DilatedDepthwise(nn.Conv2d):
    """A dilated depthwise convolution that keeps the side; on the CPU by its polyphase form.

    oneDNN's dilated depthwise kernel takes three to five times as long as the polyphase form
    (reference/networks.md sec. 8), while cuDNN has no use for it.
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2 * dilation, dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        on_cpu = x.device.type == "cpu"
        return polyphase(x, self.weight, self.bias, self.dilation[0]) if on_cpu else super().forward(x)


def polyphase(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """A dilated depthwise convolution (N, C, H, W) as plain ones on its d x d interleaved sub-grids.

    Exact: every tap of a dilated kernel falls on the sub-grid of the output pixel, so they never mix.
    """
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    padding, groups = weight.shape[-1] // 2, x.shape[1]
    whole = torch.empty_like(x)
    for row in range(min(dilation, x.shape[2])):
        for column in range(min(dilation, x.shape[3])):
            grid = x[:, :, row::dilation, column::dilation].contiguous(memory_format=layout)
            whole[:, :, row::dilation, column::dilation] = F.conv2d(grid, weight, bias, padding=padding, groups=groups)
    return whole


class MultiScaleFeedForward(nn.Module):
    """MS-FFN (TransXNet): the hidden channels in four groups, one depthwise kernel each, and an identity."""

    def __init__(self, channels: int, hidden_ratio: int) -> None:
        super().__init__()
        hidden = channels * hidden_ratio
        group = hidden // len(SCALES)
        self.up = nn.Conv2d(channels, hidden, 1, bias=False)
        self.up_norm = nn.BatchNorm2d(hidden)
        self.scales = nn.ModuleList(nn.Conv2d(group, group, k, padding=k // 2, groups=group) for k in SCALES)
        self.mix_norm = nn.BatchNorm2d(hidden)
        self.down = nn.Conv2d(hidden, channels, 1, bias=False)
        self.down_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_norm(F.gelu(self.up(x)))  # (N, 4C, H, W)
        groups = x.chunk(len(SCALES), 1)
        x = torch.cat([scale(group) for scale, group in zip(self.scales, groups, strict=True)], 1) + x
        return self.down_norm(self.down(self.mix_norm(F.gelu(x))))  # (N, C, H, W)


class AttentionalFusion(nn.Module):
    """AFF: 2 (w x + (1 - w) identity), w from local and global context; w = 1/2 is the plain residual sum.

    The factor 2 is in the authors' code, not in their formula (reference/networks.md sec. 3.2). Both contexts begin
    small: at full size 22 fusions multiply the gradient to a norm of 3,500, against 5, and nothing is learned.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.local_context = _bottleneck(channels, channels // reduction)
        self.global_context = _bottleneck(channels, channels // reduction)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        both = x + identity
        pooled = both.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        weight = (self.local_context(both) + self.global_context(pooled)).sigmoid()
        return 2 * torch.lerp(identity, x, weight)


@dataclass(frozen=True, eq=False)
class Pooled:
    """What the attention pooling gives."""

    features: Tensor  # (N, C)
    attention: Tensor  # (N, h, w) of sum 1
    spread: Tensor  # (N,) how far the heads look apart, in image sides
    heads: Tensor  # (N, heads, h, w) each head's own map, of sum 1


class AttentionPool(nn.Module):
    """CLIP's pooling: the mean token asks, every position and the mean itself answer."""

    def __init__(self, channels: int, positions: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.randn(positions + 1, channels) / channels**0.5)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.leave = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Pooled:
        """Of (N, C, h, w)."""
        count, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (N, hw, C)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.position  # (N, 1 + hw, C)
        query = self.query(tokens[:, :1]).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, 1, c)
        pairs = self.key_value(tokens).unflatten(-1, (2, self.heads, -1))  # (N, 1 + hw, 2, heads, c)
        key, value = pairs.permute(2, 0, 3, 1, 4)  # (N, heads, 1 + hw, c) each
        scores = (query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5).float()  # (N, heads, 1, 1 + hw)
        weights = scores.softmax(-1)
        features = self.leave((weights.to(value.dtype) @ value).reshape(count, channels))
        attention = weights[:, :, 0, 1:].mean(1)  # (N, hw) without the mean token
        attention = attention / attention.sum(1, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
        heads = scores[:, :, 0, 1:].softmax(-1)  # (N, heads, hw) each head's own map
        spread = (_centroid(heads, width) - _centroid(attention, width)[:, None]).norm(dim=-1).mean(1)
        return Pooled(features, attention.reshape(count, height, width), spread, heads.unflatten(-1, (height, width)))


def _centroid(maps: Tensor, width: int) -> Tensor:
    """Maps (..., hw) of sum 1 to their centroids (..., 2), x and y in image sides."""
    pixels = torch.arange(maps.shape[-1], device=maps.device)
    height = maps.shape[-1] // width
    x = (pixels % width + 0.5) / width
    y = (pixels // width + 0.5) / height
    return torch.stack([(maps * x).sum(-1), (maps * y).sum(-1)], -1)


def _reduce(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    """A strided convolution and its norm; padded only where its windows overlap."""
    padding = kernel // 2 if kernel > stride else 0
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, padding), nn.BatchNorm2d(after))


def _bottleneck(channels: int, inner: int) -> nn.Sequential:
    last = nn.BatchNorm2d(channels)
    nn.init.constant_(last.weight, FIRST_CONTEXT)
    enter, leave = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
    return nn.Sequential(enter, nn.BatchNorm2d(inner), nn.ReLU(), leave, last)
