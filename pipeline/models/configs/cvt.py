"""What a CvT is made of (models/cvt.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.cvt import CvT

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

    @property
    def early(self) -> int:
        return self.dims[-2]

    def build(self) -> CvT:
        """The network with untrained weights, drawn from torch's global generator. Raises MissingExtra."""
        from pipeline.models.cvt import CvT

        return CvT(self)
