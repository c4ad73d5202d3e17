"""How long commands take before they do anything: `python -m tests.benchmarks.start_up`.

CPU seconds of a process of its own, children included: what a quiet machine takes by the clock. The package is compiled
first, as an installation compiles it.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import pipeline
from pipeline.cli import app
from tests.benchmarks.rows import Row, spread

HELP, PLAN = 0.3, 1.0  # s, the targets
SOURCES = 1_000
PACKAGE = Path(pipeline.__file__).parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
IMPORTS = ("pipeline", "pipeline.job", "pipeline.catalogue.query", "pipeline.executors.runner", "pipeline.inference")


def seconds(command: Sequence[str]) -> float:
    """CPU seconds of `python COMMAND`, which must succeed."""
    before = os.times()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=ENVIRONMENT)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def verbs() -> list[str]:
    """Every verb of the command line."""
    return [
        str(verb.name or verb.callback.__name__).replace("_", "-") for verb in app.registered_commands if verb.callback
    ]


def rows(rounds: int = 3) -> list[Row]:
    compileall.compile_dir(PACKAGE, quiet=1)
    torch = seconds(["-c", "import torch"])
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder:
        table, sky = Path(folder) / "sources.parquet", Path(folder) / "sky"
        subprocess.run([sys.executable, "-m", "pipeline", "mock", str(sky)], check=True, capture_output=True)
        _write_sources(table)
        plan = f"run --survey decals --mirror {sky} --sources {table} --output {folder}/out --dry-run".split()
        commands = {
            f"pipeline, plan of {SOURCES:,} sources": (["-m", "pipeline", *plan], PLAN, "target"),
            "pipeline --help": (["-m", "pipeline", "--help"], HELP, "target"),
            **{f"pipeline {verb} --help": (["-m", "pipeline", verb, "--help"], HELP, "target") for verb in verbs()},
            **{f"import {name}": (["-c", f"import {name}"], torch, "import torch") for name in IMPORTS},
        }
        return [_row(name, *command, rounds) for name, command in commands.items()]


def _row(name: str, command: Sequence[str], other: float, other_name: str, rounds: int) -> Row:
    taken = [seconds(command) for _ in range(rounds)]
    return Row(name, min(taken), "CPU-s", other, other_name, spread(taken), rounds)


def _write_sources(path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "object_id": np.arange(SOURCES),
        "ra": rng.uniform(149.75, 150.5, SOURCES),
        "dec": rng.uniform(1.9, 2.4, SOURCES),
    }
    pq.write_table(pa.table(columns), path)


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    show(rows())
