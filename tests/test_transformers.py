"""CvT and MaxViT: the libraries' networks at their published sizes, and the attention that is read out of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import MissingExtra
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.configs.maxvit import MaxViTConfig
from pipeline.models.cvt import class_token_map
from pipeline.models.network import NetworkConfig, gflops
from tests.network_probes import skip_where_torchvision_lacks

SMALL = MaxViTConfig(size=64, dims=(8, 8, 16, 16), depths=(1, 1, 1, 2), stem=8, head_channels=8)


def parameters(config: NetworkConfig) -> int:
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in config.build().parameters())


def test_cvt_13_has_the_published_size_and_cost() -> None:
    config = CvTConfig(classes=1000, size=224)
    assert parameters(config) == 19_997_480  # "20 M"
    assert gflops(config) / 2 == pytest.approx(4.57, abs=0.005)  # "4.5 G"


def test_maxvit_t_has_the_published_size() -> None:
    skip_where_torchvision_lacks("maxvit")
    assert parameters(MaxViTConfig(classes=1000, size=224)) == 30_919_624  # as torchvision's weights say


def test_the_class_tokens_map_is_its_mean_over_heads_without_itself() -> None:
    attention = torch.zeros(1, 2, 3, 5)  # two heads, three queries, the token and a 2x2 grid
    attention[0, 0, 0] = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0])
    attention[0, 1, 0] = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.5])
    attention[0, :, 1:, 3] = 1.0  # what others look at
    torch.testing.assert_close(class_token_map(attention), torch.tensor([[[1 / 3, 1 / 3], [0.0, 1 / 3]]]))


def test_a_cvt_that_looks_at_one_place_says_so() -> None:
    """The last layer's keys are turned towards the token's query where one position of the image is."""
    torch.manual_seed(3)
    module = CvTConfig(size=64, dims=(8, 12, 16), depths=(1, 2, 3), heads=(1, 2, 2)).build().eval()
    last = module.cvt.encoder.stages[-1].layers[-1].attention.attention
    last.projection_key.register_forward_hook(lambda *_: 50 * torch.eye(5)[:, [2]].expand(1, -1, 16))
    last.projection_query.register_forward_hook(lambda _layer, _inputs, output: torch.ones_like(output))
    found = module(torch.rand(1, 3, 64, 64)).attention
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))


def test_a_maxvits_map_is_the_mean_of_what_the_last_grid_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_where_torchvision_lacks("maxvit")
    torch.manual_seed(3)
    module, weights, softmax = SMALL.build().eval(), list[Tensor](), torch.nn.functional.softmax

    def watched(scores: Tensor, dim: int) -> Tensor:
        weights.append(softmax(scores, dim=dim))
        return weights[-1]

    monkeypatch.setattr("torch.nn.functional.softmax", watched)
    found = module(torch.rand(2, 3, 64, 64)).attention
    last = weights[-1]  # (N, 1, heads, hw, hw)
    torch.testing.assert_close(found, last[:, 0].mean((1, 2)).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("config", "module", "extra"),
    [(CvTConfig(), "transformers", "baselines"), (MaxViTConfig(), "torchvision.models.maxvit", "maxvit")],
)
def test_a_network_whose_library_is_missing_names_the_extra(
    config: NetworkConfig, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"needs {module.partition('.')[0]} .*galaxy-pipeline\[{extra}\]"):
        config.build()


@pytest.mark.parametrize(
    ("config", "wrong", "message"),
    [
        (CvTConfig, {"dims": (64, 192)}, "3 dims, depths and heads"),
        (CvTConfig, {"classes": 0}, "at least 1"),
        (CvTConfig, {"heads": (1, 5, 6)}, "dims that heads divide"),
        (CvTConfig, {"depths": (1, 1, 3)}, r"at least 1, 2 and 3, got \(1, 1, 3\)"),
        (CvTConfig, {"size": 15}, "at least 16 px, got 15"),
        (CvTConfig, {"drop_path": 1.0}, "below 1, got 1.0"),
        (MaxViTConfig, {"bands": 1}, "3 bands, got 1"),
        (MaxViTConfig, {"depths": (2, 2)}, "4 dims and depths"),
        (MaxViTConfig, {"stem": 0}, "at least 1"),
        (MaxViTConfig, {"size": 250}, "32 divides, got 250"),
        (MaxViTConfig, {"dims": (64, 128, 250, 512)}, "dims that 32 divides"),
        (MaxViTConfig, {"drop_path": -0.1}, "below 1, got -0.1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(config: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**wrong)
