"""The benchmarks: their table, and that the measurement of a GPU runs where there is none."""

from __future__ import annotations

import inspect
import json
import subprocess
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from tests.benchmarks import around, gpu
from tests.benchmarks.__main__ import NAMES, PEERS, QUICK, main
from tests.benchmarks.rows import Row, spread


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_takes_what_the_table_gives_it(name: str) -> None:
    rows = import_module(f"tests.benchmarks.{name}").rows
    peers = dict.fromkeys(peer for peer, measured in PEERS.items() if measured == name)
    assert inspect.signature(rows).bind(**QUICK[name], **peers)
    assert inspect.signature(rows).bind(**peers)  # all else has a default


def test_the_table_is_told_and_written_and_a_failure_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.dumps([asdict(Row("speed", 30.0, "images/s", 20.0, "peer", 0.5, 2))])

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        lost = "driver" in command
        return subprocess.CompletedProcess(command, int(lost), "" if lost else f"a warning\n{said}\n", "no Ray")

    monkeypatch.setattr(subprocess, "run", run)
    kept, table = tmp_path / "bench.json", tmp_path / "bench.md"
    only = ["--only", "start_up", "driver", "around"]
    assert main([*only, "--json", str(kept), "--markdown", str(table)]) == 1
    told = capsys.readouterr().out
    assert "driver failed" in told and "no Ray" in told and "zoobot was not measured: --zoobot PYTHON" in told
    written = json.loads(kept.read_text())
    assert [row["name"] for row in written["rows"]] == ["speed", "speed"] and written["versions"]["torch"]
    assert table.read_text().splitlines()[2] == "| speed | 30 | images/s | 20 | peer | 1.50 | 50% | 2 |"


def test_a_peer_is_measured_by_its_own_python(tmp_path: Path) -> None:
    peer = tmp_path / "python"
    peer.write_text('#!/bin/sh\ncase "$1" in */around_zoobot.py) echo a warning; echo 6.8;; *) exit 3;; esac\n')
    peer.chmod(0o755)
    assert around.loader_milliseconds(str(peer)) == 6.8
    peer.write_text("#!/bin/sh\necho no module >&2; exit 1\n")
    with pytest.raises(SystemExit, match="no module"):
        around.loader_milliseconds(str(peer))


def test_a_ratio_is_ours_over_the_other_and_none_without_one() -> None:
    assert Row("speed", 30.0, "images/s", 20.0, "peer").ratio == 1.5
    assert Row("memory", 30.0, "MB").ratio is None
    assert spread([2.0, 3.0, 2.5]) == 0.5


def test_the_measurement_of_a_gpu_runs_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--quick", "--networks", "tang", "--json", str(path)]) == 0
    assert "CPU: a check of the script, no result" in capsys.readouterr().out
    (tang,) = json.loads(path.read_text())["networks"]
    assert tang["gflop"] == pytest.approx(0.4076, rel=0.01)  # two operations a multiply-add, as torch counts them
    assert tang["resident_images_second"] > 0 and tang["of_floor"] > 0


def test_each_layer_is_bound_by_what_takes_it_longer() -> None:
    slow_memory, slow_units = gpu.layers("tang", 1e15, 1e6), gpu.layers("tang", 1e6, 1e15)
    assert {layer.binds for layer in slow_memory} == {"bytes"}
    assert {layer.binds for layer in slow_units if layer.operations} == {"operations"}
    assert sum(layer.seconds for layer in slow_units) == pytest.approx(sum(one.operations for one in slow_units) / 1e6)
