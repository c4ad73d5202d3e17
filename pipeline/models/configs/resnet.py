"""What a ResNet is made of (models/resnet.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pipeline.models.resnet import ResNet

BlockKind = Literal["basic", "bottleneck"]
EXPANSION: dict[BlockKind, int] = {"basic": 1, "bottleneck": 4}  # channels out a channel within
STAGES = 4


@dataclass(frozen=True)
class ResNetConfig:
    """One ResNet. Raises ValueError where the numbers do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side
    block: BlockKind = "basic"
    depths: tuple[int, ...] = (2, 2, 2, 2)  # blocks of each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels within the blocks of each stage

    def __post_init__(self) -> None:
        if self.block not in get_args(BlockKind):
            raise ValueError(f"expected a block of {', '.join(get_args(BlockKind))}, got {self.block}")
        if len(self.depths) != STAGES or len(self.widths) != STAGES:
            raise ValueError(f"expected {STAGES} depths and widths, got {self.depths} and {self.widths}")
        if min(self.bands, self.classes, self.size, *self.depths, *self.widths) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")

    @property
    def scalars(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return self.widths[-1] * EXPANSION[self.block]

    @property
    def early(self) -> int:
        return self.widths[-2] * EXPANSION[self.block]

    def build(self) -> ResNet:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.resnet import ResNet

        return ResNet(self)


RESNET26 = ResNetConfig(block="bottleneck")
