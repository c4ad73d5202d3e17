"""What an AG-CNN is made of (models/agcnn.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from pipeline.models.agcnn import AGCNN

Fixed = Literal["softmax", "sigmoid", "range", "std"]
Normalisation = Literal[Fixed, "mix"]
Aggregation = Literal["mean", "concat", "deep_supervised", "fine_tuned"]
Pooling = Literal["sum", "mean"]
CONVOLUTIONS = (3, 3, 3, 2)  # of each stage
LEAST_SIZE = 2 ** (len(CONVOLUTIONS) - 1)  # pixels a side that leave one after the pooling
SUMMARIES = ("peak_x", "peak_y", "sigma", "entropy", "central")  # as in pipeline/attention.py
ZONES = (0.15, 0.35)  # outer radii of core and disc in image sides; our guess (reference sec. 6, item 9)
ZONE_NAMES = ("core", "disc")  # the background has the rest
MIX_NAMES = ("weight_range", "weight_sigmoid", "weight_softmax", "temperature")  # what a learned mix chooses


@dataclass(frozen=True)
class AGCNNConfig:
    """One AG-CNN; the defaults are the paper's main form. Raises ValueError where they do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side; the paper's radio images have 150
    gates: int = 3  # the first looks at a quarter of the resolution, the second at half, the third at all
    normalisation: Normalisation = "range"
    aggregation: Aggregation = "fine_tuned"
    pooling: Pooling = "sum"  # "mean" divides by the map's sum, so that logits do not grow with the image
    structure_aware: bool = False  # core, disc and background are pooled apart
    head_slope: float = 0.0  # of the fine-tuned heads below 0: the paper's ReLU can shut a head for good
    dropout: float = 0.5  # of the pooled features, in training
    widths: tuple[int, ...] = (6, 16, 32, 64)  # channels of each stage
    gate_channels: int = 64

    def __post_init__(self) -> None:
        self._check_choices()
        if len(self.widths) != len(CONVOLUTIONS):
            raise ValueError(f"expected {len(CONVOLUTIONS)} widths, got {self.widths}")
        if min(self.bands, self.classes, self.gate_channels, *self.widths) < 1:
            raise ValueError(f"expected numbers of at least 1, got {self}")
        if not 1 <= self.gates < len(self.widths):
            raise ValueError(f"expected 1 to {len(self.widths) - 1} gates, got {self.gates}")
        if self.size < LEAST_SIZE:
            raise ValueError(f"expected a size of at least {LEAST_SIZE} px, got {self.size}")
        if not (0 <= self.dropout < 1 and 0 <= self.head_slope <= 1):
            raise ValueError(f"expected dropout and head_slope below 1, got {self.dropout} and {self.head_slope}")

    def _check_choices(self) -> None:
        for name, allowed in (("normalisation", Normalisation), ("aggregation", Aggregation), ("pooling", Pooling)):
            if (value := getattr(self, name)) not in get_args(allowed):
                raise ValueError(f"expected a {name} of {', '.join(get_args(allowed))}, got {value}")
        if self.normalisation == "std" and self.pooling == "mean":
            raise ValueError("expected pooling sum with normalisation std: the sum of a signed map may be 0")

    @property
    def scalars(self) -> tuple[str, ...]:
        zones = ZONE_NAMES if self.structure_aware else ()
        mix = MIX_NAMES if self.normalisation == "mix" else ()
        return tuple(f"gate{gate}_{name}" for gate in range(1, self.gates + 1) for name in (*SUMMARIES, *zones, *mix))

    @property
    def features(self) -> int:
        return (1 + len(ZONES) if self.structure_aware else 1) * sum(self.gated)

    @property
    def early(self) -> int:
        return self.widths[-1]

    @property
    def gated(self) -> tuple[int, ...]:
        """Channels that each gate looks at, of the deepest stage but one first."""
        return self.widths[-2::-1][: self.gates]

    def build(self) -> AGCNN:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.agcnn import AGCNN

        return AGCNN(self)
