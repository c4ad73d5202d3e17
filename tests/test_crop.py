"""Boxes by attention and a Gaussian, boxes that are learned, and what is cut out by them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.models.crop import CENTRED, Localiser, crop, gaussian_box

SIDE = 64
HALF_WIDTH = math.sqrt(2 * math.log(2))  # of a Gaussian at half its height, in deviations


def image(*spots: tuple[float, float, float]) -> Tensor:
    """A round galaxy at each (x, y, height), in image sides: (1, 1, 64, 64)."""
    place = (torch.arange(SIDE) + 0.5) / SIDE
    light = torch.zeros(SIDE, SIDE)
    for x, y, height in spots:
        light += height * torch.exp(-((place - x)[None, :] ** 2 + (place - y)[:, None] ** 2) / 0.002)
    return light[None, None]


def everywhere() -> Tensor:
    """Attention (1, 8, 8) that is as good as uniform, but not constant."""
    attention = torch.ones(1, 8, 8)
    attention[0, 0, 0] = 0.99
    return attention


def boxed(planes: Tensor, attention: Tensor, tau1: float = 0.5, reach: float = 0.15, tau2: float = 0.5) -> list[float]:
    """The box of one image."""
    return list(gaussian_box(planes, attention, tau1, reach, tau2)[0].tolist())


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.5), (0.3, 0.6), (0.7, 0.25)])
@pytest.mark.parametrize(("reach", "tau2"), [(0.15, 0.5), (0.2, 0.5), (0.15, 0.2)])
def test_the_box_lies_around_the_brightest_pixel_as_far_as_the_gaussian_reaches(
    x: float, y: float, reach: float, tau2: float
) -> None:
    side = 2 * reach * math.sqrt(-2 * math.log(tau2))  # where the Gaussian falls to tau2
    found = boxed(image((x, y, 1.0)), everywhere(), reach=reach, tau2=tau2)
    centre = [min(max(place, side / 2), 1 - side / 2) for place in (x, y)]
    assert found == pytest.approx([*centre, side], abs=2 / SIDE)


def test_a_brighter_star_outside_the_attention_is_passed_over() -> None:
    attention = torch.zeros(1, 8, 8)
    attention[0, 2:6, 0:4] = 1
    assert boxed(image((0.3, 0.5, 0.5), (0.8, 0.5, 1.0)), attention)[:2] == pytest.approx([0.3, 0.5], abs=0.03)
    assert boxed(image((0.3, 0.5, 0.5), (0.8, 0.5, 1.0)), everywhere())[0] == pytest.approx(0.8, abs=0.03)


def test_tau1_says_how_much_attention_a_pixel_needs() -> None:
    attention = torch.full((1, 8, 8), 0.4)
    attention[0, 2:6, 0:4] = 1
    galaxy_and_star = image((0.3, 0.5, 0.5), (0.75, 0.5, 1.0))
    assert boxed(galaxy_and_star, attention, tau1=0.5)[0] == pytest.approx(0.3, abs=0.05)
    assert boxed(galaxy_and_star, attention, tau1=0.3)[0] > 0.5


def test_attention_cuts_the_box_as_the_gaussian_does() -> None:
    attention = torch.ones(1, 8, 8)
    attention[0, :, :4] = 0
    x, _, side = boxed(image((0.5, 0.5, 1.0)), attention)
    assert side == pytest.approx(2 * 0.15 * HALF_WIDTH, abs=2 / SIDE)  # the square keeps its height
    assert x == pytest.approx(0.5 + side / 4, abs=2 / SIDE)  # about the right half of it


def test_a_box_is_never_smaller_than_a_quarter_nor_over_the_edge() -> None:
    assert boxed(image((0.02, 0.99, 1.0)), everywhere(), reach=0.02) == pytest.approx([0.125, 0.875, 0.25])
    assert boxed(image((0.1, 0.5, 1.0)), everywhere(), reach=5.0) == pytest.approx([0.5, 0.5, 1.0])


def test_a_hot_pixel_is_not_the_brightest() -> None:
    planes = image((0.3, 0.6, 1.0))
    planes[0, 0, 10, 50] = 3.0  # over 25 pixels an eighth of the galaxy's height
    assert boxed(planes, everywhere())[:2] == pytest.approx([0.3, 0.6], abs=0.03)


def test_of_a_saturated_core_the_most_attended_pixel_counts() -> None:
    planes = torch.zeros(1, 1, SIDE, SIDE)
    planes[0, 0, 8:56, 8:56] = 1.0  # its first pixel is at the upper left
    attention = torch.full((1, 8, 8), 0.9)
    attention[0, 5, 4] = 1.0  # centred at 4.5 / 8 and 5.5 / 8
    assert boxed(planes, attention)[:2] == pytest.approx([4.5 / 8, 5.5 / 8], abs=0.03)


def test_a_mirrored_galaxy_has_the_mirrored_box() -> None:
    generator = torch.Generator().manual_seed(4)
    planes, attention = torch.rand(8, 3, SIDE, SIDE, generator=generator), torch.rand(8, 8, 8, generator=generator)
    x, y, side = gaussian_box(planes, attention, 0.5, 0.15, 0.5).unbind(1)
    mirrored = gaussian_box(planes.flip(3), attention.flip(2), 0.5, 0.15, 0.5)
    turned = gaussian_box(planes.rot90(1, (2, 3)), attention.rot90(1, (1, 2)), 0.5, 0.15, 0.5)
    torch.testing.assert_close(mirrored, torch.stack([1 - x, y, side], 1))
    torch.testing.assert_close(turned, torch.stack([y, 1 - x, side], 1))


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, math.nan])
def test_constant_attention_gives_the_centred_box(level: float) -> None:
    assert boxed(image((0.2, 0.8, 1.0)), torch.full((1, 8, 8), level)) == pytest.approx(CENTRED)


@pytest.mark.parametrize("level", [0.0, 0.1, 1.0])
def test_a_constant_image_gives_the_centred_box(level: float) -> None:
    assert boxed(torch.full((1, 3, SIDE, SIDE), level), torch.rand(1, 8, 8)) == pytest.approx(CENTRED)


def test_a_degenerate_image_leaves_its_neighbours_boxes_alone() -> None:
    good = image((0.3, 0.6, 1.0))
    planes = torch.cat([good, torch.zeros_like(good), good])
    attention = torch.cat([everywhere(), everywhere(), torch.zeros(1, 8, 8)])
    boxes = gaussian_box(planes, attention, 0.5, 0.15, 0.5)
    assert boxes[0].tolist() == pytest.approx(boxed(good, everywhere()))
    assert boxes[1].tolist() == boxes[2].tolist() == pytest.approx(CENTRED)


def ramp() -> Tensor:
    """x in its first plane and y in its second, in image sides: (1, 2, 64, 64)."""
    place = ((torch.arange(SIDE) + 0.5) / SIDE).double()
    return torch.stack([place.expand(SIDE, SIDE), place[:, None].expand(SIDE, SIDE)])[None]


@pytest.mark.parametrize(("box", "side"), [((0.5, 0.5, 1.0), 64), ((0.4, 0.7, 0.5), 16), ((0.6, 0.3, 0.25), 32)])
def test_a_crop_holds_the_places_of_its_box(box: tuple[float, float, float], side: int) -> None:
    x, y, width = box
    inside = crop(ramp(), torch.tensor([box]), side)
    across = ((torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5) * width
    torch.testing.assert_close(inside[0, 0], (x + across).expand(side, side), rtol=0, atol=1e-7)
    torch.testing.assert_close(inside[0, 1], (y + across)[:, None].expand(side, side), rtol=0, atol=1e-7)


def test_the_box_of_the_whole_image_gives_it_back() -> None:
    planes = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(crop(planes, torch.tensor([[0.5, 0.5, 1.0]] * 2), SIDE), planes, rtol=0, atol=1e-5)


def test_no_rows_are_cut_to_no_rows() -> None:
    assert crop(torch.rand(0, 3, 8, 8), torch.zeros(0, 3), 4).shape == (0, 3, 4, 4)
    assert gaussian_box(torch.rand(0, 3, 8, 8), torch.rand(0, 2, 2), 0.5, 0.15, 0.5).shape == (0, 3)


def test_a_localiser_begins_in_the_middle() -> None:
    boxes = Localiser(6, 2)(torch.randn(5, 6, 2, 2))
    torch.testing.assert_close(boxes, torch.tensor([CENTRED] * 5))


def test_a_localiser_never_reaches_over_the_edge() -> None:
    localiser = Localiser(6, 2)
    torch.nn.init.normal_(localiser.last.weight, std=30)
    x, y, side = localiser(torch.randn(200, 6, 2, 2)).unbind(1)
    assert side.min() >= 0.25
    for centre in (x, y):
        assert (centre - side / 2).min() > -1e-6
        assert (centre + side / 2).max() < 1 + 1e-6


def test_the_crop_teaches_the_localiser_where_galaxies_are() -> None:
    """From light alone: the brighter the crop, the lower the loss. Then a shifted galaxy shifts the box as far."""
    torch.manual_seed(2)
    localiser = Localiser(1, 8)
    optimiser = torch.optim.Adam(localiser.parameters(), 0.003)
    places = [(x, y) for x in (0.3, 0.4, 0.5, 0.6, 0.7) for y in (0.3, 0.5, 0.7)]
    planes = torch.cat([image((x, y, 1.0)) for x, y in places])
    planes = F.avg_pool2d(planes, 25, 1, 12)  # wide enough to be felt from the centred box
    features = F.avg_pool2d(planes, 8) / planes.max()
    for _ in range(100):
        optimiser.zero_grad()
        loss = -crop(planes, localiser(features), 16).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found, truth = localiser(features).detach()[:, :2], torch.tensor(places)
    for axis in (0, 1):
        slope = torch.linalg.lstsq(truth[:, [axis]] - 0.5, found[:, [axis]] - 0.5).solution.item()
        assert slope == pytest.approx(1, abs=0.25)
