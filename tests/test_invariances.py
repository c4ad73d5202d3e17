"""What a network may not depend on, and what it must stand, for each of them in small. A new one joins with one line.

In float64, in which rounding cannot pass for a fault.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.attention import summarise
from pipeline.models import NETWORKS
from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.configs.dieleman import DielemanConfig
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.configs.maxvit import MaxViTConfig
from pipeline.models.configs.mban import MBANConfig
from pipeline.models.configs.resnet import ResNetConfig
from pipeline.models.configs.tang import TangConfig
from pipeline.models.network import ATTENTION_COLUMNS, NetworkConfig
from pipeline.training.consistency import flip_consistency
from tests.network_probes import extremes, skip_where_torchvision_lacks, together_and_apart, values

DMAGNET = DMAGNetConfig(size=64, dims=(8, 16), depths=(1, 1), head_channels=8)
AGCNN = AGCNNConfig(size=16, pooling="mean", head_slope=0.01)
MBAN = MBANConfig(size=64, crop_size=32, widths=(4, 6, 8, 10))
SMALL: dict[str, NetworkConfig] = {
    "dmagnet_f": DMAGNET,
    "dmagnet_m": replace(DMAGNET, dims=(8, 12, 16), depths=(1, 2, 1), stem_kernel=4),
    "agcnn": AGCNN,
    "agcnn_mix": replace(AGCNN, normalisation="mix"),
    "mban": MBAN,
    "mban_shared": replace(MBAN, shared=True, localiser="transformer"),
    "resnet18": ResNetConfig(size=64, widths=(4, 6, 8, 10)),
    "resnet26": ResNetConfig(size=64, widths=(4, 4, 4, 4), block="bottleneck"),
    "tang": TangConfig(size=30),
    "dieleman": DielemanConfig(size=64, channels=(2, 2, 4, 4), units=16),
    "cvt": CvTConfig(size=64, dims=(8, 12, 16), depths=(1, 2, 3), heads=(1, 2, 2)),
    "maxvit": MaxViTConfig(size=64, dims=(8, 8, 16, 16), depths=(1, 1, 1, 2), stem=8, head_channels=8),
}
MIRRORED = {"peak_x": (-1, 1), "cx": (-1, 1), "e2": (-1, 0), "pa": (-1, 180)}  # by a sign and an offset
TURNING = {"dieleman"}  # whose map is one of parts that a mirror only puts in another order
each_network = pytest.mark.parametrize("network", SMALL)


def built(network: str) -> nn.Module:
    skip_where_torchvision_lacks(network)
    torch.manual_seed(3)
    return SMALL[network].build().double().eval()


def galaxies(network: str, count: int) -> Tensor:
    config = SMALL[network]
    shape = (count, config.bands, config.size, config.size)
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def test_every_network_is_here_in_small() -> None:
    assert list(SMALL) == list(NETWORKS)


@each_network
def test_an_image_does_not_know_of_its_batch(network: str) -> None:
    module, images = built(network), galaxies(network, 64)
    with torch.inference_mode():
        assert module(images).logits.std(0).min() > 0  # the images do differ
    assert together_and_apart(module, images) < 1e-6  # scalars are float32


def over_the_batch(_part: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    lowest, highest = output.amin((0, 2, 3), keepdim=True), output.amax((0, 2, 3), keepdim=True)
    return (output - lowest) / (highest - lowest)


@each_network
def test_normalisation_over_the_batch_is_caught(network: str) -> None:
    """The fault of the code that the authors of AG-CNN released: the whole batch's least and largest."""
    module = built(network)
    first = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_hook(over_the_batch)
    assert together_and_apart(module, galaxies(network, 64)) > 1e-4


@each_network
def test_extreme_images_have_finite_answers_and_maps(network: str) -> None:
    for module in (built(network), built(network).float()):
        images = extremes(SMALL[network]).to(next(module.parameters()).dtype)
        with torch.inference_mode():
            result = module(images)
        assert all(value.isfinite().all() for value in values(result))
        assert result.attention.min() >= 0
        assert tuple(result.scalars) == SMALL[network].scalars
        assert result.features.shape == (len(images), SMALL[network].features)
        assert result.early.shape == (len(images), SMALL[network].early)


@each_network
def test_the_summaries_of_a_mirrored_map_are_the_mirrored_summaries(network: str) -> None:
    with torch.inference_mode():
        maps = built(network)(galaxies(network, 7)).attention
    first, second = maps.flatten(1).topk(2, 1).values.unbind(1)
    maps = maps[first - second > 1e-6 * first]  # of two equal peaks a mirror shows the other
    assert len(maps) > 0
    upright, mirrored = (dict(zip(ATTENTION_COLUMNS, summarise(m)[0].T, strict=True)) for m in (maps, maps.flip(2)))
    for name in ATTENTION_COLUMNS:
        sign, offset = MIRRORED.get(name, (1, 0))
        change = mirrored[name] - (sign * upright[name] + offset)
        if name == "pa":  # of an axis, which half a turn leaves as it is; NaN of a round map
            change = torch.remainder(change + 90, 180).nan_to_num(90.0) - 90
        assert change.abs().max() < 1e-3, name


@each_network
def test_a_networks_flip_consistency_can_be_reported(network: str) -> None:
    module = built(network)
    with torch.inference_mode():
        found = flip_consistency(lambda images: module(images).attention, galaxies(network, 4))
    assert found.shape == (4,)
    assert found.isfinite().all()
    assert found.abs().max() <= 1
    assert (found.min() > 1 - 1e-6) == (network in TURNING)
