"""The losses on attention: their values where they are known, and where their gradients lead."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.focus import clarity_loss, clarity_weight, contrast_loss, mask_loss

SIDE = 20
UNIFORM = torch.ones(1, SIDE, SIDE)
CORNER = torch.zeros(1, SIDE, SIDE)
CORNER[:, :5, :5] = 1  # a sixteenth of the pixels


def test_a_spot_of_the_wanted_size_pays_for_its_edge_alone() -> None:
    spot = torch.zeros(1, SIDE, SIDE)
    spot[:, 8:12, 8:14] = 0.3  # 24 of 400 pixels are the wanted 0.06, at any height
    edges = 2 * 6 / (19 * 20) + 2 * 4 / (19 * 20)  # steps of 1 among the neighbours of each direction
    assert clarity_loss(spot).item() == pytest.approx(0.1 * edges, rel=1e-3)


def test_a_spot_may_be_smaller_than_the_wanted_size() -> None:
    point = torch.zeros(1, SIDE, SIDE)
    point[0, 4, 7] = 1
    assert clarity_loss(point).item() == pytest.approx(0.1 * 4 / (19 * 20), rel=1e-3)


def test_a_uniform_map_pays_for_its_area_alone() -> None:
    for height in (1e-5, 1.0, 1e5):
        assert clarity_loss(height * UNIFORM).item() == pytest.approx((1 - 0.06) ** 2, rel=1e-5)


def test_clarity_falls_as_a_map_sharpens() -> None:
    radius = (torch.arange(SIDE) - 9.5).square()
    blobs = [torch.exp(-(radius[:, None] + radius[None, :]) / width)[None] for width in (800, 200, 50, 20)]
    losses = [clarity_loss(blob).item() for blob in blobs]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.2, 0.0), (0.6, 0.05), (1.0, 0.1), (1.5, 0.1)])
def test_clarity_counts_only_after_a_fifth_of_training(progress: float, expected: float) -> None:
    assert clarity_weight(progress) == pytest.approx(expected)


def test_the_mask_loss_is_the_logarithm_of_the_attention_inside() -> None:
    assert mask_loss(UNIFORM, CORNER.bool()).item() == pytest.approx(math.log(16), rel=1e-4)
    assert mask_loss(7 * CORNER, CORNER).item() == pytest.approx(0, abs=1e-3)


def test_a_mask_of_another_size_counts_by_its_area() -> None:
    fine = CORNER.repeat_interleave(3, 1).repeat_interleave(3, 2).bool()
    assert mask_loss(UNIFORM, fine).item() == pytest.approx(math.log(16), rel=1e-4)


def test_contrast_compares_the_mask_with_itself_half_an_image_away() -> None:
    wrong = CORNER.roll((SIDE // 2, SIDE // 2), (1, 2))
    assert contrast_loss(UNIFORM, CORNER).item() == pytest.approx(math.log(2), rel=1e-4)
    assert contrast_loss(CORNER + wrong, CORNER).item() == pytest.approx(math.log(2), rel=1e-4)
    assert contrast_loss(3 * CORNER + wrong, CORNER).item() == pytest.approx(math.log(4 / 3), rel=1e-3)
    elsewhere = CORNER.roll(SIDE // 2, 1)
    assert contrast_loss(CORNER + 5 * elsewhere, CORNER).item() == pytest.approx(0, abs=1e-3)


def test_a_mask_over_everything_has_no_wrong_focus() -> None:
    assert contrast_loss(CORNER, UNIFORM).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("loss", [mask_loss, contrast_loss])
def test_an_image_without_a_mask_does_not_count(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    maps, masks = torch.cat([CORNER + 0.1, UNIFORM]), torch.cat([CORNER, torch.zeros_like(CORNER)])
    assert loss(maps, masks).item() == pytest.approx(loss(maps[:1], masks[:1]).item())
    assert loss(maps[1:], masks[1:]).item() == 0


@pytest.mark.parametrize(
    "loss", [clarity_loss, lambda maps: mask_loss(maps, CORNER), lambda m: contrast_loss(m, CORNER)]
)
@pytest.mark.parametrize("maps", [torch.zeros_like(CORNER), UNIFORM, CORNER, CORNER.roll(SIDE // 2, 1)])
def test_the_gradient_is_finite_whatever_the_map(loss: Callable[[Tensor], Tensor], maps: Tensor) -> None:
    maps = maps.clone().requires_grad_()
    value = loss(maps)
    (gradient,) = torch.autograd.grad(value, maps)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [mask_loss, contrast_loss])
def test_supervision_by_masks_moves_a_networks_attention_to_the_source(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(2)
    module = AGCNNConfig(size=16, normalisation="mix", pooling="mean", widths=(4, 8, 8, 8), gate_channels=8).build()
    masks = torch.zeros(24, 16, 16)
    for number, (row, column) in enumerate(torch.randint(0, 11, (24, 2)).tolist()):
        masks[number, row : row + 5, column : column + 5] = 1
    images = masks[:, None].repeat(1, 3, 1, 1) * 0.8 + 0.1 * torch.rand(24, 3, 16, 16)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    inside = []
    for _ in range(40):
        attention = module(images).attention
        inside.append(((attention * masks).sum((1, 2)) / attention.sum((1, 2))).mean().item())
        optimiser.zero_grad()
        loss(attention, masks).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert inside[0] < 0.2  # the masks cover a tenth of the image
    assert inside[-1] > 2 * inside[0]
