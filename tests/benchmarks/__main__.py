"""Every benchmark of the repository at a size of minutes, in one table: `make bench`.

    python -m tests.benchmarks [--only forward_pass start_up] [--json bench.json] [--cutana PYTHON]

Each runs in a process of its own. The table gives ours, the other side measured in the same run (or the target), their
ratio, and the spread of ours over the repeats; the JSON adds the machine and the versions. A benchmark that fails is
told and the rest goes on; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import Row

ROOT = Path(__file__).parents[2]
VERSIONS = ("torch", "numpy", "ray", "pyarrow", "fitsio", "astropy", "duckdb")
NAMES = (
    *("start_up", "forward_pass", "conditional", "around", "decode", "plan_scale", "catalogue"),
    *("driver", "engine_vs_ray_data", "report"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--cutana", help="Python of an environment that has Cutana (see tests/benchmarks/decode.py)")
    parser.add_argument("--rows-of", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows_of:
        sys.stdout.write(json.dumps([asdict(row) for row in _rows(options.rows_of, options.cutana)()]) + "\n")
        return 0
    found: dict[str, list[Row]] = {}
    for name in options.only:
        out.print(f"[dim]{name} ...[/]")
        found[name] = _in_a_process(name, options.cutana)
    rows = [row for each in found.values() for row in each]
    show(rows)
    options.json.write_text(json.dumps({**machine(), "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    out.print(f"written to {options.json}")
    return int(not all(found.values()))


def _rows(name: str, cutana: str | None) -> Callable[[], list[Row]]:
    rows: Callable[..., list[Row]] = import_module(f"tests.benchmarks.{name}").rows
    return partial(rows, cutana=cutana) if name == "decode" else rows


def _in_a_process(name: str, cutana: str | None) -> list[Row]:
    """The rows of one benchmark; none where it failed, which is told."""
    command = [sys.executable, "-m", "tests.benchmarks", "--rows-of", name]
    command += ["--cutana", cutana] if cutana else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        out.print(f"{name} failed:\n{done.stderr[-2000:]}", markup=False, style="red")
        return []
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def machine() -> Mapping[str, object]:
    """Where and with what it was measured."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def show(rows: Sequence[Row]) -> None:
    table = Table(title=f"{_processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for name in ("what", "ours", "unit", "other", "which", "ours / other", "spread", "repeats"):
        table.add_column(name, justify="left" if name in ("what", "unit", "which") else "right")
    for row in rows:
        other = "" if row.other is None else _figure(row.other)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        apart = f"{row.spread:.0%}" if row.repeats > 1 else ""
        table.add_row(row.name, _figure(row.ours), row.unit, other, row.other_name, ratio, apart, str(row.repeats))
    out.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


out = Console(width=150)


if __name__ == "__main__":
    sys.exit(main())
