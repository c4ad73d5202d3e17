"""The baselines without attention: their published sizes, their layers, and maps that say where features respond."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import class_map, energy_map
from pipeline.models.configs.dieleman import DielemanConfig
from pipeline.models.configs.resnet import RESNET26, ResNetConfig
from pipeline.models.configs.tang import TangConfig
from pipeline.models.dieleman import on_the_frame, parts
from pipeline.models.network import NetworkConfig, gflops

RADIO = TangConfig(bands=1, classes=2, size=150)
SMALL = (
    ResNetConfig(size=64, widths=(4, 6, 8, 10)),
    ResNetConfig(size=64, widths=(4, 4, 4, 4), block="bottleneck"),
    TangConfig(size=30),
    DielemanConfig(bands=1, size=64, channels=(2, 2, 4, 4), units=16),
)
each_baseline = pytest.mark.parametrize("config", SMALL, ids=["resnet18", "resnet26", "tang", "dieleman"])


def built(config: NetworkConfig) -> nn.Module:
    """Random weights in float64, in which rounding cannot pass for a fault."""
    torch.manual_seed(3)
    return config.build().double().eval()


def galaxies(config: NetworkConfig, count: int) -> Tensor:
    shape = (count, config.bands, config.size, config.size)
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def parameters(config: NetworkConfig) -> int:
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in config.build().parameters())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ResNetConfig(classes=1000), 11_176_512 + 512 * 1000 + 1000),  # 11.7 M, as every release for ImageNet
        (replace(RESNET26, classes=1000), 15_995_176),  # 16.0 M
        (RADIO, 250_234),
        (DielemanConfig(), 42_313_606),  # "about 42 million"
    ],
)
def test_a_baseline_has_the_published_number_of_parameters(config: NetworkConfig, expected: int) -> None:
    assert parameters(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"), [(ResNetConfig(size=224), 3.627), (RADIO, 0.075), (DielemanConfig(), 0.841)]
)
def test_a_baseline_costs_what_was_counted(config: NetworkConfig, expected: float) -> None:
    assert gflops(config) == pytest.approx(expected, abs=0.0015)


@pytest.mark.parametrize(("config", "layers"), [(ResNetConfig(), 18), (RESNET26, 26)])
def test_a_resnet_has_as_many_layers_as_its_name_says(config: ResNetConfig, layers: int) -> None:
    with torch.device("meta"):
        module = config.build()
    weighted = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len([name for name in weighted if "shortcut" not in name]) == layers


def test_a_resnet_shrinks_its_stages_as_the_paper_does() -> None:
    module = ResNetConfig(widths=(4, 8, 12, 16)).build().eval()
    shapes = [tuple(features.shape[1:]) for features in module.backbone(torch.rand(1, 3, 224, 224))]
    assert shapes == [(4, 56, 56), (8, 28, 28), (12, 14, 14), (16, 7, 7)]


@each_baseline
def test_the_gradient_reaches_every_parameter(config: NetworkConfig) -> None:
    module = built(config)
    module(galaxies(config, 4)).logits.square().sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("config", SMALL[2:], ids=["tang", "dieleman"])
def test_three_dense_layers_see_features_dropped_in_training_alone(config: NetworkConfig) -> None:
    module, image, dropped = built(config), galaxies(config, 1), list[bool]()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(
                lambda _module, inputs, output: dropped.append(not torch.equal(inputs[0], output))
            )
    module(image)
    assert dropped == [False] * 3
    module.train()
    module(galaxies(config, 2))  # the norm of Tang's last layer needs more than one value
    assert dropped[3:] == [True] * 3


def test_the_class_map_is_what_each_position_adds_to_the_highest_logit() -> None:
    features = torch.rand(4, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    maps = class_map(features, weight, logits)
    for n, label in enumerate([0, 1, 0, 1]):
        score = torch.einsum("c,chw->hw", weight[label], features[n])
        torch.testing.assert_close(maps[n], (score - score.min()) / (score.max() - score.min()))
        assert torch.equal(class_map(features[[n]], weight, logits[[n]])[0], maps[n])


def test_rounding_of_a_constant_is_no_class_map() -> None:
    features = torch.full((2, 64, 4, 4), 0.3)
    features[:, :, 0, 0] = torch.nextafter(torch.tensor(0.3), torch.tensor(1.0))
    weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    assert not class_map(features, weight, torch.eye(2)).any()


def test_the_energy_is_the_mean_square_of_the_channels() -> None:
    features = torch.tensor([[[[1.0]], [[3.0]]], [[[0.0]], [[2.0]]]])  # two images, two channels, one position
    assert energy_map(features).flatten().tolist() == [5.0, 2.0]


def test_the_galaxy_lies_at_the_lower_right_of_every_part() -> None:
    planes = torch.zeros(1, 1, 141, 141)
    planes[0, 0, 68:73, 68:73] = 1.0  # about the middle
    for part in parts(planes)[0, :, 0]:
        peak = F.avg_pool2d(part[None, None], 5, 1, 2).flatten().argmax().item()
        assert divmod(peak, 45) == pytest.approx((34, 34), abs=1)


@pytest.mark.parametrize("change", ["quarter", "mirror"])
def test_a_turned_or_mirrored_galaxy_has_the_same_parts(change: str) -> None:
    planes = torch.rand(1, 1, 141, 141, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    changed = planes.rot90(1, (2, 3)) if change == "quarter" else planes.flip(3)
    distance = (parts(planes)[0, :, None] - parts(changed)[0, None]).abs().amax((2, 3, 4))  # (16, 16)
    assert distance.amin(1).max() < 1e-9
    assert sorted(distance.argmin(1).tolist()) == list(range(16))
    assert distance.diagonal().min() > 0.1  # in another order


def test_upright_parts_are_the_middle_of_the_frame() -> None:
    planes = torch.rand(1, 3, 141, 141)
    upper_left, upper_right = parts(planes)[0, :2]
    torch.testing.assert_close(upper_left, planes[0, :, 36:81, 36:81], rtol=0, atol=1e-5)
    torch.testing.assert_close(upper_right.rot90(-1, (1, 2)), planes[0, :, 36:81, 60:105], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("row", "column"), [(70, 70), (45, 70), (90, 55), (97, 97), (70, 110)])
def test_what_the_parts_saw_comes_back_to_its_place(row: int, column: int) -> None:
    """A spot, the parts that show it, and its light in them as their energy; the last is seen turned only."""
    planes = torch.zeros(1, 1, 141, 141)
    planes[0, 0, row - 2 : row + 3, column - 2 : column + 3] = 1.0
    found = on_the_frame(parts(planes)[:, :, 0])[0]
    assert found.shape == (47, 47)
    y, x = divmod(int(found.argmax()), 47)
    assert (3 * y + 1, 3 * x + 1) == pytest.approx((row, column), abs=3)
    assert found.sum() == pytest.approx(25 / 9, rel=0.25)


def test_an_even_response_is_even_on_the_view_and_0_outside() -> None:
    found = on_the_frame(torch.full((2, 16, 4, 4), 0.7))
    torch.testing.assert_close(found[found > 0], torch.full_like(found[found > 0], 0.7))
    assert found[:, 0].max() == 0
    assert (found[0] > 0).sum() == pytest.approx((1.24 * 69**2) / 9, rel=0.1)  # two squares, one on its corner


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNetConfig(**_wrong(block="wide")), "block of basic, bottleneck, got wide"),
        (lambda: ResNetConfig(depths=(2, 2, 2)), "4 depths and widths"),
        (lambda: ResNetConfig(widths=(64, 0, 1, 1)), "at least 1"),
        (lambda: TangConfig(size=29), "at least 30 px, got 29"),
        (lambda: TangConfig(classes=0), "at least 1"),
        (lambda: DielemanConfig(channels=(4, 4)), "4 channels"),
        (lambda: DielemanConfig(units=0), "at least 1"),
        (lambda: DielemanConfig(dropout=1.0), "below 1, got 1.0"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def _wrong(**fields: Any) -> dict[str, Any]:
    """Fields that the type checker would refuse too."""
    return fields
