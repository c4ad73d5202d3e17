"""The contract of every network. A new one joins with one line in CASES."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from pipeline.models import NETWORKS
from pipeline.models.agcnn import AGCNN
from pipeline.models.header import read_fields
from pipeline.models.mban import MBAN
from pipeline.models.network import NetworkConfig, NetworkResult, gflops
from tests.network_probes import skip_where_torchvision_lacks, values


@dataclass(frozen=True)
class Case:
    network: str
    parameters: int
    flops: int  # two a multiply-add, one image
    attention: tuple[int, int]
    shifts: tuple[str, ...] = ()  # parameters that shift a whole map, which is then taken off: no gradient
    unseen: tuple[str, ...] = ()  # parameters that the logits of untrained weights do not depend on
    coarse: float = 0.0  # what bfloat16 may move a pixel of the map by, in its highest


PSI_BIASES = ("gates.0.psi.bias", "gates.1.psi.bias", "gates.2.psi.bias")
# Branches with losses of their own, what stands behind a layer that begins at zero, and queries but the token's.
HEADS = ("primary_head.weight", "primary_head.bias", "auxiliary_head.weight", "auxiliary_head.bias")
LOCALISER = ("localiser.narrow.weight", "localiser.narrow.bias")
LAST = "cvt.encoder.stages.2.layers.9.attention.attention.convolution_projection_query.convolution_projection"
QUERIES = tuple(f"{LAST}.{name}" for name in ("convolution.weight", "normalization.weight", "normalization.bias"))
CASES = (
    Case("dmagnet_f", parameters=9_408_520, flops=4_838_810_112, attention=(8, 8)),
    Case("dmagnet_m", parameters=9_351_444, flops=9_773_476_352, attention=(16, 16)),
    Case("agcnn", parameters=101_883, flops=725_877_600, attention=(256, 256), shifts=PSI_BIASES),
    Case("agcnn_mix", parameters=102_663, flops=726_395_232, attention=(256, 256), shifts=PSI_BIASES),
    Case("mban", 22_365_330, 9_474_957_312, (8, 8), unseen=HEADS, coarse=0.05),
    Case("mban_shared", 15_803_509, 4_974_481_408, (8, 8), unseen=HEADS + LOCALISER, coarse=0.05),
    Case("resnet18", 11_179_590, 4_737_472_512, (8, 8), coarse=0.05),
    Case("resnet26", 13_958_470, 6_113_222_656, (8, 8), coarse=0.05),
    Case("tang", 412_458, 407_582_208, (42, 42)),
    Case("dieleman", 42_313_606, 840_720_384, (47, 47), coarse=0.01),
    Case("cvt", 19_614_790, 12_320_919_040, (8, 8), unseen=QUERIES),
    Case("maxvit", 30_420_104, 14_762_809_344, (8, 8)),
)
EARLY: dict[str, Callable[[Any], nn.Module]] = {  # the layer that `NetworkResult.early` is of
    "dmagnet": lambda module: module.stages[-2],
    "agcnn": lambda module: module.stages[-1],
    "mban": lambda module: module.primary.stages[-2],
    "resnet18": lambda module: module.backbone.stages[-2],
    "resnet26": lambda module: module.backbone.stages[-2],
    "tang": lambda module: module.convolutions,
    "dieleman": lambda module: module.convolutions,
    "cvt": lambda module: module.cvt.encoder.stages[-2],
    "maxvit": lambda module: module.stages[-2],
}
each_network = pytest.mark.parametrize("case", CASES, ids=lambda case: case.network)


@lru_cache(maxsize=1)  # the cases come one after another
def built(network: str) -> nn.Module:
    skip_where_torchvision_lacks(network)
    torch.manual_seed(1)
    return NETWORKS[network].build().eval()


def galaxies(config: NetworkConfig, count: int) -> Tensor:
    """Blobs of different places and colours: (count, C, S, S) in [0, 1]."""
    side = torch.linspace(0, 1, config.size)
    x, y = side[None, :], side[:, None]
    generator = torch.Generator().manual_seed(7)
    place = torch.rand(count, 2, 1, 1, generator=generator)
    blob = torch.exp(-20 * ((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2))  # (count, S, S)
    return blob[:, None] * torch.rand(count, config.bands, 1, 1, generator=generator)


def test_every_network_has_a_case() -> None:
    assert [case.network for case in CASES] == list(NETWORKS)


@each_network
def test_a_network_has_the_size_and_cost_that_it_claims(case: Case) -> None:
    skip_where_torchvision_lacks(case.network)
    config = NETWORKS[case.network]
    with torch.device("meta"):
        module = config.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == case.parameters
    assert gflops(config) * 1e9 == case.flops


@each_network
def test_an_answer_does_not_depend_on_the_batch(case: Case) -> None:
    config, module = NETWORKS[case.network], built(case.network)
    images = galaxies(config, 3)
    with torch.inference_mode():
        together, alone = module(images), module(images[1:2])
    assert (together.logits[0] - together.logits[1]).abs().max() > 1e-3  # the images do differ
    for one, other in zip(values(alone), values(together), strict=True):
        torch.testing.assert_close(one[0], other[1], rtol=1e-5, atol=1e-5)


@each_network
def test_the_same_images_give_the_same_answer_to_the_bit(case: Case) -> None:
    module, images = built(case.network), galaxies(NETWORKS[case.network], 1)
    with torch.inference_mode():
        assert torch.equal(module(images).logits, module(images).logits)


@each_network
def test_every_image_has_a_finite_attention_map_of_its_own(case: Case) -> None:
    config = NETWORKS[case.network]
    with torch.inference_mode():
        result: NetworkResult = built(case.network)(galaxies(config, 2))
    assert result.logits.shape == (2, config.classes)
    assert result.attention.shape == (2, *case.attention)
    assert result.attention.min() >= 0
    assert result.attention.isfinite().all()
    assert not torch.equal(result.attention[0], result.attention[1])
    assert tuple(result.scalars) == config.scalars
    for value in result.scalars.values():
        assert value.shape == (2,)
        assert value.isfinite().all()


@each_network
def test_the_features_are_what_the_answer_was_read_from(case: Case) -> None:
    config, module = NETWORKS[case.network], built(case.network)
    images = galaxies(config, 2)
    with torch.inference_mode():
        features = module(images).features
        said, read = answer_and_reading(module, images, features)
    assert features.shape == (2, config.features)
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(read, said)


@each_network
def test_early_features_are_the_mean_of_the_last_stage_but_one_or_of_what_dense_layers_and_gates_read(
    case: Case,
) -> None:
    config, module = NETWORKS[case.network], built(case.network)
    said: list[Any] = []
    layer = EARLY[case.network.partition("_")[0]](module)
    with layer.register_forward_hook(lambda _layer, _inputs, output: said.append(output)), torch.inference_mode():
        found = module(galaxies(config, 2)).early
    deep = said[0][0] if isinstance(said[0], tuple) else said[0]
    assert found.shape == (2, config.early)
    torch.testing.assert_close(found, deep.mean((2, 3)).reshape(2, -1, config.early).mean(1))


def answer_and_reading(module: Any, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the images, and of their features alone; MBAN's are its primary branch's."""
    if isinstance(module, AGCNN):
        return module(images).logits, module.heads([features[:, :32], features[:, 32:48], features[:, 48:]])
    if isinstance(module, MBAN):
        return module.branches(images).primary, module.primary_head(features)
    return module(images).logits, module.classifier(features)


@each_network
def test_the_gradient_reaches_every_parameter(case: Case) -> None:
    config, module = NETWORKS[case.network], built(case.network)
    module.zero_grad()
    module(galaxies(config, 1)).logits.square().sum().backward()
    untouched = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    module.zero_grad()
    assert set(untouched) <= {*case.shifts, *case.unseen}


@each_network
def test_bfloat16_changes_an_answer_little(case: Case) -> None:
    module, images = built(case.network), galaxies(NETWORKS[case.network], 1)
    with torch.inference_mode():
        exact = module(images)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = module(images)
    assert mixed.attention.dtype == mixed.early.dtype == torch.float32
    torch.testing.assert_close(mixed.logits.float().softmax(1), exact.logits.softmax(1), rtol=0, atol=0.01)
    allowed = case.coarse * exact.attention.max().item()
    torch.testing.assert_close(mixed.attention, exact.attention, rtol=0.05, atol=allowed)


@each_network
def test_a_config_survives_json(case: Case) -> None:
    config: Any = NETWORKS[case.network]
    fields = json.loads(json.dumps(asdict(config)))
    assert type(config)(**read_fields(get_type_hints(type(config)), fields, "config")) == config
