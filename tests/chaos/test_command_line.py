"""`pipeline run` on Ray is killed; the same command takes its lock over and completes the catalogue."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.storage import Storage
from tests.chaos.fake_work import wait_until
from tests.runs import assert_equal_catalogues, command, committed_rows, summary_of


def manifests(output: Path) -> list[str]:
    return [name for name in Storage(str(output)).list("units") if name.endswith(".json")]


def test_a_killed_command_given_again_completes_the_catalogue(
    tmp_path: Path, mock_tree: Path, checkpoint: Path, whole: Path
) -> None:
    output = tmp_path / "catalogue"
    line = command(mock_tree, checkpoint, output, "--executor", "ray", "--set", "units.sources=2")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_until(lambda: bool(manifests(output)), seconds=120.0)
        first.kill()
    committed = {name: Storage(str(output)).read(name) for name in manifests(output)}
    again = subprocess.run(line, capture_output=True, text=True, check=False, timeout=150)
    assert again.returncode == 0, again.stderr
    summary = summary_of(output)
    assert summary["committed"] == summary["sources"]
    assert summary["units_this_run"] <= summary["units"] - len(committed)
    assert {name: Storage(str(output)).read(name) for name in committed} == committed
    assert_equal_catalogues(committed_rows(output), committed_rows(whole))
