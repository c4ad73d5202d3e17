"""Where attention lies, and how it turns: measures of maps whose answers are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.training.consistency import correlation, flip_consistency, rank_correlation, rotation_consistency
from pipeline.training.localisation import mass_gain, mass_in_mask, pointing_game, unpacked_masks

SIDE = 16
NAN = pytest.approx(math.nan, nan_ok=True)


def box(rows: range, columns: range, side: int = SIDE) -> Tensor:
    """A mask (1, side, side), True in the box."""
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


SOURCE = box(range(2, 5), range(9, 14))  # 15 of 256 pixels, none of which its transpose shares
UNIFORM = torch.ones(1, SIDE, SIDE)


def point(row: int, column: int, side: int = SIDE) -> Tensor:
    return box(range(row, row + 1), range(column, column + 1), side).double()


def within(low: float, high: float, centre: float, sigma: float) -> float:
    """The integral of a normal distribution."""
    return 0.5 * (math.erf((high - centre) / sigma / 2**0.5) - math.erf((low - centre) / sigma / 2**0.5))


def gaussian(x: float, y: float, sigma: float, height: int, width: int) -> Tensor:
    """(1, height, width): the integral over each pixel of a Gaussian centred on (x, y), in image sides."""
    across = [within(j / width, (j + 1) / width, x, sigma) for j in range(width)]
    down = [within(i / height, (i + 1) / height, y, sigma) for i in range(height)]
    return (torch.tensor(down, dtype=torch.float64)[:, None] * torch.tensor(across, dtype=torch.float64))[None]


def test_the_oracle_is_on_the_source_and_nowhere_else() -> None:
    maps = 0.01 * SOURCE.float()
    assert pointing_game(maps, SOURCE).item() == 1
    assert mass_in_mask(maps, SOURCE).item() == pytest.approx(1)
    assert mass_gain(maps, SOURCE).item() == pytest.approx(256 / 15)


def test_a_uniform_map_scores_the_area_of_the_mask_and_gains_nothing() -> None:
    for maps in (UNIFORM, 0 * UNIFORM, math.nan * UNIFORM, UNIFORM[:, ::2, ::4]):
        assert mass_in_mask(maps, SOURCE).item() == pytest.approx(15 / 256)
        assert mass_gain(maps, SOURCE).item() == pytest.approx(1)
    assert pointing_game(UNIFORM, SOURCE).item() == pytest.approx(15 / 256)
    assert pointing_game(UNIFORM, SOURCE.flip(1, 2)).item() == pytest.approx(15 / 256)


def test_the_oracle_misses_a_mask_that_is_transposed() -> None:
    maps, turned = SOURCE.float(), SOURCE.transpose(1, 2)
    assert (pointing_game(maps, turned).item(), mass_in_mask(maps, turned).item()) == (0, 0)


@pytest.mark.parametrize(("shift", "shared"), [(0, 5), (1, 4), (-3, 2), (5, 0)])
def test_a_shifted_oracle_holds_what_it_still_covers(shift: int, shared: int) -> None:
    found = mass_in_mask(SOURCE.float().roll(shift, 2), SOURCE).item()
    assert found == pytest.approx(shared / 5)


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.625, 0.5), (0.3, 0.8)])
def test_a_gaussian_holds_its_integral_over_the_mask(x: float, y: float) -> None:
    mask, sigma = box(range(24, 40), range(16, 48), 64), 0.12  # y 0.375 to 0.625, x 0.25 to 0.75
    whole = within(0, 1, x, sigma) * within(0, 1, y, sigma)
    inside = within(0.25, 0.75, x, sigma) * within(0.375, 0.625, y, sigma) / whole
    maps = gaussian(x, y, sigma, height=8, width=32)
    assert mass_in_mask(maps, mask).item() == pytest.approx(inside, abs=1e-12)
    assert mass_gain(maps, mask).item() == pytest.approx(8 * inside, abs=1e-12)
    assert pointing_game(maps, mask).item() == (0.375 < y < 0.625)


def test_pixels_that_the_mask_cuts_count_by_their_area() -> None:
    maps, mask = point(0, 1, side=2), box(range(1, 2), range(1, 2), 3)
    assert mass_in_mask(maps, mask).item() == pytest.approx((1 / 6) ** 2 / (1 / 2) ** 2)


def test_a_near_miss_hits_within_the_tolerance() -> None:
    mask = point(6, 9).bool()
    for row, column in [(3, 5), (9, 13), (3, 13), (9, 5)]:
        away = math.hypot(2.5, 3.5) / SIDE  # from the centre of the peak to the nearest corner of the mask
        assert pointing_game(point(row, column), mask, away).item() == 1
        assert pointing_game(point(row, column), mask, 0.99 * away).item() == 0


def test_the_tolerance_is_in_image_sides_whatever_the_grids() -> None:
    mask = box(range(32, 64), range(64), 64)  # the southern half
    assert pointing_game(point(1, 3, side=5), mask, 0.2).item() == 1  # at y = 0.3
    assert pointing_game(point(1, 3, side=5), mask, 0.19).item() == 0


def test_equal_peaks_share_the_hit() -> None:
    maps = point(3, 10) + point(3, 11) + point(12, 1) + point(0, 0)
    assert pointing_game(maps, SOURCE).item() == 0.5


def test_an_image_without_a_source_is_not_counted() -> None:
    maps, masks = torch.cat([UNIFORM, SOURCE.float()]), torch.cat([~SOURCE & SOURCE, SOURCE])
    for measure in (pointing_game, mass_in_mask, mass_gain):
        found = measure(maps, masks).tolist()
        assert found[0] == NAN
        assert found[1] == pytest.approx(measure(maps[1:], masks[1:]).item())


def test_masks_come_back_as_they_were_packed() -> None:
    masks = np.random.default_rng(3).random((3, 64, 64)) < 0.3
    packed = [np.packbits(mask).tobytes() for mask in masks]
    assert len(packed[0]) == 512
    assert np.array_equal(unpacked_masks(packed).numpy(), masks)


@pytest.mark.parametrize("packed", [[], [b""], [bytes(511)], [bytes(512), bytes(8)]])
def test_bytes_that_are_no_masks_are_refused(packed: list[bytes]) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpacked_masks(packed)


def brightness(images: Tensor) -> Tensor:
    return images.mean(1)


IMAGES = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(4))


def test_a_map_that_follows_the_image_is_consistent() -> None:
    for measure in (rotation_consistency, flip_consistency):
        assert measure(brightness, IMAGES).tolist() == pytest.approx([1, 1])
        assert measure(lambda images: 3 * brightness(images) + 2, IMAGES).tolist() == pytest.approx([1, 1])


def test_a_point_that_stays_where_it_is_has_the_correlation_of_two_points() -> None:
    def stuck(images: Tensor) -> Tensor:
        return point(0, 2, side=5).expand(len(images), -1, -1)  # on the axis of the east-west mirror image

    assert rotation_consistency(stuck, IMAGES).tolist() == pytest.approx([-1 / 24, -1 / 24])
    assert flip_consistency(stuck, IMAGES).tolist() == pytest.approx([(1 - 1 / 24) / 2] * 2)


def test_the_centre_of_every_image_is_perfectly_consistent() -> None:
    def central(images: Tensor) -> Tensor:
        return gaussian(0.5, 0.5, 0.2, 9, 9).expand(len(images), -1, -1)

    assert rotation_consistency(central, IMAGES).tolist() == pytest.approx([1, 1])
    assert flip_consistency(central, IMAGES).tolist() == pytest.approx([1, 1])


def test_a_map_that_is_transposed_is_consistent_only_upside_down() -> None:
    def transposed(images: Tensor) -> Tensor:
        return brightness(images).transpose(1, 2)

    source = point(0, 1, side=5)[:, None]
    assert rotation_consistency(transposed, source).item() == pytest.approx((1 - 2 / 24) / 3)
    assert flip_consistency(transposed, source).item() == pytest.approx(-1 / 24)


def test_consistency_is_of_each_image_by_itself() -> None:
    def half_stuck(images: Tensor) -> Tensor:
        return torch.where(images[:, 0].amax((1, 2), keepdim=True) > 1, brightness(images), point(0, 1, side=5))

    images = torch.cat([point(1, 0, side=5)[:, None], 2 * point(1, 0, side=5)[:, None]])
    assert rotation_consistency(half_stuck, images).tolist() == pytest.approx([-1 / 24, 1])
    assert flip_consistency(half_stuck, images).tolist() == pytest.approx([-1 / 24, 1])


def test_a_flat_map_has_no_consistency() -> None:
    flat = torch.cat([0 * IMAGES[:1] + 0.3, IMAGES[:1]])
    for measure in (rotation_consistency, flip_consistency):
        found = measure(brightness, flat).tolist()
        assert found[0] == NAN
        assert found[1] == pytest.approx(1)


def test_maps_that_are_not_square_do_not_turn() -> None:
    with pytest.raises(ValueError, match="square"):
        rotation_consistency(lambda images: brightness(images)[:, 1:], IMAGES)


def test_ranks_do_not_see_how_steep_a_map_is() -> None:
    maps = brightness(IMAGES)
    assert rank_correlation(maps, (20 * maps).exp()).tolist() == pytest.approx([1, 1])
    assert rank_correlation(maps, -maps + 1).tolist() == pytest.approx([-1, -1])
    assert correlation(maps, (20 * maps).exp()).amax().item() < 0.9


def test_equal_pixels_share_their_mean_rank() -> None:
    tied, even = torch.tensor([[[1.0, 1.0], [2.0, 3.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert rank_correlation(tied, even).item() == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(0 * tied, even).item() == NAN
