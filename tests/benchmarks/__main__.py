"""Every benchmark of the repository at a size of minutes, in one table: `make bench`.

    python -m tests.benchmarks [--quick] [--only forward_pass start_up] [--json bench.json] [--markdown bench.md]
        [--cutana PYTHON] [--zoobot PYTHON]

Each runs in a process of its own. The table gives ours, the other side measured in the same run (or the target), their
ratio, and the spread of ours over the repeats; the JSON adds the machine and the versions. A benchmark that fails is
told and the rest goes on; then the exit code is 1. `--quick` is for seeing whether all run. A peer is measured in an
environment of its own, whose Python is given here or as CUTANA and ZOOBOT in the environment:

    python3.11 -m venv /tmp/zoobot && /tmp/zoobot/bin/pip install 'zoobot[pytorch]==2.9.0'
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
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import Row

ROOT = Path(__file__).parents[2]
VERSIONS = ("torch", "numpy", "ray", "pyarrow", "fitsio", "astropy", "duckdb")
NAMES = (
    *("start_up", "forward_pass", "conditional", "around", "decode", "plan_scale", "catalogue"),
    *("driver", "chunks", "memory", "engine_vs_ray_data", "report"),
)
COLUMNS = ("what", "ours", "unit", "other", "which", "ours / other", "spread", "repeats")
TEXTS = ("what", "unit", "which")
PEERS = {"cutana": "decode", "zoobot": "around"}  # and the benchmark that measures against it
QUICK: Mapping[str, Mapping[str, Any]] = {
    "start_up": {"rounds": 1},
    "forward_pass": {"rounds": 1, "flipped": 32},
    "conditional": {"images": 16, "rounds": 1, "side": 64},
    "around": {"rounds": 1},
    "decode": {"rounds": 1},
    "plan_scale": {"sources": 20_000},
    "catalogue": {"count": 20_000, "repeats": 2},
    "driver": {"chunks": 80},
    "chunks": {"count": 3},
    "memory": {"sizes": (10_000, 20_000)},
    "engine_vs_ray_data": {"images": 1_000, "repeats": 1},
    "report": {"count": 10_000},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--markdown", type=Path, help="also write the table as Markdown")
    parser.add_argument("--quick", action="store_true", help="every benchmark once, as small as it can be")
    for peer, measured in PEERS.items():
        given = os.environ.get(peer.upper())
        parser.add_argument(f"--{peer}", default=given, metavar="PYTHON", help=f"that has {peer}, for {measured}")
    parser.add_argument("--rows-of", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rows_of:
        sys.stdout.write(json.dumps([asdict(row) for row in _rows(options.rows_of, options)()]) + "\n")
        return 0
    before, found = machine(), {name: _told(name, options) for name in options.only}
    rows = [row for each in found.values() for row in each]
    show(rows)
    for peer, measured in PEERS.items():
        if not getattr(options, peer) and measured in options.only:
            out.print(f"{peer} was not measured: --{peer} PYTHON names an environment that has it")
    options.json.write_text(json.dumps({**before, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    out.print(f"written to {options.json}")
    if options.markdown:
        options.markdown.write_text(markdown(rows))
    return int(not all(found.values()))


def _rows(name: str, options: argparse.Namespace) -> Callable[[], list[Row]]:
    rows: Callable[..., list[Row]] = import_module(f"tests.benchmarks.{name}").rows
    peers = {peer: getattr(options, peer) for peer, measured in PEERS.items() if measured == name}
    return partial(rows, **(QUICK[name] if options.quick else {}), **peers)


def _told(name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of one benchmark in a process of its own; none where it failed, which is told."""
    out.print(f"[dim]{name} ...[/]")
    command = [sys.executable, "-m", "tests.benchmarks", "--rows-of", name, *(["--quick"] if options.quick else [])]
    for peer in PEERS:
        command += [f"--{peer}", getattr(options, peer)] if getattr(options, peer) else []
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


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table, as it is read."""
    other = "" if row.other is None else _figure(row.other)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    apart = f"{row.spread:.0%}" if row.spread > 0 else ""
    return (row.name, _figure(row.ours), row.unit, other, row.other_name, ratio, apart, str(row.repeats))


def markdown(rows: Sequence[Row]) -> str:
    """The table for a README."""
    lines = [" | ".join(COLUMNS), "|".join("---" if name in TEXTS else "---:" for name in COLUMNS)]
    return "".join(f"| {line} |\n" for line in (*lines, *(" | ".join(cells(row)) for row in rows)))


def show(rows: Sequence[Row]) -> None:
    """The table on the screen."""
    table = Table(title=f"{_processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in TEXTS else "right")
    for row in rows:
        table.add_row(*cells(row))
    out.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


out = Console(width=150)


if __name__ == "__main__":
    sys.exit(main())
