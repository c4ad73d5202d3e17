"""What a Tang CNN is made of (models/tang.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.tang import Tang

HIDDEN = 256  # units of each dense layer
LAST = 16  # channels of the last convolution
POOLS = (2, 3, 5)  # pixels a side that become one


@dataclass(frozen=True)
class TangConfig:
    """One Tang CNN. Raises ValueError where the pooling would leave no pixel."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side; the paper's radio images have 150

    def __post_init__(self) -> None:
        if min(self.bands, self.classes) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if self.pooled < 1:
            raise ValueError(f"expected a size of at least 30 px, got {self.size}")

    @property
    def pooled(self) -> int:
        """Positions a side after the last pooling."""
        side = self.size
        for pool in POOLS:
            side //= pool
        return side

    @property
    def scalars(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return HIDDEN

    @property
    def early(self) -> int:
        return LAST

    def build(self) -> Tang:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.tang import Tang

        return Tang(self)
