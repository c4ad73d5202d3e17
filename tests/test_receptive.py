"""How far networks see, against fields that were reckoned by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.configs.mban import MBANConfig
from pipeline.models.configs.resnet import ResNetConfig
from pipeline.models.configs.tang import TangConfig
from pipeline.models.figures import COUNTED, SHIPPED_SIZE, grid, parameters, work
from pipeline.models.network import NetworkConfig, attention_grid, gflops
from pipeline.models.receptive import receptive_field


@dataclass(frozen=True)
class Layers:
    """A chain of layers in place of a network."""

    layers: tuple[nn.Module, ...]
    size: int = 64
    bands: int = 1
    classes: int = 1
    scalars: tuple[str, ...] = ()
    features: int = 1
    early: int = 1

    def build(self) -> nn.Module:
        return nn.Sequential(*self.layers)


class WeighedByAll(nn.Module):
    """Squeeze and excitation: every position is scaled by what all of them are."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def conv(kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(1, 1, kernel, stride, kernel // 2 * dilation, dilation)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((conv(3),), 3),
        ((conv(3), nn.ReLU(), conv(3)), 5),
        ((conv(7), nn.MaxPool2d(2), conv(3)), 7 + 1 + 2 * 2),  # the pooling adds one, and a step after it is two
        ((conv(3, stride=2), conv(3, stride=2), conv(3)), 3 + 2 * 2 + 2 * 4),
        ((conv(5), conv(7, dilation=3)), 5 + 6 * 3),  # the large kernel of DMAGNet
        ((conv(3), nn.BatchNorm2d(1), nn.AdaptiveAvgPool2d(1)), 3),  # what is pooled for good is no map
        ((conv(61),), 61),
        ((conv(65),), None),
        ((conv(3), WeighedByAll()), None),
        ((WeighedByAll(), conv(3)), None),
    ],
)
def test_a_field_is_the_one_reckoned_by_hand(layers: tuple[nn.Module, ...], expected: int | None) -> None:
    assert receptive_field(Layers(layers)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # 11; pool 2: 12; 5 at steps of 2: 20; pool 3: 24; three of 3 at steps of 6: 60; pool 5: 84
        (TangConfig(), 84),
        # 7 and 3 at steps of 2: 11; two of 3 at 4: 27; one at 4, one at 8: 51; at 8 and 16: 99; at 16 and 32: 195
        (ResNetConfig(block="bottleneck", widths=(4, 4, 4, 4)), 195),
        (ResNetConfig(widths=(4, 4, 4, 4), size=512), 435),
        (ResNetConfig(widths=(4, 4, 4, 4)), None),
        # three of 3: 7; 8; at 2: 20; 22; at 4: 46; 50; two at 8: 82; and its neighbour by bilinear interpolation: 90
        (AGCNNConfig(size=128), 90),
        (DMAGNetConfig(dims=(4, 8), depths=(1, 1), head_channels=4), None),  # fusion pools over the image
        (MBANConfig(widths=(4, 4, 4, 4)), None),
        (CvTConfig(size=64, dims=(8, 12, 16), depths=(1, 2, 3), heads=(1, 2, 2)), None),
    ],
)
def test_a_network_sees_as_far_as_its_layers_add_up_to(config: NetworkConfig, expected: int | None) -> None:
    assert receptive_field(config) == expected


@pytest.mark.parametrize("config", COUNTED, ids=lambda config: f"{type(config).__name__} {config.size}")
def test_the_figures_of_a_network_are_what_is_counted(config: NetworkConfig) -> None:
    figures = COUNTED[config]
    with torch.device("meta"):
        assert figures.parameters == sum(tensor.numel() for tensor in config.build().parameters())
    assert figures.operations == gflops(config) * 1e9
    assert figures.grid == attention_grid(config)
    if config.size == SHIPPED_SIZE or figures.sees is not None:  # the others take seconds each
        assert figures.sees == receptive_field(config)


def test_what_is_none_of_the_networks_is_counted() -> None:
    config = TangConfig(size=128)
    assert (work(config), grid(config)) == (gflops(config), attention_grid(config))
    assert parameters(config) != parameters(TangConfig())
    assert work(config) != work(TangConfig())


def test_asking_draws_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    receptive_field(TangConfig(size=30))
    assert torch.equal(torch.get_rng_state(), state)
