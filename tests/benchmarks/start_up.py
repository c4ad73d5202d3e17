"""How long commands take before they do anything: `python -m tests.benchmarks.start_up`.

CPU seconds of a process of its own, children included: what a quiet machine takes by the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.rows import Row, spread

HELP, PLAN = 0.3, 1.0  # s, the targets
SOURCES = 1_000
VERBS = ("run", "status", "query", "report", "train")


def seconds(command: Sequence[str]) -> float:
    """CPU seconds of `python COMMAND`, which must succeed."""
    before = os.times()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def rows(rounds: int = 2) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder:
        table, sky = Path(folder) / "sources.parquet", Path(folder) / "sky"
        subprocess.run([sys.executable, "-m", "pipeline", "mock", str(sky)], check=True, capture_output=True)
        _write_sources(table)
        plan = f"run --survey decals --mirror {sky} --sources {table} --output {folder}/out --dry-run".split()
        commands = {
            "--help": (["--help"], HELP, "target"),
            **{f"{verb} --help": ([verb, "--help"], HELP, "target") for verb in VERBS},
            "networks": (["networks"], seconds(["-c", "import torch"]), "import torch"),
            f"plan of {SOURCES:,} sources": (plan, PLAN, "target"),
        }
        return [_row(name, *command, rounds) for name, command in commands.items()]


def _row(name: str, arguments: Sequence[str], other: float, other_name: str, rounds: int) -> Row:
    taken = [seconds(["-m", "pipeline", *arguments]) for _ in range(rounds)]
    return Row(f"pipeline {name}", min(taken), "CPU-s", other, other_name, spread(taken), rounds)


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
