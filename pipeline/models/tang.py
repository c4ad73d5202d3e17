"""Tang: the plain radio-galaxy CNN that AG-CNN is compared with.

Tang, Scaife and Leahy 2019, MNRAS 488, 3358, arXiv:1903.11921: 13 layers. The layers are those of the class that
the authors of AG-CNN released as their baseline (reference/networks.md sec. 0 and 1), not read from the paper. That
class applies one 256-256 layer twice, which gives 184,442 parameters; with two such layers of its own it has
250,234, and only then does AG-CNN have "more than 50 % fewer", as its paper says. Which of them Tang's had is
unknown (sec. 7); here it has two.

It has no attention. Its map is the energy of the last convolution: where features respond, of whatever class.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.models.activation import energy_map, over_positions
from pipeline.models.configs.tang import HIDDEN, LAST, POOLS, TangConfig
from pipeline.models.network import NetworkResult


class Tang(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits and the energy of the last convolution."""

    def __init__(self, config: TangConfig) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_unit(config.bands, 6, 11), nn.MaxPool2d(POOLS[0]),
            *_unit(6, 16, 5), nn.MaxPool2d(POOLS[1]),
            *_unit(16, 24, 3), *_unit(24, 24, 3), *_unit(24, LAST, 3)[:-1],
        )  # fmt: skip
        self.last_norm = nn.BatchNorm2d(LAST)
        self.hidden = nn.Sequential(
            nn.MaxPool2d(POOLS[2]), nn.Flatten(),
            *_dense(LAST * config.pooled**2), nn.Dropout(), *_dense(HIDDEN), nn.Dropout(), *_dense(HIDDEN),
        )  # fmt: skip
        self.dropout = nn.Dropout()
        self.classifier = nn.Linear(HIDDEN, config.classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)  # torch's own draw leaves untrained answers alike to four digits

    def forward(self, images: Tensor) -> NetworkResult:
        deep = self.convolutions(images)  # (N, 16, S/6, S/6), not negative
        pooled = self.hidden(self.last_norm(deep))  # (N, 256)
        logits = self.classifier(self.dropout(pooled))
        return NetworkResult(logits, energy_map(deep), {}, pooled, over_positions(deep))


def _unit(before: int, after: int, kernel: int) -> list[nn.Module]:
    """A convolution that keeps the side. The norm comes after the ReLU."""
    return [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(), nn.BatchNorm2d(after)]


def _dense(before: int) -> list[nn.Module]:
    return [nn.Linear(before, HIDDEN), nn.ReLU()]
