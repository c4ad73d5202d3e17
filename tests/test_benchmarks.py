"""The benchmarks: their table, and that the measurement of a GPU runs where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import gpu
from tests.benchmarks.__main__ import NAMES, _rows
from tests.benchmarks.rows import Row, spread


def test_every_benchmark_of_the_table_gives_rows() -> None:
    assert all(callable(_rows(name, None)) for name in NAMES if name not in NEEDING_RAY)


NEEDING_RAY = ("driver", "engine_vs_ray_data")  # imported by their own processes


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
