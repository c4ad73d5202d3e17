"""DMAGNet as a CPU runs it: the same answers as the network that it was made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.inference import Predictor
from pipeline.models.checkpoint import untrained_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.dmagnet import DMAGNet
from pipeline.models.dmagnet_cpu import FoldedDMAGNet
from tests.network_probes import values

SMALL = DMAGNetConfig(size=64, dims=(8, 16), depths=(2, 1), head_channels=8)


def used(config: DMAGNetConfig) -> DMAGNet:
    """A network in eval mode whose norms have statistics and weights of their own, as training leaves them."""
    torch.manual_seed(1)
    network = config.build().eval().requires_grad_(False)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        state = norm.state_dict()
        for name in ("running_mean", "bias"):
            state[name].normal_(0, 0.3)
        for name in ("running_var", "weight"):
            state[name].uniform_(0.5, 2)
    return network


@pytest.mark.parametrize(
    "config", [SMALL, DMAGNetConfig(size=40, stem_kernel=4, dims=(8, 8), depths=(1, 1), head_channels=4)]
)
@torch.inference_mode()
def test_the_folded_network_says_what_the_network_says(config: DMAGNetConfig) -> None:
    network = used(config)
    images = torch.rand(3, config.bands, config.size, config.size)
    expected, got = network(images), FoldedDMAGNet(network)(images)
    assert list(got.scalars) == list(expected.scalars) == list(config.scalars)
    assert list(got.parts) == list(expected.parts)
    for one, other in zip(values(expected), values(got), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_folding_leaves_the_network_as_it_was() -> None:
    network, images = used(SMALL), torch.rand(2, 3, 64, 64)
    before = network(images).logits
    FoldedDMAGNet(network)(images)
    assert torch.equal(network(images).logits, before)


def test_the_predictor_folds_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[DMAGNet] = []

    class Noted(FoldedDMAGNet):
        def __init__(self, network: DMAGNet) -> None:
            folded.append(network)
            super().__init__(network)

    monkeypatch.setattr("pipeline.loaded.FoldedDMAGNet", Noted)
    predict = Predictor({"net": untrained_checkpoint("dmagnet_f", 0, SMALL)}, device="cpu", batch=2)
    assert len(folded) == 1
    assert np.isfinite(predict(np.zeros((3, 3, 64, 64), np.uint8))["net"].logits).all()
