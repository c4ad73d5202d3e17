"""What an MBAN is made of (models/mban.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from pipeline.models.configs.resnet import ResNetConfig

if TYPE_CHECKING:
    from pipeline.models.mban import MBAN

Localisation = Literal["gaussian", "transformer"]
SHARED_STRIDE = 8  # input pixels a position of the second stage


@dataclass(frozen=True)
class MBANConfig:
    """One MBAN. Raises ValueError where the numbers do not fit together."""

    bands: int = 3
    classes: int = 6
    size: int = 256  # pixels a side
    crop_size: int = 256  # of what the auxiliary branch sees; a shared backbone's features have an eighth of it
    shared: bool = False
    localiser: Localisation = "gaussian"
    tau1: float = 0.5  # of the highest attention: what counts as attended
    reach: float = 0.15  # lambda: the Gaussian's deviation in image sides
    tau2: float = 0.5  # of the highest attention within the Gaussian: what the box has to hold
    certain: float | None = None  # difference of the primary's two highest probabilities; None asks for every image
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage

    def __post_init__(self) -> None:
        if self.localiser not in get_args(Localisation):
            raise ValueError(f"expected a localiser of {', '.join(get_args(Localisation))}, got {self.localiser}")
        if self.crop_size < SHARED_STRIDE:
            raise ValueError(f"expected a crop_size of at least {SHARED_STRIDE} px, got {self.crop_size}")
        if self.classes < 2:
            raise ValueError(f"expected at least 2 classes, got {self.classes}")
        if not (0 < self.tau1 <= 1 and 0 < self.tau2 <= 1 and self.reach > 0):
            raise ValueError(
                f"expected tau1 and tau2 in (0, 1] and a reach above 0, got {self.tau1}, {self.tau2} and {self.reach}"
            )
        if self.certain is not None and not 0 <= self.certain <= 1:
            raise ValueError(f"expected certain from 0 to 1, got {self.certain}")
        _ = self.backbone  # refuses what is wrong with the other numbers

    @property
    def backbone(self) -> ResNetConfig:
        return ResNetConfig(self.bands, self.classes, self.size, widths=self.widths)

    @property
    def scalars(self) -> tuple[str, ...]:
        box = ("box_cx", "box_cy", "box_sx", "box_sy")
        return (*box, "js_primary_aux", "primary_max", "aux_max", "aux_used")

    @property
    def features(self) -> int:
        return self.widths[-1]

    @property
    def early(self) -> int:
        return self.widths[-2]

    def build(self) -> MBAN:
        """The network with untrained weights, drawn from torch's global generator."""
        from pipeline.models.mban import MBAN

        return MBAN(self)
