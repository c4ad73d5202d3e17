"""DMAGNet as a CPU computes it fastest: the same function of the same weights, arranged for oneDNN and its caches.

What it does otherwise than `dmagnet.py`, each exact up to the rounding of float32:

* every batch norm next to a pointwise or strided convolution is folded into it; only those before a padded depthwise
  kernel stay, since a padding of zeros comes after them
* MS-FFN goes group by group, from its slice of the first layer to its slice of the last, so that nothing is split or
  joined in memory; a group's identity is the middle of its depthwise kernel
* the dilated kernel runs on each of its interleaved sub-grids in turn, without padding to a multiple
* sums and products reuse the memory of their operands

Images come channels last: there oneDNN's pointwise kernels reach 200 GFLOP/s of a core where contiguous planes reach
90 to 120, for they are reordered before and after each layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.activation import over_positions
from pipeline.models.dmagnet import (
    DMA,
    AttentionalFusion,
    DMAGNet,
    DynamicLargeKernel,
    MultiScaleFeedForward,
    Stage,
    polyphase,
)
from pipeline.models.network import NetworkResult


class FoldedDMAGNet(nn.Module):
    """Images (N, C, S, S) in [0, 1] to what the DMAGNet in eval mode says that it was made from."""

    def __init__(self, network: DMAGNet) -> None:
        super().__init__()
        self.scalars = network.scalars
        self.stem = _joined(network.stem)
        self.stages = nn.ModuleList(_FoldedStage(stage) for stage in network.stages if isinstance(stage, Stage))
        self.norm, self.pool, self.classifier = network.norm, network.pool, network.classifier

    def forward(self, images: Tensor) -> NetworkResult:
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        large_fractions, stages = [], []
        for stage in self.stages:
            x, large_fraction = stage(x)
            large_fractions.append(large_fraction)
            stages.append(x)
        pooled = self.pool(self.norm(x))
        scalars = dict(zip(self.scalars, [pooled.spread, *large_fractions], strict=True))
        heads = {f"head {number}": map_ for number, map_ in enumerate(pooled.heads.unbind(1), start=1)}
        logits, early = self.classifier(pooled.features), over_positions(stages[-2:][0])
        return NetworkResult(logits, pooled.attention, scalars, pooled.features, early, heads)


class _FoldedStage(nn.Module):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.down = _joined(stage.down) if isinstance(stage.down, nn.Sequential) else nn.Identity()
        self.blocks = nn.ModuleList(_FoldedDMA(block) for block in stage.blocks if isinstance(block, DMA))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(x)
        for block in self.blocks:
            x, log_odds = block(x)
        return x, log_odds.sigmoid().mean((1, 2))


class _FoldedDMA(nn.Module):
    def __init__(self, block: DMA) -> None:
        super().__init__()
        self.kernel = _FoldedLargeKernel(block.kernel, block.kernel_norm)
        self.kernel_fusion = _FoldedFusion(block.kernel_fusion)
        self.feed_forward = _FoldedFeedForward(block.feed_forward, block.feed_forward_norm)
        self.feed_forward_fusion = _FoldedFusion(block.feed_forward_fusion)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        branch, log_odds = self.kernel(x)
        x = self.kernel_fusion(branch, x)
        return self.feed_forward_fusion(self.feed_forward(x), x), log_odds


class _FoldedLargeKernel(nn.Module):
    def __init__(self, kernel: DynamicLargeKernel, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.enter = _after_norm(norm, kernel.enter)
        self.small, self.large, self.select, self.leave = kernel.small, kernel.large, kernel.select, kernel.leave

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the same shape, and the logarithm of the large kernel's weight over the small one's."""
        x = F.gelu(self.enter(x))
        small = self.small(x)
        large = polyphase(small, self.large.weight, self.large.bias, self.large.dilation[0])
        mean = (small.mean(1, keepdim=True) + large.mean(1, keepdim=True)) / 2
        peak = torch.maximum(small.amax(1, keepdim=True), large.amax(1, keepdim=True))
        scores = self.select(torch.cat([mean, peak], 1))  # (N, 2, H, W)
        weight_small, weight_large = scores.sigmoid().split(1, 1)
        log_small, log_large = F.logsigmoid(scores.float()).unbind(1)
        mixed = x.addcmul_(small, weight_small).addcmul_(large, weight_large)
        return self.leave(mixed), log_large - log_small


class _FoldedFeedForward(nn.Module):
    def __init__(self, feed_forward: MultiScaleFeedForward, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        up, down = _after_norm(norm, feed_forward.up), _after_norm(feed_forward.mix_norm, feed_forward.down)
        down = _fused(down, feed_forward.down_norm)
        width = up.out_channels // len(feed_forward.scales)
        parts = [slice(start, start + width) for start in range(0, up.out_channels, width)]
        self.ups = nn.ModuleList(_outputs(up, part) for part in parts)
        self.norms = nn.ModuleList(_channels(feed_forward.up_norm, part) for part in parts)
        self.scales = nn.ModuleList(_with_identity(scale) for scale in feed_forward.scales)
        self.downs = nn.ModuleList(_inputs(down, part, with_bias=not part.start) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        total: Tensor | None = None
        for up, norm, scale, down in zip(self.ups, self.norms, self.scales, self.downs, strict=True):
            part = down(F.gelu(scale(norm(F.gelu(up(x))))))
            total = part if total is None else total.add_(part)
        return x if total is None else total


class _FoldedFusion(nn.Module):
    def __init__(self, fusion: AttentionalFusion) -> None:
        super().__init__()
        self.local_context, self.global_context = _folded(fusion.local_context), _folded(fusion.global_context)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        both = x + identity
        pooled = both.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        weight = self.local_context(both).add_(self.global_context(pooled)).sigmoid_()
        # 2 (w x + (1 - w) identity) = 2 identity + 2 w (x - identity), in the memory of x, which nobody else reads
        return x.sub_(identity).mul_(weight).add_(identity).mul_(2)


def _joined(pair: nn.Sequential) -> nn.Conv2d:
    """A convolution and its norm as one convolution."""
    return _fused(*pair)


def _folded(context: nn.Sequential) -> nn.Sequential:
    """The bottleneck of a fusion without its norms."""
    enter, first, _relu, leave, last = context
    return nn.Sequential(_fused(enter, first), nn.ReLU(inplace=True), _fused(leave, last))


def _fused(layer: nn.Module, norm: nn.Module) -> nn.Conv2d:
    if not isinstance(layer, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"expected a convolution and its norm, got {layer!r} and {norm!r}")
    return _channels_last(fuse_conv_bn_eval(layer, norm))


def _after_norm(norm: nn.BatchNorm2d, layer: nn.Conv2d) -> nn.Conv2d:
    """A pointwise layer that takes what came before the norm: W (a x + b) + c = (W a) x + (W b + c)."""
    scale, shift = _affine(norm)
    weight = layer.weight[:, :, 0, 0]
    bias = weight @ shift + (0 if layer.bias is None else layer.bias)
    return _pointwise(weight * scale, bias)


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a norm in eval mode multiplies each channel by and then adds."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("expected a batch norm with running statistics, got one without")
    scale = norm.weight / (variance + norm.eps).sqrt()
    return scale, norm.bias - mean * scale


def _pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight[:, :, None, None].clone(), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
    return _channels_last(layer)


def _outputs(layer: nn.Conv2d, part: slice) -> nn.Conv2d:
    return _pointwise(layer.weight[part, :, 0, 0], None if layer.bias is None else layer.bias[part])


def _inputs(layer: nn.Conv2d, part: slice, *, with_bias: bool) -> nn.Conv2d:
    return _pointwise(layer.weight[:, part, 0, 0], layer.bias if with_bias else None)


def _channels(norm: nn.BatchNorm2d, part: slice) -> nn.BatchNorm2d:
    """The norm of some of the channels."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("expected a batch norm with running statistics, got one without")
    some = nn.BatchNorm2d(part.stop - part.start, eps=norm.eps).eval().requires_grad_(False)
    some.weight.copy_(norm.weight[part])
    some.bias.copy_(norm.bias[part])
    some.running_mean, some.running_var = mean[part].clone(), variance[part].clone()
    return some


def _with_identity(scale: nn.Module) -> nn.Conv2d:
    """A depthwise layer that adds its input to its output."""
    if not isinstance(scale, nn.Conv2d):
        raise TypeError(f"expected a convolution, got {scale!r}")
    size = scale.kernel_size[0]
    with_identity = nn.Conv2d(scale.in_channels, scale.out_channels, size, padding=size // 2, groups=scale.groups)
    weight = scale.weight.detach().clone()
    weight[:, :, size // 2, size // 2] += 1
    with_identity.weight = nn.Parameter(weight, requires_grad=False)
    with_identity.bias = scale.bias
    return _channels_last(with_identity)


def _channels_last(layer: nn.Conv2d) -> nn.Conv2d:
    return layer.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload]
