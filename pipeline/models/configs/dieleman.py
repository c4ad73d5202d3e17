"""What a Dieleman network is made of (models/dieleman.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.dieleman import Dieleman

CONVOLUTIONS = ((6, 40), (5, 16), (3, 6), (3, 4))  # kernel, and positions a side that come out


@dataclass(frozen=True)
class DielemanConfig:
    """One Dieleman network. Raises ValueError where the numbers do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side; resized to FRAME within the network
    channels: tuple[int, ...] = (32, 64, 128, 128)  # of each convolution
    units: int = 2048  # of each maxout layer
    dropout: float = 0.5  # of what the dense layers see, in training

    def __post_init__(self) -> None:
        if len(self.channels) != len(CONVOLUTIONS):
            raise ValueError(f"expected {len(CONVOLUTIONS)} channels, got {self.channels}")
        if min(self.bands, self.classes, self.size, self.units, *self.channels) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"expected dropout from 0 to below 1, got {self.dropout}")

    @property
    def scalars(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return self.units

    @property
    def early(self) -> int:
        return self.channels[-1]

    def build(self) -> Dieleman:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.dieleman import Dieleman

        return Dieleman(self)
