"""From scores to attention: the formulas, the learned mix, and what is no attention at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pipeline.models.normalise import FixedNormalisation, LearnedMix, normalise

SCORE = torch.tensor([[[0.0, 1.0], [2.0, 4.0]]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("softmax", [0.0152, 0.0414, 0.1125, 0.8310]),
        ("sigmoid", [0.5, 0.7311, 0.8808, 0.9820]),
        ("range", [0, 0.25, 0.5, 1]),
        ("std", [-2, -1, 0, 2]),
    ],
)
def test_a_normalisation_gives_its_formula(kind: Any, expected: list[float]) -> None:
    torch.testing.assert_close(
        normalise(SCORE, kind).flatten(), torch.tensor(expected, dtype=torch.float32), rtol=0, atol=5e-5
    )


def test_a_mix_begins_equal_and_at_temperature_one() -> None:
    attention, said = LearnedMix(4)(SCORE, torch.rand(1, 4, 2, 2))
    assert {name: value.item() for name, value in said.items()} == pytest.approx(
        {"weight_range": 1 / 3, "weight_sigmoid": 1 / 3, "weight_softmax": 1 / 3, "temperature": 1}
    )
    z = SCORE - SCORE.mean()
    parts = normalise(z, "range") + z.sigmoid() + normalise(z, "softmax") / normalise(z, "softmax").max()
    torch.testing.assert_close(attention, parts / 3)


def test_a_mix_follows_what_each_image_shows() -> None:
    mix = LearnedMix(3)
    mix.router.weight.data[:3] = 50 * torch.eye(3)
    mix.router.weight.data[3] = torch.tensor([0.0, 2.0, -100.0])
    context = torch.eye(3)[:, :, None, None]  # one feature an image
    attention, said = mix(SCORE.repeat(3, 1, 1), context)
    torch.testing.assert_close(torch.stack([said[name] for name in mix.names[:3]], 1), torch.eye(3))
    torch.testing.assert_close(attention[0], normalise(SCORE, "range")[0])
    hotter = F.softplus(torch.tensor(2 + mix.unit))
    torch.testing.assert_close(attention[1], ((SCORE[0] - SCORE.mean()) / hotter).sigmoid())
    assert said["temperature"][2].item() == pytest.approx(0.01)  # where softplus has run out
    torch.testing.assert_close(attention[2], (SCORE[0] == 4).float())


def test_a_fixed_normalisation_has_nothing_to_choose() -> None:
    attention, said = FixedNormalisation("range")(SCORE, torch.rand(1, 4, 2, 2))
    assert torch.equal(attention, normalise(SCORE, "range"))
    assert said == {}


def test_a_constant_score_is_no_attention_and_not_its_rounding() -> None:
    score = torch.full((1, 4, 4), 10.0)
    score[0, 0, 0] = torch.nextafter(score[0, 0, 0], torch.tensor(11.0))
    assert normalise(score, "range").max() < 0.1
