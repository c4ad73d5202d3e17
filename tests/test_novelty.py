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
from pipeline.models.novelty import Novelty
from pipeline.training.novelty import fit_novelty

WIDTH = 8
CENTRES = 6 * torch.eye(3, WIDTH, dtype=torch.float64) + 100  # far from 0, as features after a ReLU are
SPREADS = torch.linspace(0.2, 3.0, WIDTH, dtype=torch.float64)


def galaxies(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of three classes, Gaussian of widths SPREADS, logits that follow from the place, and labels."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draw)
    features = CENTRES[labels] + SPREADS * torch.randn(count, WIDTH, generator=draw, dtype=torch.float64)
    noise = torch.randn(count, 3, generator=draw)
    return features.float(), 8 * torch.nn.functional.one_hot(labels, 3) + noise, labels


def fitted(held_out: int = 5000) -> Novelty:
    return fit_novelty(*galaxies(4000, 0), held_out=galaxies(held_out, 1)[:2])


MODEL = fitted()
EMPTY = untrained_checkpoint("dmagnet_f", 0, DMAGNetConfig(size=32, dims=(8, WIDTH), depths=(1, 1), head_channels=8))


@pytest.mark.parametrize("surprise", [0.5, 1.0, 2.0])
def test_novelty_is_the_share_of_galaxies_that_are_as_novel(surprise: float) -> None:
    features, logits, _ = galaxies(40_000, 2)
    found = MODEL.score(features, logits)
    share = 10**-surprise
    # The scale itself is known to sqrt(share / 5000), three times over.
    assert (found >= surprise).double().mean().item() == pytest.approx(share, abs=3 * math.sqrt(share / 5000))
    assert found.min() >= 0


def test_the_distance_is_mahalanobis_own() -> None:
    place = (CENTRES[1] + torch.tensor([0, 2.0, 0, 0, 0, 0, 0, 1.5])).float()[None]
    expected = (2 / SPREADS[1]) ** 2 + (1.5 / SPREADS[7]) ** 2
    assert MODEL.distances(place).item() == pytest.approx(expected.item(), rel=0.1)
    assert MODEL.distances(CENTRES.float()).max() < 0.1


def test_features_that_lie_elsewhere_are_novel_however_sure_the_network_is() -> None:
    features, logits, _ = galaxies(200, 3)
    features[:, 0] += 8 * SPREADS[0]  # 1.6, a quarter of the way between two classes
    assert (MODEL.score(features, logits) > 2).all()


def test_an_image_that_calls_no_class_is_novel_although_its_features_are_not() -> None:
    features, logits, _ = galaxies(200, 3)
    assert (MODEL.score(features, logits - 8) > 2).all()


def test_the_strangest_images_still_have_an_order() -> None:
    away = torch.tensor([20.0, 40.0, 400.0])[:, None]
    features, logits, _ = galaxies(1, 3)
    scores = MODEL.score(features + away, logits.expand(3, 3))
    assert (scores.diff() > 1).all()
    assert scores[0] > math.log10(5000)
    assert scores.isfinite().all()


def test_the_tail_goes_on_as_the_galaxies_do() -> None:
    features, logits, _ = galaxies(200_000, 4)
    share = (MODEL.score(features, logits) >= 3.5).double().mean().item()  # beyond the last knot, 2.7
    # An exponential tail is heavier than a Gaussian one: it says too little rather than too much.
    assert 10**-4.2 < share < 10**-3.3


def test_what_is_no_number_has_no_novelty() -> None:
    features, logits, _ = galaxies(3, 5)
    features[0, 0], logits[1, 2] = math.nan, math.nan
    assert MODEL.score(features, logits).isnan().tolist() == [True, True, False]


def test_features_that_never_vary_and_fewer_galaxies_than_features_do_no_harm() -> None:
    features, logits, labels = galaxies(200, 6)
    wide = torch.cat([features, torch.zeros(200, 300)], 1)
    model = fit_novelty(wide[:100], logits[:100], labels[:100], held_out=(wide[100:], logits[100:]))
    assert model.score(wide, logits).isfinite().all()
    woken = wide.clone()
    woken[:, 200] += 5
    assert (model.score(woken, logits) > 2).all()


def test_galaxies_that_all_score_the_same_are_ordinary() -> None:
    features, _, labels = galaxies(4000, 0)
    logits = torch.zeros(4000, 3)
    model = fit_novelty(features, logits, labels, held_out=(features, logits))
    assert model.energy.surprise(torch.full((2,), -math.log(3))).tolist() == [0, 0]


def test_a_class_without_a_galaxy_is_left_out() -> None:
    features, logits, labels = galaxies(1000, 0)
    model = fit_novelty(features, logits, labels * 2, held_out=(features, logits))  # classes 0, 2 and 4
    assert model.means.shape == (3, WIDTH)


def test_a_scale_needs_galaxies_that_vary() -> None:
    features, logits, labels = galaxies(200, 0)
    held_out = (features, logits)
    with pytest.raises(ValueError, match="at least 100 held-out galaxies, got 99"):
        fit_novelty(features, logits, labels, held_out=(features[:99], logits[:99]))
    with pytest.raises(ValueError, match="do not vary within their classes"):
        fit_novelty(torch.ones(200, 4), logits, labels, held_out=held_out)
    with pytest.raises(ValueError, match="expected finite"):
        fit_novelty(features / 0, logits, labels, held_out=held_out)


def test_a_fitted_model_comes_back_from_its_checkpoint() -> None:
    found = read_checkpoint(write_checkpoint(EMPTY, EMPTY.weights, MODEL), "x")
    features, logits, _ = galaxies(50, 7)
    assert found.novelty is not None
    assert found.weights.keys() == EMPTY.weights.keys()
    assert torch.equal(found.novelty.score(features, logits), MODEL.score(features, logits))


def test_a_model_of_novelty_of_other_features_is_refused() -> None:
    narrow = replace(MODEL, means=torch.zeros(3, 5), whitening=torch.eye(5), centre=torch.zeros(5))
    with pytest.raises(CheckpointError, match="8 features for a model of novelty of 5"):
        read_checkpoint(write_checkpoint(EMPTY, EMPTY.weights, narrow), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"novelty.means": None}, r"x: missing or unknown tensors: novelty\.means"),
        ({"novelty.more": torch.zeros(1)}, r"missing or unknown tensors: novelty\.more"),
        ({"novelty.means": torch.zeros(3, 9)}, r"novelty\.means: expected \(C, 8\), got \(3, 9\)"),
        ({"novelty.centre": torch.zeros(8, 1)}, r"novelty\.centre: expected \(D,\)"),
        ({"novelty.whitening": torch.zeros(3, 8)}, r"novelty\.whitening: expected \(8, 8\)"),
        ({"novelty.centre": torch.zeros(8).double()}, r"novelty\.centre: expected finite float32"),
        ({"novelty.both.tail": torch.tensor(math.nan)}, r"novelty\.both\.tail: expected finite float32"),
        ({"novelty.both.tail": torch.tensor(-1.0)}, r"novelty\.both: expected scores and surprises that ascend"),
        ({"novelty.energy.scores": MODEL.energy.scores.flip(0)}, r"novelty\.energy: expected scores .* that ascend"),
        ({"novelty.energy.scores": torch.tensor([1.0])}, r"novelty\.energy: expected scores \(Q,\)"),
    ],
)
def test_a_model_of_novelty_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    tensors = {**EMPTY.weights, **MODEL.tensors(), **change}
    kept = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(write_checkpoint(EMPTY, kept), "x")
