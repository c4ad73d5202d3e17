"""The programs beside the command line say in a line what is wrong with what they were given, and exit with 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.executors import simulate
from pipeline.mock import artefacts, stamps
from pipeline.training import ann, clusters

Program = Callable[[Sequence[str]], None]


@pytest.mark.parametrize(
    ("program", "given", "said"),
    [
        (stamps.main, ["--count", "0"], "0 is not above 0"),
        (stamps.main, ["--size", "-1"], "-1 is not above 0"),
        (stamps.main, ["--jitter", "0.6"], "0.6 is not from 0 to 0.5"),
        (stamps.main, ["--jitter", "nan"], "nan is not from 0 to 0.5"),
        (artefacts.main, ["--count", "few"], "'few'"),
        (artefacts.main, ["--count", "1", "--size", "32", "--stars", "{folder}"], "{folder} has no stars"),
        (clusters.main, ["--count", "-3"], "-3 is not above 0"),
        (ann.main, ["--data", "{folder}"], "cannot read the recipe {file}"),
    ],
)
def test_a_wrong_argument_is_named(
    program: Program, given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"folder": str(tmp_path), "file": str(tmp_path / "file")}
    with pytest.raises(SystemExit) as ended:
        program([names["file"], *(text.format(**names) for text in given)])
    assert ended.value.code == 2
    assert said.format(**names) in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("program", [stamps.main, artefacts.main, clusters.main])
def test_a_folder_that_cannot_be_made_is_named(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SystemExit) as ended:
        program([str(tmp_path / "taken" / "a.parquet"), "--count", "1"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "taken") in line


@pytest.mark.parametrize("given", [["--gpus", "0"], ["--galaxies", "inf"], ["--archive", "0"], ["--requests", "nan"]])
def test_a_cluster_that_cannot_be_is_not_simulated(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        simulate.main([*given, "--quick"])
    assert ended.value.code == 2
    assert given[1] in capsys.readouterr().err.splitlines()[-1]
