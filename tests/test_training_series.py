"""The verbs `train` and `train-list`, on a machine that has torch but neither ray nor astropy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import JobError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.training.fitting import CHECKPOINT
from pipeline.training.recipe import Augmentation, read_recipe
from pipeline.training.series import read_series
from tests.training_sets import tree, write_set

JOBS = Path(__file__).parent.parent / "jobs/training"
GRID = 16
# What a bare GPU machine lacks; typer itself may need pydantic, the training may not (pyproject.toml says so).
BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "astropy", "fitsio", "fsspec", "s3fs", "galsim", "duckdb", "healpix", "httpx"}:
            raise ModuleNotFoundError(f"{name} is not on a bare machine", name=name)

sys.meta_path.insert(0, Absent())
from pipeline.cli import main
main()
"""


def _call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", BARE, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small set, its recipe and a list of runs."""
    folder = tmp_path_factory.mktemp("series")
    write_set(folder / "set", 40)
    (folder / "small.yaml").write_text(yaml.safe_dump(tree(optimisation={"epochs": 1})))
    (folder / "list.yaml").write_text(
        "- {recipe: small.yaml, set: [name=first]}\n"
        "- {recipe: small.yaml, from: first, set: [name=grid], each: {config.normalisation: [range, softmax]}}\n"
    )
    return folder


def test_a_bare_machine_trains_a_list_and_leaves_alone_what_is_finished(folder: Path) -> None:
    output = folder / "out"
    arguments = ("train-list", folder / "list.yaml", "--data", folder, "--output", output, "--set", "keeping.steps=2")
    done = _call(*arguments)
    assert done.returncode == 0, done.stderr
    names = {"first", "grid_range", "grid_softmax"}
    assert {path.parent.name for path in output.glob(f"*/{CHECKPOINT}")} == names
    checkpoint = read_checkpoint((output / "grid_softmax" / CHECKPOINT).read_bytes(), "it")
    assert checkpoint.config.normalisation == "softmax"  # type: ignore[attr-defined]
    parts = {json.loads(line)["part"] for line in (output / "first/metrics.jsonl").read_text().splitlines()}
    assert parts == {"train", "validation"}
    assert list((output / "first/events").glob("events.out.tfevents.*"))
    assert "images to train on" in done.stderr
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    again = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (again.exit_code, again.stdout) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def test_a_wrong_recipe_exits_2_in_one_line_even_there(folder: Path) -> None:
    done = _call("train", folder / "small.yaml", "--data", folder, "--set", "optimisation.epoch=3")
    assert done.returncode == 2
    assert "unknown key 'epoch'; the nearest is 'epochs'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_absent_is_refused(folder: Path) -> None:
    line = ["train", str(folder / "small.yaml"), "--data", str(folder), "--device", "cuda:7"]
    done = CliRunner().invoke(app, [*line, "--output", str(folder / "none")])
    assert done.exit_code == 2
    assert "sees no CUDA device" in done.stderr


def test_the_list_for_a_gpu_can_be_read_and_holds_the_grid_of_attention(tmp_path: Path) -> None:
    runs = read_series(JOBS / "gpu.yaml", tmp_path, ["optimisation.epochs=1"])
    names = [run.recipe.name for run in runs]
    assert sum(name.startswith("agcnn_") for name in names) == GRID
    assert {"dmagnet_f", "dmagnet_f_256", "agcnn", "mban_shared", "radio_agcnn"} <= set(names)
    assert {run.recipe.optimisation.epochs for run in runs} == {1}
    tuned = next(run for run in runs if run.recipe.name == "dmagnet_f_256")
    assert tuned.recipe.init_from == str(tmp_path / "dmagnet_f" / CHECKPOINT)


def test_the_list_for_a_cpu_goes_on_only_from_runs_before(tmp_path: Path) -> None:
    done: set[str] = set()
    for run in read_series(JOBS / "cpu.yaml", tmp_path):
        assert run.recipe.init_from is None or Path(run.recipe.init_from).parent.name in done, run.recipe.name
        done.add(run.recipe.name)


def test_the_list_of_augmentations_leaves_out_one_kind_a_run(tmp_path: Path) -> None:
    whole, *others = read_series(JOBS / "augmentation.yaml", tmp_path)
    middle = Augmentation().shift  # as all of them were trained
    assert whole.recipe.augmentation == replace(read_recipe(JOBS / "resnet18.yaml").augmentation, shift=middle)
    left_out = [
        {one.name for one in fields(Augmentation) if not getattr(run.recipe.augmentation, one.name)} for run in others
    ]
    *single, all_of_light = left_out
    assert all_of_light == {"gain", "grey", "blur", "noise", "pedestal", "brightness"}
    assert set.union(*single) == all_of_light | {"turn", "mirror", "scale"}
    assert sum(map(len, single)) == len(set.union(*single))
    assert {run.recipe.augmentation.shift for run in others} == {middle}
    bare = replace(whole.recipe, name="", augmentation=Augmentation())
    assert all(replace(run.recipe, name="", augmentation=Augmentation()) == bare for run in others)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: small.yaml", "expected a list of runs"),
        ("- {recipes: small.yaml}", "expected recipe and any of"),
        ("- {recipe: small.yaml, sets: []}", "expected recipe and any of"),
        ("- {recipe: small.yaml}\n- {recipe: small.yaml}", "several runs are called small"),
        ("- [", "cannot read the list"),
    ],
)
def test_a_wrong_list_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    with pytest.raises(JobError, match=message):
        read_series(folder / "wrong.yaml", folder)
