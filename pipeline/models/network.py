"""What a network is: a frozen config that builds a module, and a module that gives logits and attention.

A new network is two files, its config in configs/, which is read without torch, and its module in this package, and
one line each in `NETWORKS` (models/__init__.py), `DESCRIPTIONS`,
tests/test_models.py and tests/test_invariances.py. Torch and the standard library are all that they need; a library
of an extra is imported when the network is built (extra.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION_COLUMNS = (
    *("peak_x", "peak_y", "cx", "cy", "sigma", "e1", "e2", "ellip", "pa"),
    *("entropy", "area50", "gini", "central", "raw_min", "raw_max", "flat"),
)  # of every attention map (pipeline/attention.py)


@dataclass(frozen=True, eq=False)
class NetworkResult:
    """One forward pass. Every value of an image depends on that image alone, never on its batch."""

    logits: Tensor  # (N, K)
    attention: Tensor  # (N, h, w) the network's spatial attention map, any non-negative scale
    scalars: Mapping[str, Tensor]  # column suffix -> (N,) what else the attention says
    features: Tensor  # (N, D) pooled over the image, what the classifier reads
    early: Tensor  # (N, E) mean over the image of the last stage but one, or of what gates or dense layers read
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (N, h, w), what the map was made of


class Network(Protocol):
    """What a network's module does. Images are (N, C, S, S) float32 in [0, 1]."""

    def __call__(self, images: Tensor) -> NetworkResult: ...


class NetworkConfig(Protocol):
    """A frozen dataclass of plain values: it is written into the checkpoint's header as JSON."""

    @property
    def bands(self) -> int: ...  # channels of the input image
    @property
    def classes(self) -> int: ...
    @property
    def size(self) -> int: ...  # pixels a side of the input image
    @property
    def scalars(self) -> tuple[str, ...]: ...  # names of NetworkResult.scalars, in the catalogue's order
    @property
    def features(self) -> int: ...  # D of NetworkResult.features
    @property
    def early(self) -> int: ...  # E of NetworkResult.early

    def build(self) -> nn.Module:
        """The network with untrained weights, drawn from torch's global generator."""
        ...


def attention_columns(config: NetworkConfig) -> tuple[str, ...]:
    """The attention columns of a network, in the order of the catalogue and without its prefix."""
    return (*ATTENTION_COLUMNS, *config.scalars)


def gflops(config: NetworkConfig) -> float:
    """Billions of operations an image, two a multiply-add, as torch counts them; without making the weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        config.build().eval()(torch.empty(1, config.bands, config.size, config.size))
    return counter.get_total_flops() / 1e9


def attention_grid(config: NetworkConfig) -> tuple[int, int]:
    """Rows and columns of a network's attention maps; without making the weights."""
    import torch

    with torch.device("meta"), torch.inference_mode():
        maps = config.build().eval()(torch.empty(1, config.bands, config.size, config.size)).attention
    return maps.shape[1], maps.shape[2]
