"""ResNet: a plain residual network, MBAN's backbone and the baseline that it is measured against.

ResNet-18 is that of He et al. 2015, arXiv:1512.03385, table 1: 11,176,512 parameters before the classifier, the
number that MBAN's two backbones have (reference/networks.md sec. 0).

ResNet-26 is the network of Dai and Tong 2018, arXiv:1807.10406, by name: bottleneck blocks, two a stage, are the
one way to 26 layers in four equal stages (1 + 8 * 3 + 1). Their variant also widens, drops out and reorders the
units; how is in no source at hand, so RESNET26 is the plain form and its accuracy is not theirs.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import class_map, over_positions
from pipeline.models.configs.resnet import EXPANSION, BlockKind, ResNetConfig
from pipeline.models.network import NetworkResult


class ResNet(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits and the class activation map of the predicted class."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.classifier = nn.Linear(self.backbone.channels, config.classes)

    def forward(self, images: Tensor) -> NetworkResult:
        *_, early, deep = self.backbone(images)  # (N, 256, S/16, S/16), (N, 512, S/32, S/32)
        pooled = deep.mean((2, 3))  # (N, 512)
        logits = self.classifier(pooled)
        attention = class_map(deep, self.classifier.weight, logits)
        return NetworkResult(logits, attention, {}, pooled, over_positions(early))


class Backbone(nn.Module):
    """The stages of a ResNet without its classifier; `channels` is the number that comes out of the last."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        first, expansion = config.widths[0], EXPANSION[config.block]
        self.channels = config.widths[-1] * expansion
        self.stem = nn.Sequential(
            nn.Conv2d(config.bands, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        before = [first, *(width * expansion for width in config.widths)]
        self.stages = nn.ModuleList(
            _stage(config.block, before[number], width, depth, 1 if number == 0 else 2)
            for number, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True))
        )
        draw_residual(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, C, S, S) to the features of every stage."""
        x = self.stem(images)  # (N, 64, S/4, S/4)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)  # (N, 64, S/4, S/4), (N, 128, S/8, S/8), (N, 256, S/16, S/16), (N, 512, S/32, S/32)
        return features


class Block(nn.Module):
    """A residual block: 3x3 and 3x3 (basic), or 1x1, 3x3 and 1x1 with four times the channels out (bottleneck).

    The stride is on the first 3x3, as every released ResNet-50 since 2016 has it, and not on the 1x1 of the paper.
    """

    def __init__(self, kind: BlockKind, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = width * EXPANSION[kind]
        if kind == "basic":
            layers = [*_unit(before, width, 3, stride), nn.ReLU(), *_unit(width, after, 3, 1)]
        else:
            layers = [*_unit(before, width, 1, 1), nn.ReLU(), *_unit(width, width, 3, stride), nn.ReLU()]
            layers += _unit(width, after, 1, 1)
        self.residual = nn.Sequential(*layers)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Sequential(*_unit(before, after, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H/stride, W/stride)."""
        return F.relu(self.residual(x) + self.shortcut(x))


def draw_residual(module: nn.Module) -> None:
    """Draw the convolutions as He et al. 2015, arXiv:1502.01852: normal, by the fan out, for ReLU."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def _stage(kind: BlockKind, before: int, width: int, depth: int, stride: int) -> nn.Sequential:
    after = width * EXPANSION[kind]
    return nn.Sequential(Block(kind, before, width, stride), *(Block(kind, after, width, 1) for _ in range(depth - 1)))


def _unit(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution that keeps the side but for its stride, and its norm."""
    return [nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)]
