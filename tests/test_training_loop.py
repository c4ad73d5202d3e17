"""The loop: it learns, it draws classes as told, and a killed run ends where an undisturbed one does, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CheckpointError, JobError
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import read_checkpoint, write_checkpoint
from pipeline.models.contract import Contract
from pipeline.training.fitting import CHECKPOINT, Prepared, first_weights, fit, prepare, resized_positions
from pipeline.training.journal import LINES, Journal
from pipeline.training.judging import scores
from pipeline.training.loop import Step, Trainer, Watch
from pipeline.training.objectives import frozen, phase_weights
from pipeline.training.progress import STATE, Saved, load_state, save_state
from pipeline.training.recipe import Objective, Recipe
from pipeline.training.sampling import class_shares, drawn_shares, epoch_rows
from tests.training_sets import recipe, write_set

CPU = torch.device("cpu")
QUICK = {"epochs": 2, "batch": 8, "rate": 0.01, "balance": 1.0}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "set", 80).parent


@pytest.fixture(scope="module")
def prepared(root: Path) -> Prepared:
    return prepare(recipe(), root)


def _quiet(at: Step) -> None:
    pass


def _killing(step: int) -> Watch:
    def watch(at: Step) -> None:
        if at.step == step:
            raise Killed

    return watch


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path.read_bytes(), "it").weights)


@pytest.mark.parametrize(
    "network",
    [
        {},
        {
            "network": "mban_shared",
            "config": {"widths": [4, 4, 8, 8], "size": 32, "crop_size": 16},
            "objective": {"phases": [0.3, 0.3]},
        },
    ],
    ids=["agcnn", "mban_shared"],
)
def test_a_killed_run_ends_bit_for_bit_as_an_undisturbed_one(
    root: Path, tmp_path: Path, network: dict[str, dict[str, object]]
) -> None:
    given = recipe(optimisation=QUICK, keeping={"steps": 3}, **network)
    ready = prepare(given, root)
    whole = fit(given, ready, tmp_path / "whole", _quiet)
    for step in (4, 9):
        with pytest.raises(Killed):
            fit(given, ready, tmp_path / "cut", _killing(step))
    with (tmp_path / "cut" / LINES).open("a") as lines:
        lines.write('{"step": 9999, "part"')  # the kill came within a line
    cut = fit(given, ready, tmp_path / "cut", _quiet)
    assert cut.read_bytes() == whole.read_bytes()
    assert _journal(tmp_path / "cut") == _journal(tmp_path / "whole")


def _journal(folder: Path) -> list[dict[str, object]]:
    """The lines but for the speed, which is the clock's."""
    lines = [json.loads(line) for line in (folder / LINES).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_s"} for line in lines]


def test_the_loss_falls_and_the_validation_images_are_told_apart(root: Path, tmp_path: Path) -> None:
    given = recipe(
        optimisation={**QUICK, "epochs": 8, "ema": 0.8},
        config={"dropout": 0.0},
        split={"test": 0.1, "validation": 0.3},
        augmentation={"pedestal": 0.0, "noise": 0.03},  # the skies of surveys need more images than these
    )
    path = fit(given, prepare(given, root), tmp_path, _quiet)
    checkpoint = read_checkpoint(path.read_bytes(), "it")
    assert checkpoint.metrics["validation_accuracy"] >= 0.9
    assert checkpoint.metrics["validation_loss"] < 0.5
    assert not checkpoint.untrained


def test_the_checkpoint_says_what_it_was_trained_on(root: Path, prepared: Prepared, tmp_path: Path) -> None:
    given = recipe(
        optimisation={**QUICK, "epochs": 1, "balance": 0.0},
        data={"source": "Drawn shapes", "experimental": ["bar"]},
    )
    checkpoint = read_checkpoint(fit(given, prepared, tmp_path, _quiet).read_bytes(), "it")
    sides = prepared.sides
    assert checkpoint.training.startswith(f"Drawn shapes: {len(sides.train)} images to train on")
    assert checkpoint.experimental == ("bar",)
    assert checkpoint.classes == ("disc", "bar")
    assert checkpoint.prior is not None
    assert checkpoint.prior.training == checkpoint.prior.target
    assert checkpoint.prior.target == pytest.approx(
        np.bincount(prepared.examples.labels[sides.train]) / len(sides.train)
    )


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(prepared: Prepared, tmp_path: Path) -> None:
    quick = recipe(optimisation={**QUICK, "epochs": 1})
    runs = [(0, "a"), (0, "b"), (1, "c")]
    a, b, c = (fit(replace(quick, seed=seed), prepared, tmp_path / name, _quiet).read_bytes() for seed, name in runs)
    assert a == b != c


def test_a_folder_of_another_recipe_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    quick = recipe(optimisation={**QUICK, "epochs": 1})
    fit(quick, prepared, tmp_path, _quiet)
    with pytest.raises(JobError, match="run of another recipe"):
        fit(replace(quick, seed=1), prepared, tmp_path, _quiet)


def test_lines_of_steps_that_are_taken_again_are_cut_off(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        for step in (10, 20, 30):
            journal.write(step, "train", {"loss": 1.0})
    with Journal(tmp_path, 20) as journal:
        journal.write(25, "train", {"loss": 2.0})
    assert [line["step"] for line in _journal(tmp_path)] == [10, 20, 25]


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, Saved(3, "x", {"weights.a": torch.ones(1000)}))
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(JobError, match="is damaged"):
        load_state(tmp_path, "x")


def test_the_rate_rises_then_falls_to_its_end(prepared: Prepared, tmp_path: Path) -> None:
    how = recipe(optimisation={**QUICK, "epochs": 10, "warm_up": 0.2, "last": 0.1})
    trainer = _trainer(how, prepared, tmp_path)
    rates = [trainer.rate(step) for step in range(trainer.steps)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(0.01)
    assert top == pytest.approx(0.2 * trainer.steps, abs=2)
    assert np.all(np.diff(rates[:top]) > 0)
    assert np.all(np.diff(rates[top + 1 :]) < 0)
    assert rates[-1] == pytest.approx(0.001, rel=0.1)


def test_a_gradient_that_is_not_finite_changes_no_weight_and_many_end_the_run(
    prepared: Prepared, tmp_path: Path
) -> None:
    trainer = _trainer(recipe(optimisation={**QUICK, "epochs": 9}), prepared, tmp_path)
    with torch.no_grad():
        next(trainer.module.parameters()).fill_(torch.nan)
    before = {key: value.clone() for key, value in trainer.averaged.state_dict().items()}
    with pytest.raises(JobError, match="not finite 20 times in a row"):
        trainer.run(_quiet)
    after = trainer.averaged.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def _trainer(how: Recipe, prepared: Prepared, folder: Path) -> Trainer:
    train, validation = (prepared.examples.take(rows) for rows in (prepared.sides.train, prepared.sides.validation))
    return Trainer(how, train, validation, folder, CPU)


def test_a_balance_of_one_draws_the_classes_equally_often_and_zero_as_they_are() -> None:
    labels = np.repeat(np.arange(3), [60, 30, 10])
    natural = class_shares(labels, ("a", "b", "c"))
    np.testing.assert_allclose(drawn_shares(natural, 0.0), [0.6, 0.3, 0.1])
    np.testing.assert_allclose(drawn_shares(natural, 1.0), [1 / 3] * 3)
    rows = epoch_rows(labels, np.ones(100), drawn_shares(natural, 1.0), 99, seed=4)
    assert np.bincount(labels[rows]).tolist() == [33, 33, 33]
    assert np.bincount(rows, minlength=100)[90:].tolist().count(3) >= 6  # each rare one three times, or four
    assert not np.array_equal(rows, epoch_rows(labels, np.ones(100), drawn_shares(natural, 1.0), 99, seed=5))


def test_a_collection_of_half_the_weight_is_drawn_half_as_often() -> None:
    labels, weights = np.zeros(100, np.int64), np.repeat([1.0, 0.5], 50)
    drawn = np.concatenate([epoch_rows(labels, weights, np.ones(1), 60, seed) for seed in range(50)])
    assert (drawn >= 50).mean() == pytest.approx(1 / 3, abs=0.01)


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(JobError, match="nothing to train on for b"):
        class_shares(np.zeros(5, np.int64), ("a", "b"))


def test_phases_train_the_primary_branch_then_the_new_ones_then_all() -> None:
    how = Objective(phases=(0.3, 0.2))
    first, second, third, last = (phase_weights(how, progress) for progress in (0.1, 0.4, 0.5, 1.0))
    assert (first.primary, first.auxiliary, first.fusion) == (1, 0, 0)
    assert (second.primary, second.auxiliary, second.fusion) == (0, 1, 1)
    assert (third.primary, third.auxiliary) == (1, 0)
    assert (last.primary, last.auxiliary, last.fusion) == (1, 1, 1)
    assert [frozen("primary.stem.weight", how, progress) for progress in (0.1, 0.4, 0.6)] == [False, True, False]
    assert not frozen("fusion_head.weight", how, 0.4)


def test_scores_are_those_of_the_confusion_matrix() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 1, 0]] * 9
    got = scores(logits, labels)
    assert got.accuracy == pytest.approx(4 / 6)
    assert got.macro_recall == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert got.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def _dmagnet(size: int) -> Contract:
    small = replace(NETWORKS["dmagnet_f"], size=size, dims=(32, 32), depths=(1, 1), classes=2)  # type: ignore[type-var]
    base = recipe()
    return Contract(
        network="dmagnet_f",
        config=small,
        classes=("disc", "bar"),
        image=base.image,
        training="",
        metrics={},
        temperature=1.0,
        untrained=False,
    )


def test_a_network_begins_with_the_weights_of_a_smaller_image(tmp_path: Path) -> None:
    small, large = _dmagnet(32), _dmagnet(64)
    path = tmp_path / CHECKPOINT
    path.write_bytes(write_checkpoint(small, small.config.build().state_dict()))
    module = large.config.build()
    module.load_state_dict(first_weights(path, module.state_dict()))
    assert torch.equal(module.state_dict()["classifier.weight"], _weights(path)["classifier.weight"])
    with pytest.raises(CheckpointError, match="of another network"):
        first_weights(path, {"other": torch.ones(2)})
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        first_weights(tmp_path / "absent", {})


def test_weights_that_are_named_fresh_are_drawn_whatever_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    held = _dmagnet(32)
    path.write_bytes(write_checkpoint(held, held.config.build().state_dict()))
    wanted = {key: value + 1 for key, value in _weights(path).items() if key != "classifier.bias"}
    wanted |= {"classifier.weight": torch.ones(9, 9), "classifier.scale": torch.ones(2)}
    got = first_weights(path, wanted, ("classifier.",))
    assert got.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(got[key], wanted[key] if key.startswith("classifier.") else _weights(path)[key])


def test_positions_keep_their_place_on_a_finer_grid() -> None:
    ramp = torch.arange(4.0)
    grid = torch.stack([ramp.repeat(4), ramp.repeat_interleave(4)], 1)  # (16, 2) column and row
    got = resized_positions(torch.cat([torch.tensor([[7.0, 8.0]]), grid]), 64)
    assert got.shape == (65, 2)
    assert got[0].tolist() == [7.0, 8.0]
    planes = got[1:].reshape(8, 8, 2)
    assert torch.all(planes[:, 1:, 0] > planes[:, :-1, 0])
    assert torch.all(planes[1:, :, 1] > planes[:-1, :, 1])
    assert float(planes.mean()) == pytest.approx(1.5, abs=1e-5)
    assert resized_positions(got, 64) is got
