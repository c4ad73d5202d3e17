"""MBAN: the paper's sizes, boxes, branches that are asked only where they help, and the losses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.branch_losses import LossWeights, cramer_distance, joint_weights, mban_loss
from pipeline.models.configs.mban import MBANConfig
from pipeline.models.crop import CENTRED, crop
from pipeline.models.mban import MBAN, Branches, jensen_shannon
from pipeline.models.network import gflops
from tests.network_probes import values

PAPER = MBANConfig(classes=3, size=224, crop_size=224)
SHARED = MBANConfig(shared=True, crop_size=128)
SMALL = MBANConfig(size=64, crop_size=32, widths=(4, 6, 8, 10))
FORMS = [
    replace(SMALL, shared=shared, localiser=how) for shared in (False, True) for how in ("gaussian", "transformer")
]
each_form = pytest.mark.parametrize("config", FORMS, ids=lambda c: f"{'one' if c.shared else 'two'}-{c.localiser}")


def built(config: MBANConfig) -> MBAN:
    """Random weights in float64, in which rounding cannot pass for a fault; a localiser that has begun to choose."""
    torch.manual_seed(3)
    module = config.build().double().eval()
    if config.localiser == "transformer":
        nn.init.normal_(module.localiser.last.weight, std=0.1)
    return module


def galaxies(count: int) -> Tensor:
    return torch.rand(count, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def on_meta(config: MBANConfig) -> MBAN:
    with torch.device("meta"):
        return config.build()


def half_certain(config: MBANConfig, images: Tensor) -> float:
    """The primary branch's median margin over these images."""
    top = built(config).branches(images).primary.softmax(1).topk(2, 1).values
    return (top[:, 0] - top[:, 1]).median().item()


def test_the_paper_has_two_resnet_18_and_three_heads() -> None:
    module = on_meta(PAPER)
    assert parameters(module) == 22_359_177
    assert parameters(module.primary) == parameters(module.auxiliary) == 11_176_512
    heads = (module.primary_head, module.auxiliary_head, module.fusion_head)
    assert [head.in_features for head in heads] == [512, 512, 1024]
    assert parameters(on_meta(MBANConfig())) == 22_365_330


@pytest.mark.parametrize(
    ("config", "expected"), [(PAPER, 7.254), (MBANConfig(), 9.475), (MBANConfig(crop_size=128), 5.922)]
)
def test_mban_costs_what_the_reference_counted(config: MBANConfig, expected: float) -> None:
    assert gflops(config) == pytest.approx(expected, abs=0.0015)


@pytest.mark.parametrize("localiser", ["gaussian", "transformer"])
def test_a_shared_backbone_needs_less_than_60_percent_of_the_operations(localiser: Any) -> None:
    assert gflops(replace(SHARED, localiser=localiser)) < 0.6 * gflops(MBANConfig())


def test_the_cost_of_an_uncertain_image_is_counted() -> None:
    assert gflops(replace(SHARED, certain=0.5)) == gflops(SHARED)


def together_and_apart(module: MBAN, images: Tensor) -> float:
    """The largest change of any output of an image between batches of 1, 7 and all."""
    changes = [0.0]
    with torch.inference_mode():
        whole = values(module(images))
        for rows in (slice(0, 1), slice(9, 10), slice(0, 7), slice(7, 14)):
            for one, all_ in zip(values(module(images[rows])), whole, strict=True):
                assert torch.equal(one.isnan(), all_[rows].isnan())
                changes.append((one - all_[rows]).nan_to_num().abs().max().item())
    return max(changes)


@each_form
@pytest.mark.parametrize("conditional", [False, True])
def test_an_image_does_not_know_of_its_batch(config: MBANConfig, conditional: bool) -> None:
    images = galaxies(64)
    certain = half_certain(config, images) if conditional else None
    module = built(replace(config, certain=certain))
    assert module(images).logits.std(0).min() > 0  # the images do differ
    assert together_and_apart(module, images) < 1e-6  # of float32 scalars


@pytest.mark.parametrize("branch", ["primary", "auxiliary"])
def test_normalisation_over_the_batch_is_caught(branch: str) -> None:
    module = built(SMALL)
    getattr(module, branch).stem[1].train()  # takes its mean and deviation from the whole batch
    assert together_and_apart(module, galaxies(64)) > 1e-3


@each_form
def test_extreme_images_have_finite_answers_and_boxes_inside_the_image(config: MBANConfig) -> None:
    images = torch.zeros(6, 3, 64, 64, dtype=torch.float64)
    images[1], images[2], images[3] = 0.5, 1.0, 1e4  # constant, saturated, and beyond any contract
    images[4, :, 32:, 32:] = 1.0
    images[5] = (galaxies(1)[0] > 0.5).double()
    for module in (built(config), built(config).float()):
        with torch.inference_mode():
            result = module(images.to(next(module.parameters()).dtype))
        assert all(value.isfinite().all() for value in values(result))
        assert result.attention.min() >= 0
        assert tuple(result.scalars) == config.scalars
        for axis in "xy":
            centre, side = result.scalars[f"box_c{axis}"], result.scalars[f"box_s{axis}"]
            assert (centre - side / 2).min() > -1e-6
            assert (centre + side / 2).max() < 1 + 1e-6


def test_an_image_of_zeros_is_looked_at_in_its_middle() -> None:
    scalars = built(SMALL)(torch.zeros(1, 3, 64, 64, dtype=torch.float64)).scalars
    box = [scalars[name].item() for name in ("box_cx", "box_cy", "box_sx", "box_sy")]
    assert box == pytest.approx([*CENTRED, CENTRED[2]])


@each_form
def test_uncertain_rows_answer_as_the_full_network_does(config: MBANConfig) -> None:
    images = galaxies(24)
    full = built(config)(images)
    module = built(replace(config, certain=half_certain(config, images)))
    result, said = module(images), module.branches(images)
    used = said.asked
    assert 4 < used.sum() < 20
    assert torch.equal(result.scalars["aux_used"].bool(), used)
    torch.testing.assert_close(result.logits[used], full.logits[used], rtol=0, atol=1e-5)
    assert torch.equal(result.logits[~used], said.primary[~used])
    torch.testing.assert_close(result.attention, full.attention)
    torch.testing.assert_close(result.features, full.features)  # of rows that were not asked, too
    for name in ("box_cx", "box_cy", "box_sx", "box_sy", "js_primary_aux", "aux_max"):
        torch.testing.assert_close(result.scalars[name][used], full.scalars[name][used])
        assert result.scalars[name][~used].isnan().all()


@each_form
@pytest.mark.parametrize(("certain", "expected"), [(0.0, 0), (None, 24), (1.0, 24)])
def test_the_auxiliary_branch_runs_on_the_rows_that_need_it(
    config: MBANConfig, certain: float | None, expected: int
) -> None:
    module, sizes = built(replace(config, certain=certain)), list[int]()
    module.auxiliary.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    result = module(galaxies(24))
    assert sizes == [expected]
    assert result.scalars["aux_used"].sum() == expected
    assert result.logits.isfinite().all()


def test_the_rows_left_are_those_of_a_small_margin() -> None:
    images = galaxies(24)
    certain = half_certain(SMALL, images)
    said = built(replace(SMALL, certain=certain)).branches(images)
    highest, second = said.primary.softmax(1).sort(1, descending=True).values[:, :2].unbind(1)
    assert torch.equal(said.asked, highest - second < certain)


def test_every_image_meets_both_branches_in_training() -> None:
    module = built(replace(SMALL, certain=0.0)).train()
    assert module.branches(galaxies(4)).asked.all()


def test_the_map_is_the_class_activation_of_the_primary_answer() -> None:
    module, images = built(SMALL), galaxies(3)
    said = module.branches(images)
    features = module.primary(images)[-1]
    torch.testing.assert_close(said.primary, module.primary_head(features.mean((2, 3))))
    for n, label in enumerate(said.primary.argmax(1)):
        score = torch.einsum("c,chw->hw", module.primary_head.weight[label], features[n])
        expected = (score - score.min()) / (score.max() - score.min())
        torch.testing.assert_close(said.attention[n], expected)


@each_form
def test_the_auxiliary_branch_sees_what_the_box_holds(config: MBANConfig) -> None:
    module, images, seen = built(config), galaxies(3), list[Tensor]()
    module.auxiliary.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    said = module.branches(images)
    source, side = (module.primary(images)[1], 4) if config.shared else (images, 32)
    torch.testing.assert_close(seen[0], crop(source, said.box, side))


def test_both_branches_features_are_joined_for_the_answer() -> None:
    module, images, joined = built(SMALL), galaxies(3), list[Tensor]()
    module.fusion_head.register_forward_pre_hook(lambda _module, inputs: joined.append(inputs[0]))
    said = module.branches(images)
    v1 = module.primary(images)[-1].mean((2, 3))
    v2 = module.auxiliary(crop(images, said.box, 32))[-1].mean((2, 3))
    torch.testing.assert_close(joined[0], torch.cat([v1, v2], 1))
    torch.testing.assert_close(said.auxiliary, module.auxiliary_head(v2))


@each_form
def test_the_loss_reaches_every_parameter(config: MBANConfig) -> None:
    torch.manual_seed(3)
    module, images, labels = config.build().double().train(), galaxies(8), torch.arange(8) % 6
    optimiser = torch.optim.SGD(module.parameters(), 1e-4)
    for _ in range(2):  # the localiser's last layer begins at zero: what is behind it learns from the second step on
        optimiser.zero_grad()
        mban_loss(module.branches(images), labels, LossWeights(order=1)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    untouched = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_the_loss_is_the_papers_sum() -> None:
    generator = torch.Generator().manual_seed(1)
    primary, auxiliary, fusion = torch.randn(3, 4, 3, generator=generator)
    rest = torch.zeros(4)
    said = Branches(primary, auxiliary, fusion, *[rest] * 5)
    labels = torch.tensor([0, 1, 2, 1])
    terms = [-logits.log_softmax(1)[range(4), labels].mean() for logits in (primary, auxiliary, fusion)]
    expected = 2 * terms[0] + 3 * terms[1] + 5 * terms[2] + 7 * cramer_distance(fusion, labels)
    torch.testing.assert_close(mban_loss(said, labels, LossWeights(2, 3, 5, 7)), expected)
    torch.testing.assert_close(mban_loss(said, labels, LossWeights()), sum(terms))


@pytest.mark.parametrize(
    ("probabilities", "label", "expected"),
    [
        ([1.0, 0.0, 0.0], 0, 0.0),
        ([0.0, 1.0, 0.0], 0, 1.0),  # one class off: P - Y is -1, 0, 0
        ([0.0, 0.0, 1.0], 0, 2.0),  # two classes off
        ([0.5, 0.25, 0.25], 1, 0.25 + 0.0625),  # 0.5, -0.25, 0
    ],
)
def test_the_cramer_distance_grows_with_the_distance_of_classes(
    probabilities: list[float], label: int, expected: float
) -> None:
    logits = torch.tensor([probabilities]).clamp_min(1e-12).log()
    assert cramer_distance(logits, torch.tensor([label])).item() == pytest.approx(expected, abs=1e-6)


def test_the_weights_of_the_new_branch_rise_over_the_first_half_of_the_joint_phase() -> None:
    assert joint_weights(0.0, order=2) == LossWeights(1, 0, 0, 0)
    assert joint_weights(0.25, order=2) == LossWeights(1, 0.5, 0.5, 1)
    assert joint_weights(0.5) == joint_weights(1.0) == LossWeights()


def test_disagreement_is_0_between_equals_and_1_between_opposites() -> None:
    p = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    q = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]])
    half = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    torch.testing.assert_close(jensen_shannon(p, q), torch.tensor([0.0, 1.0, half]))
    torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))


def test_the_scalars_are_those_of_the_branches() -> None:
    module, images = built(SMALL), galaxies(3)
    said, scalars = module.branches(images), module(images).scalars
    primary, auxiliary = F.softmax(said.primary, 1), F.softmax(said.auxiliary, 1)
    expected = [*said.box.T, said.box[:, 2], jensen_shannon(primary, auxiliary), primary.amax(1), auxiliary.amax(1)]
    for value, wanted in zip(scalars.values(), [*expected, torch.ones(3)], strict=True):
        torch.testing.assert_close(value, wanted.float())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"localiser": "box"}, "localiser of gaussian, transformer, got box"),
        ({"crop_size": 7}, "crop_size of at least 8 px, got 7"),
        ({"classes": 1}, "at least 2 classes, got 1"),
        ({"tau1": 0.0}, "tau1 and tau2 in"),
        ({"tau2": 1.5}, "tau1 and tau2 in"),
        ({"reach": 0.0}, "reach above 0"),
        ({"certain": 1.5}, "certain from 0 to 1, got 1.5"),
        ({"widths": (64, 128)}, "4 depths and widths"),
        ({"size": 0}, "at least 1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MBANConfig(**wrong)
