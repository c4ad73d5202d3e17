"""Configs of AG-CNN: the published sizes, and what cannot be built."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, get_type_hints

import pytest

from pipeline.errors import CheckpointError
from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.header import read_fields
from pipeline.models.network import gflops

NOTEBOOK = AGCNNConfig(bands=1, classes=2, size=150)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (NOTEBOOK, 101_447),  # as the authors' notebook prints it
        (replace(NOTEBOOK, gates=2), 96_884),
        (replace(NOTEBOOK, gates=1), 91_661),
        (replace(NOTEBOOK, aggregation="concat"), 101_429),
        (replace(NOTEBOOK, aggregation="mean"), 101_433),
        (replace(NOTEBOOK, aggregation="deep_supervised"), 101_543),
        (AGCNNConfig(size=150, normalisation="mix"), 102_663),
        (AGCNNConfig(), 101_883),
        (AGCNNConfig(structure_aware=True), 101_883 + 2 * 6 * (32 + 16 + 6)),
    ],
)
def test_the_network_has_the_published_number_of_parameters(config: AGCNNConfig, parameters: int) -> None:
    assert sum(tensor.numel() for tensor in config.build().parameters()) == parameters


def test_the_network_costs_what_the_reference_counted() -> None:
    assert gflops(NOTEBOOK) == pytest.approx(0.238, rel=0.005)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"normalisation": "tanh"}, "normalisation of softmax, sigmoid, range, std, mix, got tanh"),
        ({"aggregation": "ft"}, "aggregation of mean, concat, deep_supervised, fine_tuned, got ft"),
        ({"pooling": "max"}, "pooling of sum, mean, got max"),
        ({"normalisation": "std", "pooling": "mean"}, "sum of a signed map"),
        ({"gates": 0}, "1 to 3 gates, got 0"),
        ({"gates": 4}, "1 to 3 gates, got 4"),
        ({"widths": (6, 16, 32)}, "4 widths"),
        ({"classes": 0}, "at least 1"),
        ({"size": 7}, "at least 8 px, got 7"),
        ({"dropout": 1.0}, "got 1.0 and 0.0"),
        ({"head_slope": -0.1}, "got 0.5 and -0.1"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AGCNNConfig(**wrong)


def test_an_unknown_normalisation_in_a_checkpoint_is_refused() -> None:
    fields = {**asdict(AGCNNConfig()), "widths": [6, 16, 32, 64], "normalisation": "tanh"}
    with pytest.raises(CheckpointError, match=r"config\.normalisation: expected one of 'softmax', .* got 'tanh'"):
        read_fields(get_type_hints(AGCNNConfig), fields, "config")
