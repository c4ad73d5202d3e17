"""What a DMAGNet is made of (models/dmagnet.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.dmagnet import DMAGNet

SCALES = (1, 3, 5, 7)  # kernels of MS-FFN


@dataclass(frozen=True)
class DMAGNetConfig:
    """Widths and depths of one DMAGNet. Raises ValueError where they do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side
    dims: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage
    depths: tuple[int, ...] = (2, 4, 4, 1)  # DMA blocks of each stage
    stem_kernel: int = 7
    stem_stride: int = 4
    hidden_ratio: int = 4  # hidden channels of MS-FFN a channel
    fusion_reduction: int = 4  # channels a bottleneck channel of AFF
    head_channels: int = 32  # of each head of the attention pooling

    def __post_init__(self) -> None:
        dims, depths = self.dims, self.depths
        if not dims or len(dims) != len(depths):
            raise ValueError(f"expected one depth for each of dims {dims}, got {depths}")
        kernels = (self.stem_kernel, self.stem_stride, self.hidden_ratio, self.fusion_reduction, self.head_channels)
        if min(self.bands, self.classes, self.size, *dims, *depths, *kernels) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if self.size % self.reduction:
            raise ValueError(f"expected a size that {self.reduction} divides, got {self.size}")
        if dims[-1] % self.head_channels:
            raise ValueError(f"expected a last width that {self.head_channels} divides, got {dims[-1]}")
        if min(dims) < self.fusion_reduction:
            raise ValueError(f"expected dims of at least {self.fusion_reduction}, got {dims}")
        if any(width * self.hidden_ratio % len(SCALES) for width in dims):
            raise ValueError(f"expected dims whose hidden widths {len(SCALES)} divides, got {dims}")

    @property
    def reduction(self) -> int:
        """Input pixels a side of one position of the last stage."""
        return self.stem_stride << (len(self.dims) - 1)

    @property
    def scalars(self) -> tuple[str, ...]:
        return ("head_spread", *(f"dlk_large_frac_s{stage}" for stage, _ in enumerate(self.dims, start=1)))

    @property
    def features(self) -> int:
        return self.dims[-1]

    @property
    def early(self) -> int:
        return self.dims[-2:][0]

    def build(self) -> DMAGNet:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.dmagnet import DMAGNet

        return DMAGNet(self)
