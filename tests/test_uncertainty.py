"""What a network's answer is worth: logits, entropy, spread over views, novelty, disagreement, and the flag."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.catalogue.contract import NetworkColumns
from pipeline.catalogue.rows import disagreement
from pipeline.data import NOVEL, Chunk, NetworkOutput, RowFlag
from pipeline.inference import Predictor
from pipeline.models.checkpoint import Checkpoint, untrained_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.network import NetworkResult
from pipeline.models.novelty import Seen
from pipeline.models.prior import Prior
from pipeline.stages import predict
from pipeline.training.novelty import fit_novelty
from tests.test_inference import PROBE, SEED_0, galaxies


@dataclass(frozen=True)
class TiltConfig:
    bands: int = 3
    classes: int = 2
    size: int = 8
    scalars: tuple[str, ...] = ()
    features: int = 1
    early: int = 1

    def build(self) -> nn.Module:
        return Tilt()


class Tilt(nn.Module):
    """Calls the first class as strongly as the upper left quarter is brighter than the rest: it knows up and left."""

    def forward(self, images: Tensor) -> NetworkResult:
        tilt = 4 * (images[:, :, :4, :4].mean((1, 2, 3)) - images[:, :, 4:, 4:].mean((1, 2, 3)))
        return NetworkResult(torch.stack([tilt, -tilt], 1), images.mean(1), {}, tilt[:, None], tilt[:, None])


TILT = replace(PROBE, config=TiltConfig(), classes=("a", "b"))


def answered(images: NDArray[np.uint8], checkpoint: Checkpoint = SEED_0, views: int = 1) -> NetworkOutput:
    return Predictor({"net": checkpoint}, device="cpu", batch=4, views={"net": views})(images)["net"]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def test_logits_are_the_networks_own_whatever_the_contract_makes_of_them() -> None:
    images = galaxies(5)
    with torch.inference_mode():
        logits = SEED_0.build()(torch.from_numpy(images).float() / 255).logits.numpy()
    prior = Prior(training=(1 / 6,) * 6, target=(0.5, 0.1, 0.1, 0.1, 0.1, 0.1))
    found = answered(images, replace(SEED_0, temperature=0.5, prior=prior))
    np.testing.assert_allclose(found.logits, logits, atol=1e-6)


def test_probabilities_take_the_temperature_and_then_the_prior() -> None:
    prior = Prior(training=(0.4, 0.2, 0.1, 0.1, 0.1, 0.1), target=(0.1, 0.1, 0.1, 0.1, 0.2, 0.4))
    found = answered(galaxies(5), replace(SEED_0, temperature=0.05, prior=prior))
    calibrated = softmax(found.logits.astype(np.float64) / 0.05)
    weighed = calibrated * np.array(prior.target) / np.array(prior.training)
    np.testing.assert_allclose(found.probabilities, weighed / weighed.sum(1, keepdims=True), rtol=1e-4)
    assert np.ptp(calibrated, axis=0).max() > 0.01  # the images do differ


def test_entropy_is_a_fraction_of_its_maximum() -> None:
    images = galaxies(5)
    found = answered(images, replace(SEED_0, temperature=0.05))
    said = found.probabilities.astype(np.float64)
    np.testing.assert_allclose(found.entropy, -(said * np.log(said)).sum(1) / np.log(6), rtol=1e-5)
    np.testing.assert_allclose(answered(images, replace(SEED_0, temperature=1e6)).entropy, 1, atol=1e-5)
    np.testing.assert_allclose(answered(images, replace(SEED_0, temperature=1e-6)).entropy, 0, atol=1e-5)


def eight_views(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [
        np.ascontiguousarray(np.rot90(images[..., ::step], turns, (2, 3))) for step in (1, -1) for turns in range(4)
    ]


def test_spread_is_that_of_the_answers_to_the_eight_views() -> None:
    images, sharp = galaxies(5), replace(SEED_0, temperature=0.02)
    every = np.stack([answered(view, sharp).probabilities.astype(np.float64) for view in eight_views(images)])
    expected = np.sqrt(((every - every.mean(0)) ** 2).sum(2).mean(0))
    assert expected.min() > 1e-4
    found = answered(images, sharp, views=8)
    np.testing.assert_allclose(found.spread, expected, rtol=1e-3)
    assert np.array_equal(found.probabilities, answered(images, sharp).probabilities)  # of the image as it is


def test_a_corner_that_one_view_in_four_shows_spreads_the_answer_by_hand() -> None:
    image = np.zeros((1, 3, 8, 8), np.uint8)
    image[..., :4, :4] = 255
    p = 1 / (1 + np.exp(-8.0))  # of class a where the corner is up and left, of b where it is down and right
    answers = np.array([p, p, 1 - p, 1 - p, 0.5, 0.5, 0.5, 0.5])
    assert answered(image, TILT, views=8).spread[0] == pytest.approx(np.sqrt(2) * answers.std(), rel=1e-5)


def test_a_network_that_does_not_know_up_has_no_spread() -> None:
    found = answered(galaxies(3, 8) // 4, PROBE, views=8)
    np.testing.assert_allclose(found.spread, 0, atol=1e-6)


def test_spread_is_looked_at_where_it_is_asked_for() -> None:
    images = galaxies(3)
    assert np.isnan(answered(images).spread).all()
    both = Predictor({"one": SEED_0, "two": SEED_0}, device="cpu", batch=4, views={"two": 8})(images)
    assert np.isnan(both["one"].spread).all()
    assert np.isfinite(both["two"].spread).all()


def test_an_image_whose_logits_are_not_finite_has_nothing_to_say_of_itself() -> None:
    images = np.full((2, 3, 8, 8), 100, np.uint8)
    images[1, 0] = 255
    found = answered(images, PROBE, views=8)
    for values in (found.entropy, found.spread):
        assert np.isfinite(values).tolist() == [True, False]


TURNING = untrained_checkpoint("dmagnet_f", 3, DMAGNetConfig(size=32, dims=(8, 16), depths=(1, 1), head_channels=8))


def seen(images: NDArray[np.uint8]) -> Seen:
    with torch.inference_mode():
        result = TURNING.build()(torch.from_numpy(images).float() / 255)
    return Seen(result.logits, result.features, result.early)


def test_novelty_is_null_without_a_model_and_else_that_of_the_networks_own_features() -> None:
    images = galaxies(400)
    labels = torch.arange(200) % 2
    model = fit_novelty(seen(images[:200]), labels, seen(images[200:]))
    assert np.isnan(answered(images[:3], TURNING).novelty).all()
    found = answered(images, replace(TURNING, novelty=model)).novelty
    np.testing.assert_allclose(found, model.score(seen(images)).numpy(), atol=0.05)
    assert (found[200:] >= 1).mean() == pytest.approx(0.1, abs=0.02)
    noise = np.random.default_rng(1).integers(0, 255, (20, 3, 32, 32)).astype(np.uint8)
    assert (answered(noise, replace(TURNING, novelty=model)).novelty > NOVEL).all()


def chunk(statuses: list[str], flags: list[int]) -> Chunk:
    images = sum(status in ("ok", "partial") for status in statuses)
    nothing = np.full(len(statuses), np.nan, np.float32)
    return Chunk(
        status=np.array(statuses),
        reason=np.array([""] * len(statuses), dtype=object),
        integrity=np.array(["checked"] * len(statuses), dtype=object),
        flags=np.array(flags, np.int32),
        fov_arcsec=nothing,
        pixel_scale=nothing,
        masked_fraction=nothing,
        images=np.zeros((images, 3, 32, 32), np.uint8),
        bytes_read=0,
        load_seconds=0.0,
    )


def test_only_images_that_are_novel_to_a_network_are_flagged() -> None:
    given = chunk(["no_coverage", "ok", "ok", "partial", "ok"], [0, 0, 1, 512, 0])
    said = answered(given.images)

    def networks(images: NDArray[np.uint8]) -> dict[str, NetworkOutput]:
        one = np.array([0.5, 2.5, np.nan, 1.9], np.float32)
        two = np.array([0.5, 0.1, NOVEL, np.nan], np.float32)
        return {"one": replace(said, novelty=one), "two": replace(said, novelty=two)}

    found = predict(networks, given, "cpu: asked for")
    assert found.choice == "cpu: asked for"
    novel = int(RowFlag.OUT_OF_DISTRIBUTION)
    assert found.flags.tolist() == [0, 0, 1 | novel, 512 | novel, 0]
    assert found.flags.dtype == np.int32
    assert given.flags.tolist() == [0, 0, 1, 512, 0]


def said_by(**networks: tuple[str, list[float]]) -> float:
    """The disagreement on one row of networks with their classes, a letter each, and probabilities."""
    columns = [NetworkColumns(prefix, tuple(classes), (), "", False) for prefix, (classes, _) in networks.items()]
    values = {prefix: np.array([p], np.float32) for prefix, (_, p) in networks.items()}
    return float(disagreement(columns, values, 1)[0])


def test_networks_that_say_the_same_do_not_disagree() -> None:
    assert said_by(one=("abc", [0.2, 0.5, 0.3]), two=("abc", [0.2, 0.5, 0.3])) == pytest.approx(0, abs=1e-9)
    assert said_by(one=("abc", [0.2, 0.5, 0.3]), two=("cab", [0.3, 0.2, 0.5])) == pytest.approx(0, abs=1e-9)


def test_networks_that_are_sure_of_other_classes_disagree_by_the_logarithm_of_their_number() -> None:
    assert said_by(one=("abc", [1, 0, 0]), two=("abc", [0, 1, 0])) == pytest.approx(1)
    assert said_by(one=("abc", [1, 0, 0]), two=("abc", [0, 1, 0]), three=("abc", [0, 0, 1])) == pytest.approx(
        np.log2(3)
    )


def test_disagreement_is_the_jensen_shannon_divergence() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    middle = (p + q) / 2
    expected = ((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()) / 2
    assert said_by(one=("abc", p.tolist()), two=("abc", q.tolist())) == pytest.approx(expected, rel=1e-6)


def test_one_network_or_other_classes_leave_disagreement_open() -> None:
    assert np.isnan(said_by(one=("abc", [1, 0, 0])))
    assert np.isnan(said_by(one=("abc", [1, 0, 0]), two=("abd", [1, 0, 0])))
    assert np.isnan(said_by(one=("abc", [1, 0, 0]), two=("ab", [1, 0])))
    assert np.isnan(said_by(one=("abc", [np.nan] * 3), two=("abc", [1, 0, 0])))
