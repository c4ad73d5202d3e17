"""A network's measures all together, and what is left of them once its weights are drawn anew."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.network import NetworkResult
from pipeline.training.consistency import flip_consistency, rotation_consistency
from pipeline.training.focus_quality import Controlled, Terms, controlled_focus_quality, focus_quality
from pipeline.training.perturbation import Steps
from pipeline.training.randomisation import cascade, randomised

SIDE = 16
TERMS = Terms(tolerance=0.0, steps=Steps(8), batch=4)
AGCNN = AGCNNConfig(size=16, widths=(4, 8, 8, 8), gate_channels=8, pooling="mean")


class Place(nn.Module):
    """A map of its own, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.randn(SIDE, SIDE))
        self.register_buffer("seen", torch.rand(1))


class Looker(nn.Module):
    """Attends to what is bright, as far as training taught it to, and else to places drawn by lot."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.zeros_(self.look.weight)
        self.place = Place()
        self.head = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> NetworkResult:
        attention = (self.look(images).squeeze(1) + self.place.height).flatten(1).softmax(1).view(-1, SIDE, SIDE)
        seen = (attention * images.mean(1)).sum((1, 2))
        return NetworkResult(self.head(seen[:, None]), attention, {}, attention.flatten(1), seen[:, None])


@torch.no_grad()
def trained() -> Looker:
    torch.manual_seed(5)
    module = Looker().eval()
    module.look.weight.fill_(10.0)
    module.place.height.zero_()
    module.head.weight.copy_(torch.tensor([[10.0], [-10.0]]))
    module.head.bias.copy_(torch.tensor([-5.0, 5.0]))
    return module


def galaxies(count: int = 6) -> tuple[Tensor, Tensor]:
    """Squares of light on a dark sky (count, 3, S, S), each in its own place, and their masks."""
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for number in range(count):
        masks[number, 2 + number : 6 + number, 10 - number : 14 - number] = True
    return masks[:, None].repeat(1, 3, 1, 1).float(), masks


def measured(module: nn.Module, seed: int) -> Controlled:
    return controlled_focus_quality(module, Looker, *galaxies(), TERMS, seed=seed)


def test_a_network_that_looks_at_the_source_scores_on_every_measure() -> None:
    means = focus_quality(trained(), *galaxies(), TERMS).means
    assert means["hit"] == 1
    assert means["mass"] == pytest.approx(1, abs=1e-4)
    assert means["gain"] == pytest.approx(16, abs=1e-3)
    assert means["deletion"] < 0.1  # the mask is a sixteenth of the image
    assert means["insertion"] > 0.9
    assert means["rotation"] == pytest.approx(1)
    assert means["flip"] == pytest.approx(1)
    assert means["flat"] == 0


def test_the_measures_of_a_trained_network_collapse_to_its_controls() -> None:
    found = measured(trained(), seed=11)
    control = found.control.means
    assert control["hit"] < 0.5
    assert control["gain"] == pytest.approx(1, abs=0.4)
    assert control["mass"] < 0.1
    assert abs(control["rotation"]) < 0.2
    assert abs(control["flip"]) < 0.2
    assert np.abs(found.likeness).max() < 0.3
    assert found.trained.means["gain"] > 10 * control["gain"]


def test_a_network_that_learned_nothing_is_its_own_control() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        untrained = Looker().eval()
    found = measured(untrained, seed=11)
    assert found.trained.means == found.control.means
    assert found.likeness == pytest.approx(1)


def test_the_measures_of_an_image_do_not_depend_on_its_batch() -> None:
    images, masks = galaxies()
    whole = asdict(focus_quality(trained(), images, masks, TERMS))
    for batch in (1, 6):
        other = asdict(focus_quality(trained(), images, masks, Terms(tolerance=0.0, steps=Steps(8), batch=batch)))
        for name, values in whole.items():
            assert values.shape == (6,)
            assert other[name] == pytest.approx(values, abs=1e-6), name


def test_an_image_without_a_source_is_left_out_of_the_means_of_place_alone() -> None:
    images, masks = galaxies(3)
    masks[1] = False
    found = focus_quality(trained(), images, masks, TERMS)
    assert found.means["hit"] == 1
    assert {name for name, count in found.defined.items() if count == 2} == {"hit", "mass", "gain"}
    nowhere = focus_quality(trained(), images, torch.zeros_like(masks), TERMS)
    assert math.isnan(nowhere.means["gain"])
    assert nowhere.means["deletion"] == found.means["deletion"]


def test_flat_maps_are_counted_and_have_no_consistency() -> None:
    images, masks = galaxies(3)
    found = focus_quality(trained(), torch.cat([images, 0 * images[:1]]), torch.cat([masks, masks[:1]]), TERMS)
    assert found.flat.tolist() == [0, 0, 0, 1]
    assert (found.defined["rotation"], found.defined["flip"], found.defined["gain"]) == (3, 3, 4)
    assert found.gain[3] == pytest.approx(1)


def test_a_network_in_training_is_not_measured() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        focus_quality(trained().train(), *galaxies())


@pytest.mark.parametrize(("images", "masks"), [(3, 2), (0, 0)])
def test_every_image_needs_its_mask(images: int, masks: int) -> None:
    with pytest.raises(ValueError, match="as many masks as images"):
        focus_quality(trained(), galaxies()[0][:images], galaxies()[1][:masks])


@pytest.mark.parametrize("terms", [{"tolerance": -0.1}, {"blur": 0.0}, {"batch": 0}])
def test_impossible_terms_are_refused(terms: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="impossible terms"):
        Terms(**terms)  # type: ignore[arg-type]


def test_weights_drawn_anew_are_those_of_the_seed_and_touch_nothing_else() -> None:
    module, state = trained(), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    drawn = randomised(module, Looker, seed=11)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    torch.manual_seed(11)
    expected = Looker().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in drawn.state_dict().items())
    assert not torch.equal(randomised(module, Looker, seed=12).state_dict()["place.height"], expected["place.height"])
    assert not drawn.training


def test_only_the_last_layers_are_drawn_anew() -> None:
    module = trained()
    changed = [
        {name for name, own in module.state_dict().items() if not torch.equal(own, drawn.state_dict()[name])}
        for drawn in (randomised(module, Looker, 11, layers) for layers in range(4))
    ]
    head, place = {"head.weight", "head.bias"}, {"place.height", "place.seen"}
    assert changed == [set(), head, head | place, head | place | {"look.weight"}]


def test_a_control_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the layers"):
        randomised(trained(), AGCNN.build, seed=1)
    with pytest.raises(ValueError, match="expected a tensor of"):
        randomised(nn.Linear(2, 3), lambda: nn.Linear(2, 4), seed=1)
    with pytest.raises(ValueError, match="expected 0 to 3 layers, got 4"):
        randomised(trained(), Looker, seed=1, layers=4)


def test_a_cascade_runs_from_the_head_down_and_ends_unlike() -> None:
    found = list(cascade(trained(), Looker, galaxies()[0], seed=11))
    assert [name for name, _ in found] == ["head", "place", "look"]
    assert found[0][1].tolist() == pytest.approx([1] * 6)  # the map does not see the head
    assert found[1][1].amax().item() < 0.6
    assert found[2][1].abs().amax().item() < 0.3


def test_a_real_network_is_measured_beside_its_control() -> None:
    torch.manual_seed(5)
    module, (images, masks) = AGCNN.build().eval(), galaxies()
    found = controlled_focus_quality(module, AGCNN.build, images, masks, TERMS, seed=6)
    for quality in (found.trained, found.control):
        assert all(np.isfinite(values).all() for values in asdict(quality).values())
    assert found.likeness.max() < 1
    with torch.inference_mode():
        turned = rotation_consistency(lambda x: module(x).attention, images)
        mirrored = flip_consistency(lambda x: module(x).attention, images)
    assert found.trained.rotation == pytest.approx(turned.numpy(), abs=1e-4)
    assert found.trained.flip == pytest.approx(mirrored.numpy(), abs=1e-4)
