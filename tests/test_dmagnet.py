"""DMAGNet: what its modules compute, and configs that cannot be built."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.dmagnet import (
    AttentionalFusion,
    AttentionPool,
    DilatedDepthwise,
    DynamicLargeKernel,
    polyphase,
)


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


def test_a_share_of_weights_too_small_for_a_float_is_still_one() -> None:
    kernel = DynamicLargeKernel(4).eval()
    nn.init.zeros_(kernel.select.weight)
    kernel.select.bias.data = torch.tensor([-200.0, -200.0 + math.log(3)])  # type: ignore[union-attr]
    _, share = kernel(torch.rand(2, 4, 8, 8))
    torch.testing.assert_close(share, torch.full((2,), 0.75), rtol=0, atol=1e-5)


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
