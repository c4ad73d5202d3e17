"""Training a part of a network: what stays as it was, and what is drawn anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.models.checkpoint import read_checkpoint
from pipeline.training.fitting import CHECKPOINT, Prepared, fit, prepare
from tests.training_sets import recipe, write_set

QUICK: dict[str, object] = {"epochs": 2, "batch": 8, "rate": 0.01}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(recipe(), write_set(tmp_path_factory.mktemp("data") / "set", 60).parent)


@pytest.fixture(scope="module")
def first(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    fit(recipe(optimisation=QUICK), prepared, folder, lambda step: None)
    return folder / CHECKPOINT


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path.read_bytes(), "it").weights)


def _changed(first: Path, prepared: Prepared, folder: Path, **sections: dict[str, object]) -> set[str]:
    """The weights that a second run from `first` changed."""
    given = recipe(init_from=str(first), **sections)
    before, after = _weights(first), _weights(fit(given, prepared, folder, lambda step: None))
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_weights_that_stand_still_are_those_of_the_first_run(first: Path, prepared: Prepared, tmp_path: Path) -> None:
    settings: dict[str, dict[str, object]] = {"objective": {"still": ["stages."]}, "optimisation": QUICK}
    changed = _changed(first, prepared, tmp_path, **settings)
    parameters = {name for name in changed if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert parameters
    assert not any(name.startswith("stages.") for name in parameters)


def test_batch_norms_that_stand_keep_their_statistics_and_learn_their_scale(
    first: Path, prepared: Prepared, tmp_path: Path
) -> None:
    changed = _changed(first, prepared, tmp_path, optimisation={**QUICK, "norms_stand": True})
    assert any(name.startswith("stages.") for name in changed)
    assert not any(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)
