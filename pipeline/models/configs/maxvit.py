"""What a MaxViT is made of (models/maxvit.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.maxvit import MaxViT

BANDS = 3  # of torchvision's stem
STAGES = 4
REDUCTION = 32  # input pixels a side of one position of the last stage


@dataclass(frozen=True)
class MaxViTConfig:
    """One MaxViT; the defaults are MaxViT-T. Raises ValueError where the numbers do not fit together."""

    bands: int = BANDS
    classes: int = 6
    size: int = 256  # pixels a side
    dims: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage
    depths: tuple[int, ...] = (2, 2, 5, 2)  # layers of each stage
    stem: int = 64  # channels
    head_channels: int = 32  # of each attention head
    drop_path: float = 0.2  # of the last layer, in training

    def __post_init__(self) -> None:
        if self.bands != BANDS:
            raise ValueError(f"expected {BANDS} bands, got {self.bands}")
        if len(self.dims) != STAGES or len(self.depths) != STAGES:
            raise ValueError(f"expected {STAGES} dims and depths, got {self.dims} and {self.depths}")
        if min(self.classes, self.size, self.stem, self.head_channels, *self.dims, *self.depths) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if self.size % REDUCTION:
            raise ValueError(f"expected a size that {REDUCTION} divides, got {self.size}")
        if any(width % self.head_channels for width in self.dims):
            raise ValueError(f"expected dims that {self.head_channels} divides, got {self.dims}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"expected drop_path from 0 to below 1, got {self.drop_path}")

    @property
    def scalars(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return self.dims[-1]

    @property
    def early(self) -> int:
        return self.dims[-2]

    def build(self) -> MaxViT:
        """The network with untrained weights, drawn from torch's global generator. Raises MissingExtra."""
        from pipeline.models.maxvit import MaxViT

        return MaxViT(self)
