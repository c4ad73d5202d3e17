"""Attention statistics against maps whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from pipeline.attention import summarise
from pipeline.models import NETWORKS
from pipeline.models.network import ATTENTION_COLUMNS, attention_columns

FINITE = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
any_map = arrays(np.float32, st.tuples(st.just(1), st.integers(2, 9), st.integers(2, 9)), elements=FINITE)


def statistics(maps: Tensor) -> dict[str, Tensor]:
    return dict(zip(ATTENTION_COLUMNS, summarise(maps)[0].unbind(1), strict=True))


def stored(maps: Tensor) -> Tensor:
    return summarise(maps)[1].reshape(-1, 16, 16)


def blob(centre: tuple[float, float], sigmas: tuple[float, float], angle: float, side: int = 64) -> Tensor:
    """A Gaussian (1, side, side) whose first axis lies `angle` degrees east of north (up, left)."""
    pixel = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    right, down = pixel[None, :] - centre[0], pixel[:, None] - centre[1]
    radians = math.radians(angle)
    along = -down * math.cos(radians) - right * math.sin(radians)  # north is up, east is left
    across = -down * math.sin(radians) + right * math.cos(radians)
    return torch.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))[None]


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0, 170.0])
def test_a_gaussian_blob_gives_back_what_it_was_drawn_with(angle: float) -> None:
    found = statistics(blob((0.4, 0.6), (0.10, 0.05), angle))
    assert found["cx"].item() == pytest.approx(0.4, abs=0.003)
    assert found["cy"].item() == pytest.approx(0.6, abs=0.003)
    assert found["sigma"].item() == pytest.approx(math.sqrt((0.1**2 + 0.05**2) / 2), rel=0.02)
    assert found["ellip"].item() == pytest.approx(0.6, abs=0.01)  # (0.1^2 - 0.05^2) / (0.1^2 + 0.05^2)
    away = (found["pa"].item() - angle + 90) % 180 - 90
    assert away == pytest.approx(0, abs=0.5)
    assert abs(found["peak_x"].item() - 0.4) <= 0.5 / 64 + 1e-6
    assert abs(found["peak_y"].item() - 0.6) <= 0.5 / 64 + 1e-6


def test_a_streak_from_the_north_eastern_corner_has_a_position_angle_of_45_degrees() -> None:
    found = statistics(torch.eye(8)[None])  # row 0, column 0 is the north-eastern corner
    assert found["pa"].item() == pytest.approx(45)
    assert found["e2"].item() > 0.9
    assert found["e1"].item() == pytest.approx(0, abs=1e-6)


def test_a_uniform_map_has_full_entropy_and_no_direction() -> None:
    found = statistics(torch.full((1, 8, 8), 1 / 64))
    assert {name: found[name].item() for name in ("entropy", "gini", "area50", "flat")} == pytest.approx(
        {"entropy": 1, "gini": 0, "area50": 0.5, "flat": 1}, abs=1e-7
    )
    assert found["sigma"].item() == pytest.approx(math.sqrt((1 - 1 / 64) / 12))
    assert found["cx"].item() == found["cy"].item() == 0.5
    assert found["pa"].isnan().item()


@pytest.mark.parametrize("side", [12, 100, 150])
def test_a_uniform_map_of_many_pixels_has_half_its_attention_in_half_of_them(side: int) -> None:
    assert statistics(torch.ones(1, side, side))["area50"].item() == 0.5


def test_a_single_pixel_holds_everything() -> None:
    one = torch.zeros(1, 8, 8)
    one[0, 2, 5] = 3.0
    found = statistics(one)
    expected = {"peak_x": 5.5 / 8, "peak_y": 2.5 / 8, "cx": 5.5 / 8, "cy": 2.5 / 8, "sigma": 0, "ellip": 0}
    expected |= {"entropy": 0, "area50": 1 / 64, "gini": 63 / 64, "central": 0, "raw_max": 3, "flat": 0}
    assert {name: found[name].item() for name in expected} == pytest.approx(expected)
    assert stored(one)[0].nonzero().tolist() == [[4, 10], [4, 11], [5, 10], [5, 11]]
    assert stored(one).max() == 255


def test_central_attention_lies_within_a_quarter_of_the_side() -> None:
    half = torch.zeros(1, 8, 8)
    half[0, 3, 3] = 1.0  # 0.09 from the centre
    half[0, 4, 6] = 1.0  # 0.32 from it
    assert statistics(half)["central"].item() == pytest.approx(0.5)


def test_a_negative_map_is_shifted_and_a_positive_one_is_not() -> None:
    ramp = torch.arange(4.0).reshape(1, 2, 2)
    assert torch.equal(summarise(ramp - 5)[1], summarise(ramp)[1])
    assert statistics(ramp + 1)["entropy"] > statistics(ramp)["entropy"]
    assert statistics(ramp - 5)["raw_min"].item() == -5


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0, math.nan, math.inf, -math.inf])
def test_a_map_that_says_nothing_is_flat_and_does_not_touch_its_neighbour(value: float) -> None:
    good = blob((0.3, 0.3), (0.12, 0.1), 0, side=8).float()
    bad = torch.full((1, 8, 8), value)
    found = statistics(torch.cat([bad, good]))
    assert found["flat"].tolist() == [1, 0]
    assert found["entropy"][0].item() == pytest.approx(1)
    assert found["raw_min"][0].item() == pytest.approx(value, nan_ok=True)
    assert torch.equal(summarise(torch.cat([bad, good]))[0][1], summarise(good)[0][0])


def test_one_bad_pixel_makes_a_map_flat() -> None:
    maps = torch.arange(64.0).reshape(1, 8, 8).repeat(3, 1, 1)
    maps[0, 3, 3], maps[1, 3, 3] = math.nan, math.inf
    found = statistics(maps)
    assert found["flat"].tolist() == [1, 1, 0]
    assert found["cx"][:2].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_flipped_map_mirrors(axis: str) -> None:
    maps = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(2))
    flipped = maps.flip(2 if axis == "x" else 1)
    before, after = statistics(maps), statistics(flipped)
    mirrored = {f"peak_{axis}": 1 - before[f"peak_{axis}"], f"c{axis}": 1 - before[f"c{axis}"]}
    mirrored |= {"e2": -before["e2"], "pa": 180 - before["pa"]}
    for name in ATTENTION_COLUMNS:
        torch.testing.assert_close(after[name], mirrored.get(name, before[name]), rtol=1e-6, atol=1e-6)
    assert torch.equal(stored(flipped), stored(maps).flip(2 if axis == "x" else 1))


@pytest.mark.parametrize("side", [4, 8, 16, 37, 150])
def test_the_stored_map_keeps_the_attention_where_it_was(side: int) -> None:
    maps = blob((0.3, 0.6), (0.15, 0.1), 0, side=side)
    cells = stored(maps).double()
    assert cells.max() == 255
    before, after = statistics(maps), statistics(cells)
    for name in ("cx", "cy"):
        assert after[name].item() == pytest.approx(before[name].item(), abs=0.01)


def test_the_stored_map_of_37_pixels_weighs_them_by_area() -> None:
    stripe = torch.zeros(1, 37, 37)
    stripe[0, :, 2] = 1.0  # covers 2 to 3 of 37; the cells end at 2.3125
    row = stored(stripe)[0, 0].tolist()
    assert row == [round(255 * 0.3125 / 0.6875), 255, *[0] * 14]


@settings(max_examples=200, deadline=None)
@given(any_map)
def test_every_finite_map_gives_statistics_in_their_ranges(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    found = {name: value.item() for name, value in statistics(torch.from_numpy(values)).items()}
    edge = 1e-6
    for name in ("peak_x", "peak_y", "cx", "cy", "ellip", "entropy", "area50", "gini", "central"):
        assert -edge <= found[name] <= 1 + edge, name
    assert 0 <= found["sigma"] <= math.sqrt(0.25) + edge
    assert math.isnan(found["pa"]) or 0 <= found["pa"] <= 180
    assert (found["raw_min"], found["raw_max"]) == (values.min(), values.max())


@settings(max_examples=100, deadline=None)
@given(any_map, st.integers(-40, 40))
def test_the_scale_of_a_map_does_not_matter(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], power: int
) -> None:
    maps = torch.from_numpy(values).double()
    plain, scaled = statistics(maps), statistics(maps * 2.0**power)
    for name in ATTENTION_COLUMNS:
        if not name.startswith("raw"):
            torch.testing.assert_close(scaled[name], plain[name], rtol=0, atol=0, equal_nan=True)


def test_no_maps_give_no_rows() -> None:
    found, maps = summarise(torch.empty(0, 8, 8))
    assert (found.shape, maps.shape) == ((0, 16), (0, 256))
    assert (found.dtype, maps.dtype) == (torch.float32, torch.uint8)


def test_the_columns_of_a_network_end_with_its_scalars() -> None:
    config = NETWORKS["dmagnet_f"]
    assert attention_columns(config) == (*ATTENTION_COLUMNS, *config.scalars)
