"""`pipeline networks`: what it says of the networks, of what is not installed, and of a checkpoint."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.models import NETWORKS
from pipeline.models.checkpoint import untrained_checkpoint, write_checkpoint
from pipeline.models.configs.cvt import CvTConfig
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.configs.tang import TangConfig
from pipeline.models.descriptions import DESCRIPTIONS

ROOT = Path(__file__).parent.parent
TINY = DMAGNetConfig(size=32, dims=(8, 16), depths=(1, 1), head_channels=8)


def listed(monkeypatch: pytest.MonkeyPatch, *arguments: str, columns: int = 80) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = CliRunner().invoke(app, ["networks", *arguments])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= columns
    return done.output


def flowing(text: str) -> str:
    """The text without its line ends and margins."""
    return " ".join(text.split())


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    held = replace(
        untrained_checkpoint("dmagnet_f", 0, TINY), untrained=False, training="5,001 galaxies", metrics={"f1": 0.87}
    )
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(write_checkpoint(held, held.weights))
    return path


def test_every_network_is_described_in_words_of_its_own() -> None:
    assert set(DESCRIPTIONS) == {*NETWORKS, "ann"}
    assert len({description.what for description in DESCRIPTIONS.values()}) == len(DESCRIPTIONS)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {description.extra for description in DESCRIPTIONS.values()} - {""} <= set(extras)


@pytest.mark.parametrize("columns", [80, 120])
def test_networks_are_listed_with_what_was_counted(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("pipeline.models.NETWORKS", {"tang": TangConfig()})
    text = listed(monkeypatch, columns=columns)
    assert ["tang", "412,458", "0.408", "84", "px", "3x256x256", "2.1", "untrained"] in map(
        str.split, text.splitlines()
    )
    assert DESCRIPTIONS["tang"].what in flowing(text)
    assert ["ann", "198", "<0.001", "5", "numbers", "1", "untrained"] in map(str.split, text.splitlines())


def test_a_network_whose_library_is_missing_is_listed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.models.NETWORKS", {"cvt": CvTConfig()})
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = listed(monkeypatch)
    assert ["cvt", "3x256x256", "1", "not", "here"] in map(str.split, text.splitlines())
    assert "pip install 'galaxy-pipeline[baselines]'" in text


def test_a_checkpoint_says_what_it_was_trained_on_and_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    text = flowing(listed(monkeypatch, str(trained)))
    assert "dmagnet_f 12,362 <0.001 all 3x32x32 2.3 trained" in text
    assert "trained on 5,001 galaxies: f1 0.87" in text
    assert "takes 8.5 radii of the source, or the survey's own frames where it has none, at 256 px" in text
    assert "tells round, in_between, cigar" in text


def test_weights_that_come_with_the_package_are_listed(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    monkeypatch.setattr("pipeline.checkpoints.shipped_names", lambda: ["tiny"])
    monkeypatch.setattr("pipeline.checkpoints._shipped", lambda _name: trained.read_bytes())
    monkeypatch.setattr("pipeline.models.NETWORKS", {"dmagnet_f": TINY, "tang": TangConfig(size=30)})
    lines = listed(monkeypatch).splitlines()
    assert "    shipped:tiny: trained on 5,001 galaxies: f1 0.87" in lines
    assert [line.split()[-1] for line in lines if line.startswith(("dmagnet_f", "tang"))] == ["trained", "untrained"]


def test_a_checkpoint_that_cannot_be_read_exits_2() -> None:
    done = CliRunner().invoke(app, ["networks", "nowhere.safetensors"])
    assert done.exit_code == 2
    assert "network  " not in done.output
