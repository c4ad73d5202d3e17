"""AG-CNN: the paper's sizes and formulas, images that do not know of each other, and the review's extensions."""

from __future__ import annotations

from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.attention import summarise
from pipeline.models.agcnn import AGCNN, Gate, Heads
from pipeline.models.configs.agcnn import SUMMARIES, AGCNNConfig, Aggregation, Normalisation
from pipeline.models.network import ATTENTION_COLUMNS, NetworkResult
from pipeline.models.normalise import LearnedMix
from tests.network_probes import together_and_apart, values

NOTEBOOK = AGCNNConfig(bands=1, classes=2, size=150)
SMALL = AGCNNConfig(size=16)
FORMS = [
    *(replace(SMALL, normalisation=kind) for kind in get_args(Normalisation)),
    replace(SMALL, size=8),  # the smallest
    *(replace(SMALL, aggregation=kind) for kind in get_args(Aggregation)[:3]),
    *(replace(SMALL, normalisation=n, pooling="mean") for n in ("softmax", "sigmoid", "range", "mix")),
    *(replace(SMALL, normalisation="mix", structure_aware=True, gates=gates) for gates in (1, 2, 3)),
]
each_form = pytest.mark.parametrize("config", FORMS, ids=lambda c: "-".join(map(str, list(vars(c).values())[2:8])))


def built(config: AGCNNConfig) -> AGCNN:
    """Random weights in float64, in which rounding cannot pass for a fault; a mix that has begun to choose."""
    torch.manual_seed(3)
    module = config.build().double().eval()
    for part in module.modules():
        if isinstance(part, LearnedMix):
            nn.init.normal_(part.router.weight, std=0.02)
    return module


def gates(module: AGCNN) -> list[Gate]:
    return cast(list[Gate], list(module.gates))


def galaxies(count: int, config: AGCNNConfig = SMALL) -> Tensor:
    return torch.rand(count, config.bands, config.size, config.size, dtype=torch.float64, generator=seeded(5))


def answered(module: AGCNN, images: Tensor) -> tuple[NetworkResult, list[Tensor]]:
    """The network's result and the map of each gate."""
    maps: list[Tensor] = []
    for gate in module.gates:
        gate.register_forward_hook(lambda _module, _inputs, output: maps.append(output[1]))
    return module(images), maps


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_gates_look_at_the_grids_of_the_notebook() -> None:
    result, maps = answered(built(NOTEBOOK), galaxies(1, NOTEBOOK))
    assert [one.shape[1:] for one in maps] == [(37, 37), (75, 75), (150, 150)]
    assert result.attention.shape == (1, 150, 150)


def test_the_weights_begin_as_the_released_code_draws_them() -> None:
    torch.manual_seed(0)
    module = AGCNNConfig().build()
    assert [gate.psi.bias.item() for gate in gates(module)] == [10, 10, 10]  # type: ignore[union-attr]
    weights = module.state_dict()
    spread = (2 / (9 * 32)) ** 0.5  # Kaiming, by fan in
    assert weights["stages.3.0.weight"].std().item() == pytest.approx(spread, rel=0.05)
    assert weights["stages.3.2.weight"].std().item() == pytest.approx(0.02, rel=0.5)  # the norm's


@each_form
def test_an_image_does_not_know_of_its_batch(config: AGCNNConfig) -> None:
    images, module = galaxies(64, config), built(config)
    assert module(images).logits.std(0).min() > 0  # the images do differ
    assert together_and_apart(module, images) < 1e-6  # of float32 summaries


class BatchWideRange(nn.Module):
    """The fault of the released code: the lowest and highest score of all images together."""

    def forward(self, score: Tensor, context: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (score - score.min()) / (score.max() - score.min()), {}


class BatchWideStd(nn.Module):
    """The same fault in its standard-deviation form, with the division by the maximum that it has there."""

    def forward(self, score: Tensor, context: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return ((score - score.min()) / score.max() - 0.5) / 0.25, {}


@pytest.mark.parametrize("planted", [BatchWideRange, BatchWideStd])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_released_codes_normalisation_is_caught(planted: type[nn.Module], position: int) -> None:
    module = built(SMALL)
    assert together_and_apart(module, galaxies(64)) < 1e-6
    module.gates[position].normalise = planted()
    assert together_and_apart(module, galaxies(64)) > 1e-3


@each_form
def test_extreme_images_have_finite_answers_and_maps(config: AGCNNConfig) -> None:
    images = torch.zeros(6, config.bands, config.size, config.size, dtype=torch.float64)
    images[1], images[2], images[3] = 0.5, 1.0, 1e4  # constant, saturated, and beyond any contract
    images[4, :, 8:, 8:] = 1.0
    images[5] = (galaxies(1, config)[0] > 0.5).double()
    for module in (built(config), built(config).float()):
        with torch.inference_mode():
            result = module(images.to(next(module.parameters()).dtype))
        assert all(value.isfinite().all() for value in values(result))
        assert result.attention.min() >= 0
        assert tuple(result.scalars) == config.scalars


@each_form
def test_the_gradient_reaches_what_can_change_the_answer(config: AGCNNConfig) -> None:
    """The bias of psi moves all scores of a map alike, which only the sigmoid sees; ReLU may shut single heads."""
    module = built(replace(config, head_slope=0.1))
    module(galaxies(4, config)).logits.square().mean().backward()
    sizes = {name: p.grad.abs().max().item() if p.grad is not None else 0.0 for name, p in module.named_parameters()}
    largest = max(sizes.values())
    still = {name for name, size in sizes.items() if size < 1e-12 * largest}
    biases = {f"gates.{gate}.psi.bias" for gate in range(config.gates)}
    assert still == (set() if config.normalisation == "sigmoid" else biases)


def test_a_gate_computes_what_the_paper_writes() -> None:
    gate = gates(built(replace(SMALL, normalisation="softmax")))[1]
    x, g = (
        torch.rand(2, 16, 12, 12, generator=seeded(1)).double(),
        torch.rand(2, 64, 3, 3, generator=seeded(2)).double(),
    )
    theta, phi, psi = (layer.weight[:, :, 0, 0] for layer in (gate.theta, gate.phi, gate.psi))
    up = F.interpolate(torch.einsum("ic,nchw->nihw", phi, g), (12, 12), mode="bilinear", align_corners=False)
    inner = (torch.einsum("ic,nchw->nihw", theta, x) + up).relu()
    score = torch.einsum("i,nihw->nhw", psi[0], inner) + 10
    weights = score.exp() / score.exp().sum((1, 2), keepdim=True)
    vector, attention, _ = gate(x, g)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(vector, (weights[:, None] * x).sum((2, 3)))


def test_a_gate_that_cannot_choose_lets_nothing_through_and_says_so() -> None:
    for pooling in ("sum", "mean"):
        gate = gates(built(replace(SMALL, pooling=pooling)))[0]
        for layer in (gate.theta, gate.phi):
            nn.init.zeros_(layer.weight)
        vector, attention, said = gate(galaxies_of(32, 6), galaxies_of(64, 3))
        assert not vector.any()
        assert not attention.any()
        assert said["entropy"].tolist() == pytest.approx([1, 1])  # a uniform map's, as in the catalogue


def test_the_convolutions_see_the_papers_range_of_values() -> None:
    module, seen = built(SMALL), cast(list[Tensor], [])
    module.stages[0].register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs))
    module(torch.linspace(0, 1, 3 * 16 * 16).double().reshape(1, 3, 16, 16))
    assert (seen[0].min().item(), seen[0].max().item()) == (-1, 1)
    assert seen[0].mean().item() == pytest.approx(0, abs=1e-6)


def test_the_map_is_the_mean_of_the_gates_maps_at_the_images_size() -> None:
    result, maps = answered(built(SMALL), galaxies(2))
    resized = [F.interpolate(one[:, None], (16, 16), mode="bilinear")[:, 0] for one in maps]
    torch.testing.assert_close(result.attention, torch.stack(resized).mean(0))


@pytest.mark.parametrize("normalisation", get_args(Normalisation))
def test_a_gates_summaries_are_those_of_the_catalogue(normalisation: Normalisation) -> None:
    images = galaxies(3)
    images[2] = 0.5
    result, maps = answered(built(replace(SMALL, normalisation=normalisation)), images)
    for number, attention in enumerate(maps, start=1):
        statistics = dict(zip(ATTENTION_COLUMNS, summarise(attention)[0].T, strict=True))
        for name in SUMMARIES:
            torch.testing.assert_close(result.scalars[f"gate{number}_{name}"], statistics[name])


@pytest.mark.parametrize(
    ("aggregation", "slope", "expected"),
    [
        ("mean", 0.0, [1, 0]),  # of the gates' own logits, (-3, -4) and (5, 4)
        ("concat", 0.0, [2, 1]),
        ("deep_supervised", 0.0, [4 / 3, 1 / 3]),
        ("fine_tuned", 0.0, [9, 8]),  # (-3, -4) is cut off
        ("fine_tuned", 0.1, [8.3, 7.3]),
    ],
)
def test_aggregations_give_the_logits_of_the_paper(
    aggregation: Aggregation, slope: float, expected: list[float]
) -> None:
    heads = Heads(replace(SMALL, classes=2, aggregation=aggregation, head_slope=slope), (1, 1))
    for layer in heads.modules():
        if isinstance(layer, nn.Linear):
            nn.init.ones_(layer.weight)
            layer.bias.data = torch.tensor([0.0, -1.0])
    logits = heads([torch.tensor([[-3.0]]), torch.tensor([[5.0]])])
    torch.testing.assert_close(logits, torch.tensor([expected], dtype=torch.float32))


def test_pooling_sums_as_the_paper_does_or_averages_by_attention() -> None:
    summed, averaged = (gates(built(replace(SMALL, pooling=pooling)))[0] for pooling in ("sum", "mean"))
    x, g = galaxies_of(32, 6), galaxies_of(64, 3)
    vector, attention, _ = summed(x, g)
    torch.testing.assert_close(vector, (attention[:, None] * x).sum((2, 3)))
    torch.testing.assert_close(averaged(x, g)[0], vector / attention.sum((1, 2))[:, None])


def test_zones_pool_core_disc_and_background_apart() -> None:
    plain, zoned = (gates(built(replace(SMALL, structure_aware=aware)))[2] for aware in (False, True))
    zoned.load_state_dict(plain.state_dict())
    x, g = galaxies_of(6, 16), galaxies_of(64, 3)
    vector, attention, said = zoned(x, g)
    core, disc, background = vector.reshape(2, 3, 6).unbind(1)
    torch.testing.assert_close(core + disc + background, plain(x, g)[0])
    places = (torch.arange(16, dtype=torch.float64) + 0.5) / 16 - 0.5
    radius = torch.hypot(places[:, None], places[None, :])
    torch.testing.assert_close(core, (attention[:, None] * x * (radius < 0.15)).sum((2, 3)))
    torch.testing.assert_close(background, (attention[:, None] * x * (radius >= 0.35)).sum((2, 3)))
    share = (attention * (radius < 0.15)).sum((1, 2)) / attention.sum((1, 2))
    torch.testing.assert_close(said["core"], share.float())


def test_logits_are_no_probabilities() -> None:
    assert built(SMALL)(galaxies(4)).logits.min() < 0


def test_features_are_dropped_in_training_alone() -> None:
    module, image = built(SMALL), galaxies(1)
    assert torch.equal(module(image).logits, module(image).logits)
    module.dropout.train()
    assert not torch.equal(module(image).logits, module(image).logits)


def test_autocast_does_not_coarsen_the_scores() -> None:
    module, image = built(SMALL).float(), galaxies(1).float()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        coarse = module(image)
    assert torch.equal(coarse.attention, module(image).attention)
    assert torch.equal(coarse.logits, module(image).logits)


def galaxies_of(channels: int, side: int) -> Tensor:
    """Two images' features (2, channels, side, side)."""
    return torch.rand(2, channels, side, side, dtype=torch.float64, generator=seeded(channels))
