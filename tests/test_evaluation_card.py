"""An evaluation as it is written: JSON, pictures, the model card, and the verbs that make them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.card import card
from pipeline.evaluation.evaluate import Evaluation, Material, evaluate, finished, material
from pipeline.evaluation.record import plain, record
from pipeline.evaluation.writing import write_evaluation
from pipeline.models.checkpoint import read_checkpoint
from tests.evaluated import recipe


@pytest.fixture(scope="module")
def given(discs: Path) -> Material:
    return material(recipe(), discs)


@pytest.fixture(scope="module")
def evaluation(discs_checkpoint: Path, given: Material) -> Evaluation:
    return evaluate(finished(read_checkpoint(discs_checkpoint.read_bytes(), "tiny"), given), given)


@pytest.fixture(scope="module")
def folder(evaluation: Evaluation, given: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("evaluation") / "tiny"
    write_evaluation(made, evaluation, given, "cpu")
    return made


def test_an_evaluation_is_json_and_pictures(folder: Path, evaluation: Evaluation) -> None:
    said = json.loads((folder / "evaluation.json").read_text())
    assert said["sets"][0]["headline"]["accuracy"]["value"] == 1
    assert said["checkpoint"]["sha256"] == evaluation.checkpoint.sha256
    assert said["made"]["torch"] == torch.__version__
    assert sum(said["images"]["test"]["survey"].values()) == evaluation.judgements[0].own.images
    pictures = {file.name for file in folder.glob("*.png")}
    assert pictures >= {"confusion.png", "confusion_4.png", "reliability.png", "risk_coverage.png"}
    for name in pictures:
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 300


def test_what_is_not_finite_is_null_in_json() -> None:
    assert plain({"a": (math.nan, math.inf, 1.0), "b": None}) == {"a": [None, None, 1.0], "b": None}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d{3}", text))


def test_every_figure_of_the_card_is_in_the_evaluation(evaluation: Evaluation, given: Material) -> None:
    said = record(evaluation, given, "tiny", "cpu")
    known = {f"{value:.3f}" for value in _leaves(said) if isinstance(value, float)}
    text = card(said)
    assert len(numbers(text)) > 3
    assert numbers(text) <= known
    assert "merger (experimental)" in text
    assert f"`dmagnet_f`, {said['checkpoint']['parameters']:,} parameters" in text


def test_a_card_follows_its_evaluation(evaluation: Evaluation, given: Material) -> None:
    said = json.loads(json.dumps(record(evaluation, given, "tiny", "cpu")))
    said["sets"][0]["own"]["accuracy"] = {"value": 0.123, "low": 0.111, "high": 0.135}
    said["folders"] = ["gz_sdss/train128"]
    text = card(said)
    assert "0.123 [0.111, 0.135]" in text
    assert "Lintott" in text
    assert "SIMULATED" in card({**said, "folders": ["clusters.parquet"]})


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


RECIPE = """
name: tiny
network: dmagnet_f
config: {size: 24, dims: [8, 16], depths: [1, 1], head_channels: 8}
data:
  images: [images]
  classes: [round, in_between, cigar, edge_on, spiral, merger]
  labels: {round: round, in_between: in_between, cigar: cigar, edge_on: edge_on, spiral: spiral, merger: merger}
  columns: {collection: collection}
  side: 24
  source: coloured discs
split: {test: 0.3, validation: 0.3}
optimisation: {epochs: 6}
"""


def test_the_verbs_print_tables_write_files_and_finish_the_checkpoint(
    discs: Path, discs_checkpoint: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "one.safetensors", tmp_path / "two" / "checkpoint.safetensors"]  # as they ship, and as trained
    files[1].parent.mkdir()
    for file in files:
        file.write_bytes(discs_checkpoint.read_bytes())
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    names = list(map(str, files))
    more = ["--recipe", str(tmp_path / "recipe.yaml"), "--data", str(discs), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", *names, *more, "--write"])
    assert done.exit_code == 0, done.output
    assert read_checkpoint((tmp_path / "one.safetensors").read_bytes(), "one").calibrated_on.startswith(
        "coloured discs"
    )
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"one", "two"}
    written = tmp_path / "card.md"
    line = ["card", str(tmp_path / "out" / "one" / "evaluation.json"), "--output", str(written)]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert written.read_text().startswith("# one\n")


def test_two_checkpoints_of_one_name_are_refused(discs: Path, discs_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    line = ["evaluate", str(discs_checkpoint), str(discs_checkpoint), "--recipe", str(tmp_path / "recipe.yaml")]
    done = CliRunner().invoke(app, [*line, "--data", str(discs), "--output", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "would both be called" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_card_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[1]")
    done = CliRunner().invoke(app, ["card", str(tmp_path / "other.json")])
    assert done.exit_code == 2


def test_evaluation_needs_neither_ray_nor_astropy_nor_a_file_system(
    discs: Path, discs_checkpoint: Path, tmp_path: Path
) -> None:
    """A GPU machine has torch, and what the extra `train` brings."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    absent = ("ray", "astropy", "fitsio", "fsspec", "galsim", "duckdb", "s3fs", "healpix")
    script = (
        f"import sys\nfor name in {absent}: sys.modules[name] = None\n"
        "from pipeline.cli import main\nsys.argv = ['pipeline', *sys.argv[1:]]\nmain()"
    )
    line = ["evaluate", str(discs_checkpoint), "--recipe", str(tmp_path / "recipe.yaml"), "--data", str(discs)]
    command = [sys.executable, "-c", script, *line, "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1.000 [1.000, 1.000]" in done.stdout


def test_a_card_says_of_every_target_whether_it_is_met(folder: Path) -> None:
    said = json.loads((folder / "evaluation.json").read_text())
    said["sets"].append(json.loads(json.dumps(said["sets"][0] | {"name": "gz_decals"})))
    said["sets"][-1]["own"]["accuracy"]["low"] = 0.79
    said["sets"][0]["after"]["ece"]["value"] = 0.01
    said["stored"] = {"half": 0, "images": 300, "flips": 0}
    text = card(said, notes=["Too few images."])
    assert "| accuracy on `survey`, 4 classes | at least 0.94 | 1.000 | met |" in text
    assert "| accuracy on `gz_decals`, 6 classes, lower end | at least 0.8 | 0.790 | short |" in text
    assert "| ECE on `survey`, scaled | at most 0.03 | 0.010 | met |" in text
    assert "\n* Too few images.\n" in text
    assert "The file holds float16: of 300 test images none would get another class than in float32. SHA-256 `" in text
