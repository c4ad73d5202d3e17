"""The baseline of 1992: indicators of galaxies whose shape is known, and the network that reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import MissingExtra
from pipeline.models.ann import INDICATORS, ANNConfig
from pipeline.models.extra import from_extra
from pipeline.training.indicators import indicators

GAUSSIAN = 5 * math.log10(math.sqrt(math.log(5) / math.log(1.25)))  # concentration of exp(-r^2): r80 over r20
EXPONENTIAL = 5 * math.log10(2.9943 / 0.8244)  # of exp(-r): 1 - (1 + r) exp(-r) is 0.8 and 0.2
OVERSAMPLING = 3


def sersic(index: float, ratio: float = 1.0, size: int = 64, angle: float = 0.5) -> NDArray[np.uint8]:
    """A galaxy of this Sersic index and axis ratio, a ninth of the image in half-light radius: (3, size, size)."""
    y, x = (np.mgrid[: size * OVERSAMPLING, : size * OVERSAMPLING] + 0.5) / OVERSAMPLING - size / 2
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    radius = np.hypot(along, across / ratio) / (size / 9)
    scale = 2 * index - 1 / 3 + 0.009876 / index  # Prugniel and Simien 1997, A&A 321, 111, eq. A3a
    light = np.exp(-scale * radius ** (1 / index))
    light = light.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean((1, 3))
    counts = np.round(10 + 200 * light / light.max())
    return np.repeat(counts.astype(np.uint8)[None], 3, 0)


def measured(*images: NDArray[np.uint8]) -> list[dict[str, float]]:
    return [dict(zip(INDICATORS, row.tolist(), strict=True)) for row in indicators(np.stack(images))]


@pytest.mark.parametrize("ratio", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("index", [0.5, 1.0])
def test_the_axis_ratio_is_that_of_the_drawn_galaxy(index: float, ratio: float) -> None:
    assert measured(sersic(index, ratio))[0]["axis_ratio"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(("index", "expected"), [(0.5, GAUSSIAN), (1.0, EXPONENTIAL)])
def test_the_concentration_is_that_of_the_profile(index: float, expected: float) -> None:
    assert measured(sersic(index))[0]["concentration"] == pytest.approx(expected, abs=0.08)


def test_a_steeper_profile_is_more_concentrated_and_less_equal() -> None:
    flat, steep = measured(sersic(0.5), sersic(4.0))
    assert steep["concentration"] > flat["concentration"] + 1.5
    assert steep["gini"] > flat["gini"] + 0.1
    assert steep["m20"] < flat["m20"] - 0.3
    assert flat["asymmetry"] == pytest.approx(0, abs=0.01)


def test_a_companion_makes_a_galaxy_asymmetric_and_spreads_its_brightest_light() -> None:
    alone = sersic(0.5)
    pair = np.maximum(alone, (0.8 * np.roll(alone, 13, axis=2)).astype(np.uint8))
    single, double = measured(alone, pair)
    assert double["asymmetry"] > 0.2
    assert double["m20"] > single["m20"] + 0.3


def test_a_turned_galaxy_and_one_in_a_larger_image_have_the_same_indicators() -> None:
    upright, turned, large = (
        measured(image)[0] for image in (sersic(1.0, 0.6), sersic(1.0, 0.6, angle=1.3), sersic(1.0, 0.6, size=256))
    )
    assert list(turned.values()) == pytest.approx(list(upright.values()), abs=0.05)
    assert list(large.values()) == pytest.approx(list(upright.values()), abs=0.05)


def test_an_image_without_a_galaxy_has_no_indicators_and_harms_no_other() -> None:
    corner = np.full((3, 64, 64), 10, dtype=np.uint8)
    corner[:, :10, :10] = 200
    plain = [np.full_like(corner, value) for value in (0, 128, 255)]
    found = indicators(np.stack([*plain, corner, sersic(1.0)]))
    assert np.isnan(found[:4]).all()
    assert np.array_equal(found[4], indicators(sersic(1.0)[None])[0])


def test_a_measurement_that_fails_leaves_a_row_without_indicators(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("statmorph.SourceMorphology", fails)
    assert np.isnan(indicators(sersic(1.0)[None])).all()


def test_no_images_have_no_rows() -> None:
    assert indicators(np.empty((0, 3, 64, 64), dtype=np.uint8)).shape == (0, 5)


def test_a_missing_library_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"needs no_such_library .*galaxy-pipeline\[baselines\]"):
        from_extra("no_such_library.part", "baselines")


def test_the_network_of_1992_has_three_layers() -> None:
    module = ANNConfig().build()
    assert sum(tensor.numel() for tensor in module.parameters()) == 5 * 16 + 16 + 16 * 6 + 6
    assert module(torch.zeros(7, 5)).shape == (7, 6)


def test_a_galaxy_without_indicators_is_answered_as_an_average_one() -> None:
    module, values = ANNConfig().build(), torch.randn(50, 5, generator=torch.Generator().manual_seed(1)) * 3 + 2
    values[3, 2] = torch.nan
    module.fit_scale(values)
    lacking = torch.full((1, 5), torch.nan)
    torch.testing.assert_close(module(lacking), module(values.nanmean(0, keepdim=True)))
    assert module(values).isfinite().all()
    with pytest.raises(ValueError, match="none of axis_ratio, concentration"):
        module.fit_scale(lacking)


def test_indicators_are_put_on_one_scale_and_failed_ones_are_held_back() -> None:
    module, values = ANNConfig().build(), torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
    before = module(values)
    module.fit_scale(values)
    stretched = ANNConfig().build()
    stretched.load_state_dict(module.state_dict())
    stretched.fit_scale(values * 1000 - 5)
    torch.testing.assert_close(stretched(values * 1000 - 5), module(values), rtol=1e-4, atol=1e-5)
    assert not torch.equal(module(values), before)
    far = module.mean + torch.tensor([[5.0], [1e6]]) * module.deviation
    torch.testing.assert_close(module(far[:1]), module(far[1:]))


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"hidden": 0}])
def test_a_config_that_cannot_be_built_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ANNConfig(**wrong)
