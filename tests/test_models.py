"""The contract of every network. A new one joins with one line in CASES."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, get_type_hints

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models import NETWORKS
from pipeline.models.agcnn import AGCNN
from pipeline.models.dmagnet import (
    AttentionalFusion,
    AttentionPool,
    DilatedDepthwise,
    DMAGNetConfig,
    DynamicLargeKernel,
    polyphase,
)
from pipeline.models.header import read_fields
from pipeline.models.mban import MBAN
from pipeline.models.network import NetworkConfig, NetworkResult, gflops
from tests.network_probes import values


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
# Branches with losses of their own, and what stands behind a layer that begins at zero.
HEADS = ("primary_head.weight", "primary_head.bias", "auxiliary_head.weight", "auxiliary_head.bias")
LOCALISER = ("localiser.narrow.weight", "localiser.narrow.bias")
CASES = (
    Case("dmagnet_f", parameters=9_408_520, flops=4_838_810_112, attention=(8, 8)),
    Case("dmagnet_m", parameters=9_351_444, flops=9_773_476_352, attention=(16, 16)),
    Case("agcnn", parameters=101_883, flops=725_877_600, attention=(256, 256), shifts=PSI_BIASES),
    Case("agcnn_mix", parameters=102_663, flops=726_395_232, attention=(256, 256), shifts=PSI_BIASES),
    Case("mban", 22_365_330, 9_474_957_312, (8, 8), unseen=HEADS, coarse=0.05),
    Case("mban_shared", 15_803_509, 4_974_481_408, (8, 8), unseen=HEADS + LOCALISER, coarse=0.05),
    Case("resnet18", 11_179_590, 4_737_472_512, (8, 8), coarse=0.05),
    Case("tang", 412_458, 407_582_208, (42, 42)),
    Case("dieleman", 42_313_606, 840_720_384, (47, 47), coarse=0.01),
)
each_network = pytest.mark.parametrize("case", CASES, ids=lambda case: case.network)


@lru_cache(maxsize=1)  # the cases come one after another
def built(network: str) -> nn.Module:
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
    assert mixed.attention.dtype == torch.float32
    torch.testing.assert_close(mixed.logits.float().softmax(1), exact.logits.softmax(1), rtol=0, atol=0.01)
    allowed = case.coarse * exact.attention.max().item()
    torch.testing.assert_close(mixed.attention, exact.attention, rtol=0.05, atol=allowed)


@each_network
def test_a_config_survives_json(case: Case) -> None:
    config: Any = NETWORKS[case.network]
    fields = json.loads(json.dumps(asdict(config)))
    assert type(config)(**read_fields(get_type_hints(type(config)), fields, "config")) == config


@pytest.mark.parametrize("side", [1, 2, 8, 10, 32])
def test_the_polyphase_form_is_the_dilated_convolution(side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((2, 4, side, side + 1), (4, 1, 7, 7)))
    bias = torch.randn(4, generator=generator)
    plain = F.conv2d(x, weight, bias, padding=9, dilation=3, groups=4)
    torch.testing.assert_close(polyphase(x, weight, bias, 3), plain, rtol=1e-5, atol=1e-5)


def test_a_dilated_layer_gives_the_same_in_training_and_in_eval_mode() -> None:
    layer = DilatedDepthwise(4, kernel=7, dilation=3)
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer.eval()(x), layer.train()(x), rtol=1e-5, atol=1e-5)


def test_the_large_kernel_sees_23_pixels_and_no_more() -> None:
    module = DMAGNetConfig(size=32, dims=(4,), depths=(1,), head_channels=4, stem_stride=1, stem_kernel=1).build()
    kernel = module.stages[0].blocks[0].kernel.eval()  # type: ignore[index, union-attr]
    x = torch.zeros(1, 4, 31, 31, requires_grad=True)
    kernel.large(kernel.small(x))[0, :, 15, 15].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum((0, 1)).nonzero().flatten()
    assert (seen.min().item(), seen.max().item()) == (15 - 11, 15 + 11)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (2, 4)}, "one depth for each"),
        ({"depths": (2, 4, 0, 1)}, "at least 1"),
        ({"size": 250}, "32 divides, got 250"),
        ({"head_channels": 48}, "48 divides, got 512"),
        ({"dims": (2, 4, 8, 32)}, "dims of at least 4"),
        ({"dims": (5, 10, 20, 32), "hidden_ratio": 1}, "4 divides"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DMAGNetConfig(**wrong)


def test_equal_weights_fuse_to_the_residual_sum() -> None:
    fusion = AttentionalFusion(8, reduction=4).eval()
    for context in (fusion.local_context, fusion.global_context):
        nn.init.zeros_(context[-1].weight)  # type: ignore[arg-type]
    x, identity = torch.randn(2, 1, 8, 4, 4, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(fusion(x, identity), x + identity)


def test_the_large_kernels_share_is_its_weight_against_the_small_ones() -> None:
    kernel = DynamicLargeKernel(4).eval()
    nn.init.zeros_(kernel.select.weight)
    kernel.select.bias.data = torch.tensor([-1.0, 1.0]) * math.log(3)  # type: ignore[union-attr]
    _, share = kernel(torch.rand(2, 4, 8, 8))
    torch.testing.assert_close(share, torch.full((2,), 0.75))  # 3/4 against 1/4


def test_two_heads_on_opposite_corners_spread_a_quarter_diagonal() -> None:
    pool = AttentionPool(channels=2, positions=4, heads=2)
    nn.init.zeros_(pool.query.weight)
    nn.init.ones_(pool.query.bias)
    nn.init.zeros_(pool.key_value.bias)
    pool.key_value.weight.data = torch.eye(2).repeat(2, 1)  # keys and values are the tokens
    far = [[50.0, 50.0], [50.0, 0], [0, 0], [0, 0], [0, 50.0]]  # mean token, then the 2x2 positions
    pool.position.data = torch.tensor(far)
    pooled = pool(torch.zeros(1, 2, 2, 2))
    torch.testing.assert_close(pooled.attention, torch.tensor([[[0.5, 0], [0, 0.5]]]))
    torch.testing.assert_close(pooled.spread, torch.tensor([0.25 * math.sqrt(2)]))
    torch.testing.assert_close(pooled.heads, torch.tensor([[[[1.0, 0], [0, 0]], [[0, 0], [0, 1.0]]]]))
