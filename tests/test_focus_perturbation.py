"""Deletion and insertion against a classifier that is the flux within a mask: areas known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.data import ImageContract
from pipeline.training.perturbation import Classifier, Steps, blurred, deletion, insertion, no_flux

SIDE = 16
BRIGHT = torch.ones(1, 3, SIDE, SIDE)
DARK = torch.zeros_like(BRIGHT)
STEPS = Steps(16)  # of 16 pixels: a row, a column, or a quarter of a quarter
QUARTER = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
QUARTER[:, :8, 8:] = True
COLUMNS = torch.arange(SIDE).expand(1, SIDE, SIDE)


def flux_within(mask: Tensor, power: int = 1) -> Classifier:
    """Class 0 with the probability of a power of the mean flux in the mask (1, S, S), class 1 with the rest."""

    def classify(images: Tensor) -> Tensor:
        share = ((images.mean(1) * mask).sum((1, 2)) / mask.sum()) ** power
        return torch.stack([share, 1 - share], 1)

    return classify


def areas(maps: Tensor, mask: Tensor, steps: Steps = STEPS) -> tuple[float, float]:
    classify = flux_within(mask)
    out, back = (walk(classify, BRIGHT, DARK, maps, steps) for walk in (deletion, insertion))
    return out.area.item(), back.area.item()


def test_the_oracle_deletes_in_half_the_masks_area_and_inserts_as_fast() -> None:
    assert areas(QUARTER.float(), QUARTER) == pytest.approx((1 / 8, 1 - 1 / 8))


def test_the_opposite_of_the_oracle_deletes_and_inserts_last() -> None:
    assert areas((~QUARTER).float(), QUARTER) == pytest.approx((1 - 1 / 8, 1 / 8))


def test_a_curve_goes_from_the_whole_image_to_none_of_it() -> None:
    classify = flux_within(QUARTER, power=2)  # with power 1, deletion of the one class is insertion of the other
    curve = deletion(classify, BRIGHT, DARK, QUARTER.float(), Steps(8))
    assert curve.changed.tolist() == [step / 8 for step in range(9)]
    assert curve.probability[0].tolist() == pytest.approx([1, 0.25, 0, 0, 0, 0, 0, 0, 0])
    back = insertion(classify, BRIGHT, DARK, QUARTER.float(), Steps(8))
    assert back.probability[0].tolist() == pytest.approx([0, 0.25, 1, 1, 1, 1, 1, 1, 1])


def test_steps_that_do_not_divide_the_pixels_are_weighed_by_what_they_change() -> None:
    curve = deletion(flux_within(torch.ones_like(QUARTER)), BRIGHT, DARK, QUARTER.float(), Steps(7))
    assert curve.changed[1].item() == 37 / 256
    assert curve.area.item() == pytest.approx(0.5)


@pytest.mark.parametrize("first", [0, 3, 4, 12])
def test_a_ramp_reaches_the_source_when_it_comes_to_it(first: int) -> None:
    source = (first <= COLUMNS) & (first + 4 > COLUMNS)
    for highest in (16.0, 1e5):  # however little it falls
        out, back = areas(highest - COLUMNS, source)
        assert out == pytest.approx((first + 2) / SIDE)
        assert back == pytest.approx(1 - (first + 2) / SIDE)


def test_a_centred_gaussian_deletes_a_disc_from_within_and_a_shifted_one_later() -> None:
    place = torch.arange(SIDE) - 7.5
    radius = torch.hypot(place[:, None], place)[None]
    disc, centred = radius < 4, torch.exp(-0.1 * radius**2)
    area = disc.sum().item() / 256
    assert areas(centred, disc, Steps(256)) == pytest.approx((area / 2, 1 - area / 2))
    shifted = [areas(centred.roll(shift, 2), disc, Steps(256))[0] for shift in range(4)]
    assert shifted == sorted(set(shifted))


def test_a_uniform_map_deletes_by_lot() -> None:
    top = torch.zeros_like(QUARTER)
    top[:, :4] = True
    found = [areas(torch.ones(1, 5, 7), top, Steps(16, seed)) for seed in range(24)]
    out, back = (torch.tensor(side).mean().item() for side in zip(*found, strict=True))
    assert (out, back) == pytest.approx((0.5, 0.5), abs=0.025)  # four standard errors: sqrt(3 / 4 / 64 / 12 / 24)
    assert len(set(found)) > 10


def test_a_coarse_map_is_finer_between_its_pixels() -> None:
    sixth = COLUMNS == 6
    out, _ = areas(torch.tensor([[[4.0, 3.0, 2.0, 1.0]]]), sixth)
    assert out == pytest.approx(6.5 / SIDE)


def test_every_image_goes_in_the_order_of_its_own_map() -> None:
    maps = torch.cat([QUARTER.float(), 1000 * (~QUARTER).float(), torch.ones_like(QUARTER).float(), -COLUMNS.float()])
    classify, images, baseline = flux_within(QUARTER), BRIGHT.expand(4, -1, -1, -1), DARK.expand(4, -1, -1, -1)
    for walk in (deletion, insertion):
        together = walk(classify, images, baseline, maps, STEPS).area
        alone = [walk(classify, BRIGHT, DARK, maps[i : i + 1], STEPS).area.item() for i in range(4)]
        assert together.tolist() == alone
        assert len(set(alone)) == 4


def test_the_class_is_that_of_each_whole_image() -> None:
    """A dark image is of class 1, and stays so however little of it is left."""
    images, maps = torch.cat([BRIGHT, DARK]), QUARTER.float().expand(2, -1, -1)
    out = deletion(flux_within(QUARTER), images, DARK, maps, STEPS)
    back = insertion(flux_within(QUARTER), images, DARK, maps, STEPS)
    assert out.area.tolist() == pytest.approx([1 / 8, 1])
    assert back.area.tolist() == pytest.approx([7 / 8, 1])


@pytest.mark.parametrize("logits", [[3.0, -3.0], [math.nan, 0.5]])
def test_what_is_no_probability_is_refused(logits: list[float]) -> None:
    with pytest.raises(ValueError, match="expected probabilities"):
        deletion(lambda images: torch.tensor(logits).expand(len(images), 2), BRIGHT, DARK, QUARTER.float())


def test_no_step_is_no_curve() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        Steps(0)


def test_no_flux_is_the_contracts_colour_and_not_black() -> None:
    grey = math.asinh(20 * 0.03) / math.sqrt(20)  # the mapping of ImageContract's docstring at flux 0
    sky = no_flux(BRIGHT, ImageContract())
    assert sky.shape == BRIGHT.shape
    assert (sky - grey).abs().amax().item() <= 0.5 / 255
    with pytest.raises(ValueError, match="the contract has the planes"):
        no_flux(BRIGHT[:, :1], ImageContract())


def test_a_blurred_point_is_as_wide_as_the_kernel() -> None:
    images = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    images[..., 32, 32] = 1
    found = blurred(images, 0.05)[0, 0]
    offset = (torch.arange(65) - 32) / 65
    for axis in (0, 1):
        assert (found.sum(axis) * offset**2).sum().item() == pytest.approx(0.05**2, rel=1e-3)
    assert found.sum().item() == pytest.approx(1, rel=1e-3)


def test_blurring_leaves_a_constant_image_to_its_very_edge() -> None:
    assert torch.allclose(blurred(0.3 * BRIGHT, 0.2), 0.3 * BRIGHT)
    with pytest.raises(ValueError, match="positive sigma"):
        blurred(BRIGHT, 0)
