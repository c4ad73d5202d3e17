"""What networks cost, counted once: counting takes seconds, and a plan should not wait for it.

The tests hold every figure to what torch counts. Any other config is counted when it is asked for, as are the two whose
library may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.models import NETWORKS
from pipeline.models.network import NetworkConfig, attention_grid, gflops

SHIPPED_SIZE = 96  # pixels a side, of the checkpoints that come with the package


@dataclass(frozen=True)
class Figures:
    """Of one image."""

    parameters: int
    operations: int  # two a multiply-add
    grid: tuple[int, int]  # rows and columns of the attention map
    sees: int | None  # receptive.py; None: all


_BY_NAME: Mapping[str, Figures] = {
    "dmagnet_f": Figures(9_408_520, 4_838_810_112, (8, 8), None),
    "dmagnet_m": Figures(9_351_444, 9_773_476_352, (16, 16), None),
    "agcnn": Figures(101_883, 725_877_600, (256, 256), 90),
    "agcnn_mix": Figures(102_663, 726_395_232, (256, 256), 90),
    "mban": Figures(22_365_330, 9_474_957_312, (8, 8), None),
    "mban_shared": Figures(15_803_509, 4_974_481_408, (8, 8), None),
    "resnet18": Figures(11_179_590, 4_737_472_512, (8, 8), None),
    "resnet26": Figures(13_958_470, 6_113_222_656, (8, 8), 195),
    "tang": Figures(412_458, 407_582_208, (42, 42), 84),
    "dieleman": Figures(42_313_606, 840_720_384, (47, 47), 69),
}
_SHIPPED: Mapping[str, Figures] = {
    "dmagnet_f": Figures(9_380_360, 683_294_792, (3, 3), None),
    "agcnn": Figures(101_883, 102_077_280, (96, 96), 90),
    "mban_shared": Figures(15_798_229, 901_408_448, (3, 3), None),
}
COUNTED: Mapping[NetworkConfig, Figures] = {
    **{NETWORKS[name]: figures for name, figures in _BY_NAME.items() if name in NETWORKS},
    **{replace(NETWORKS[name], size=SHIPPED_SIZE): figures for name, figures in _SHIPPED.items() if name in NETWORKS},  # type: ignore[type-var]
}


def parameters(config: NetworkConfig) -> int:
    """How many the network has. Raises MissingExtra where its library is missing."""
    if config in COUNTED:
        return COUNTED[config].parameters
    import torch

    with torch.device("meta"):
        return sum(tensor.numel() for tensor in config.build().parameters())


def work(config: NetworkConfig) -> float:
    """Billions of operations an image."""
    return COUNTED[config].operations / 1e9 if config in COUNTED else gflops(config)


def grid(config: NetworkConfig) -> tuple[int, int]:
    """Rows and columns of the attention maps."""
    return COUNTED[config].grid if config in COUNTED else attention_grid(config)


def sees(config: NetworkConfig) -> int | None:
    """Pixels across that the middle of the last feature map depends on; None is all of the image."""
    from pipeline.models.receptive import receptive_field

    return COUNTED[config].sees if config in COUNTED else receptive_field(config)
