"""The score of novel images, on features and logits whose distribution is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import CheckpointError
from pipeline.models.checkpoint import read_checkpoint, untrained_checkpoint, write_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.novelty import Classes, Novelty, Seen
from pipeline.training.novelty import fit_novelty

WIDTH, EARLY = 8, 4
CENTRES = 6 * torch.eye(3, WIDTH, dtype=torch.float64) + 100  # far from 0, as features after a ReLU are
SPREADS = torch.linspace(0.2, 3.0, WIDTH, dtype=torch.float64)


def galaxies(count: int, seed: int) -> tuple[Seen, Tensor]:
    """Features of three classes, Gaussian of widths SPREADS, logits that follow from the place, and labels.

    An early layer knows no classes yet.
    """
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draw)
    features = CENTRES[labels] + SPREADS * torch.randn(count, WIDTH, generator=draw, dtype=torch.float64)
    noise = torch.randn(count, 3, generator=draw)
    early = 3 * torch.randn(count, EARLY, generator=draw) + 50
    return Seen(8 * torch.nn.functional.one_hot(labels, 3) + noise, features.float(), early), labels


def some(seen: Seen, rows: slice) -> Seen:
    return Seen(*(part[rows] for part in seen))


def fitted(held_out: int = 5000) -> Novelty:
    return fit_novelty(*galaxies(4000, 0), galaxies(held_out, 1)[0])


MODEL = fitted()
EMPTY = untrained_checkpoint(
    "dmagnet_f", 0, DMAGNetConfig(size=64, dims=(8, EARLY, WIDTH), depths=(1, 1, 1), head_channels=8)
)


@pytest.mark.parametrize("surprise", [0.5, 1.0, 2.0])
def test_novelty_is_the_share_of_galaxies_that_are_as_novel(surprise: float) -> None:
    found = MODEL.score(galaxies(40_000, 2)[0])
    share = 10**-surprise
    # The scale itself is known to sqrt(share / 5000), three times over.
    assert (found >= surprise).double().mean().item() == pytest.approx(share, abs=3 * math.sqrt(share / 5000))
    assert found.min() >= 0


def test_the_distance_is_mahalanobis_own() -> None:
    place = (CENTRES[1] + torch.tensor([0, 2.0, 0, 0, 0, 0, 0, 1.5])).float()[None]
    expected = (2 / SPREADS[1]) ** 2 + (1.5 / SPREADS[7]) ** 2
    assert MODEL.late.distances(place).item() == pytest.approx(expected.item(), rel=0.1)
    assert MODEL.late.distances(CENTRES.float()).max() < 0.1


def test_features_that_lie_elsewhere_are_novel_however_sure_the_network_is() -> None:
    seen, _ = galaxies(200, 3)
    seen.features[:, 0] += 8 * SPREADS[0]  # 1.6, a quarter of the way between two classes
    assert (MODEL.score(seen) > 2).all()


def test_what_an_early_layer_alone_tells_from_galaxies_is_novel() -> None:
    seen, _ = galaxies(200, 3)
    assert (MODEL.score(seen._replace(early=seen.early + torch.tensor([0.0, 24.0, 0.0, 0.0]))) > 2).all()
    assert MODEL.score(seen).median() < 1


def test_an_image_that_calls_no_class_is_novel_although_its_features_are_not() -> None:
    seen, _ = galaxies(200, 3)
    assert (MODEL.score(seen._replace(logits=seen.logits - 8)) > 2).all()


def test_the_strangest_images_still_have_an_order() -> None:
    away = torch.tensor([20.0, 40.0, 400.0])[:, None]
    seen, _ = galaxies(1, 3)
    scores = MODEL.score(Seen(seen.logits.expand(3, 3), seen.features + away, seen.early.expand(3, EARLY)))
    assert (scores.diff() > 1).all()
    assert scores[0] > math.log10(5000)
    assert scores.isfinite().all()


def test_the_tail_goes_on_as_the_galaxies_do() -> None:
    share = (MODEL.score(galaxies(200_000, 4)[0]) >= 3.5).double().mean().item()  # beyond the last knot, 2.7
    # An exponential tail is heavier than a Gaussian one: it says too little rather than too much.
    assert 10**-4.2 < share < 10**-3.3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e25])
def test_what_is_no_number_or_has_no_finite_distance_has_no_novelty(value: float) -> None:
    seen, _ = galaxies(4, 5)
    seen.features[0, 0], seen.logits[1, 2], seen.early[2, 3] = value, math.inf, value
    assert MODEL.score(seen).isnan().tolist() == [True, True, True, False]


def test_features_that_never_vary_and_fewer_galaxies_than_features_do_no_harm() -> None:
    seen, labels = galaxies(200, 6)
    wide = seen._replace(features=torch.cat([seen.features, torch.zeros(200, 300)], 1))
    model = fit_novelty(some(wide, slice(100)), labels[:100], some(wide, slice(100, None)))
    assert model.score(wide).isfinite().all()
    wide.features[:, 200] += 5
    assert (model.score(wide) > 2).all()


def test_what_is_off_along_an_axis_that_hardly_varies_is_novel() -> None:
    seen, labels = galaxies(500, 0)
    scale = torch.tensor([10.0] + [0.01] * 31)
    wide = seen._replace(features=torch.randn(500, 32, generator=torch.Generator().manual_seed(1)) * scale)
    learned, held_out = some(wide, slice(250)), some(wide, slice(250, None))
    model = fit_novelty(learned, labels[:250] * 0, held_out)
    off = held_out._replace(features=held_out.features + 15 * scale[1] * torch.eye(32)[1])  # 15 deviations
    assert model.score(off).median() > 2
    assert model.score(held_out).median() < 1


def test_galaxies_that_all_score_the_same_are_ordinary() -> None:
    seen, labels = galaxies(4000, 0)
    same = seen._replace(logits=torch.zeros(4000, 3))
    model = fit_novelty(same, labels, same)
    assert model.energy.surprise(torch.full((2,), -math.log(3))).tolist() == [0, 0]


def test_a_class_without_a_galaxy_is_left_out() -> None:
    seen, labels = galaxies(1000, 0)
    model = fit_novelty(seen, labels * 2, seen)  # classes 0, 2 and 4
    assert model.late.means.shape == (3, WIDTH)


def test_a_scale_needs_galaxies_that_vary() -> None:
    seen, labels = galaxies(200, 0)
    with pytest.raises(ValueError, match="at least 100 held-out galaxies, got 99"):
        fit_novelty(seen, labels, some(seen, slice(99)))
    for name in ("features", "early"):
        with pytest.raises(ValueError, match="do not vary within their classes"):
            fit_novelty(seen._replace(**{name: torch.ones(200, 4)}), labels, seen)
        with pytest.raises(ValueError, match="expected finite"):
            fit_novelty(seen._replace(**{name: getattr(seen, name) / 0}), labels, seen)


def test_a_fitted_model_comes_back_from_its_checkpoint() -> None:
    found = read_checkpoint(write_checkpoint(EMPTY, EMPTY.weights, MODEL), "x")
    seen, _ = galaxies(50, 7)
    assert found.novelty is not None
    assert found.weights.keys() == EMPTY.weights.keys()
    assert torch.equal(found.novelty.score(seen), MODEL.score(seen))


def test_a_model_of_novelty_of_other_features_is_refused() -> None:
    narrow = Classes(torch.zeros(3, 5), torch.eye(5), torch.zeros(5))
    with pytest.raises(CheckpointError, match="8 features for a model of novelty of 5"):
        read_checkpoint(write_checkpoint(EMPTY, EMPTY.weights, replace(MODEL, late=narrow)), "x")
    with pytest.raises(CheckpointError, match="4 early features for a model of novelty of 5"):
        read_checkpoint(write_checkpoint(EMPTY, EMPTY.weights, replace(MODEL, early=narrow)), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"novelty.late.means": None},
            r"x: missing or unknown tensors, perhaps of another version: novelty\.late\.means",
        ),
        ({"novelty.more": torch.zeros(1)}, r"missing or unknown tensors, .*: novelty\.more"),
        ({"novelty.late.means": torch.zeros(3, 9)}, r"novelty\.late\.means: expected \(C, 8\), got \(3, 9\)"),
        ({"novelty.early.means": torch.zeros(3, 8)}, r"novelty\.early\.means: expected \(C, 4\), got \(3, 8\)"),
        ({"novelty.late.centre": torch.zeros(8, 1)}, r"novelty\.late\.centre: expected \(D,\)"),
        ({"novelty.late.whitening": torch.zeros(3, 8)}, r"novelty\.late\.whitening: expected \(8, 8\)"),
        ({"novelty.late.centre": torch.zeros(8).double()}, r"novelty\.late\.centre: expected finite float32"),
        ({"novelty.largest.tail": torch.tensor(math.nan)}, r"novelty\.largest\.tail: expected finite float32"),
        ({"novelty.largest.tail": torch.tensor(-1.0)}, r"novelty\.largest: expected scores and surprises that ascend"),
        ({"novelty.energy.scores": MODEL.energy.scores.flip(0)}, r"novelty\.energy: expected scores .* that ascend"),
        ({"novelty.energy.scores": torch.tensor([1.0])}, r"novelty\.energy: expected scores \(Q,\)"),
    ],
)
def test_a_model_of_novelty_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    tensors = {**EMPTY.weights, **MODEL.tensors(), **change}
    kept = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(write_checkpoint(EMPTY, kept), "x")
