"""The engine against Ray Data on the same fake load: `python -m tests.benchmarks.engine_vs_ray_data`.

Every run has a process and a Ray of its own. The two take turns, the order changes from round to round, and
medians count, so that a neighbour's load on the machine hits both. Then the engine alone on more and more
images: the driver's memory must not grow with them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.one_run import MODULES, Measured
from tests.benchmarks.rows import Row, spread

TARGET = 2.0  # times Ray Data's images/s
MEMORY_IMAGES = (5_000, 20_000, 80_000)
MEMORY_GROWTH = 1.1  # of the driver, from the fewest images to the most
ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where both targets are met, 1 where one is missed."""
    parser = argparse.ArgumentParser(description="The engine against Ray Data on the same fake load.")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-images", type=int, nargs="*", default=MEMORY_IMAGES)
    options = parser.parse_args(arguments)
    console = Console()
    console.print(f"load of the machine before the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    rounds = [one_round(options.images, number) for number in range(options.repeats)]
    console.print(comparison(rounds, options.images))
    ratios = [runs["engine"].rate / runs["ray data"].rate for runs in rounds]
    ratio = median_rate(rounds, "engine") / median_rate(rounds, "ray data")
    console.print(
        f"engine / Ray Data: {ratio:.2f}x (rounds: {', '.join(f'{r:.2f}' for r in ratios)}); target {TARGET}x"
    )
    growing = [one_run("engine", images) for images in options.memory_images]
    console.print(memory(growing))
    growth = growing[-1].driver_mb / growing[0].driver_mb if growing else 1.0
    return 0 if ratio >= TARGET and growth <= MEMORY_GROWTH else 1


def rows(images: int = 5_000, repeats: int = 2) -> list[Row]:
    """For `make bench`."""
    rounds = [one_round(images, number) for number in range(repeats)]
    ours, theirs = (median_rate(rounds, engine) for engine in ("engine", "ray data"))
    apart = spread([runs["engine"].rate for runs in rounds])
    first = [min(runs[engine].first_answer for runs in rounds) for engine in ("engine", "ray data")]
    return [
        Row(f"engine, {images:,} fake images", ours, "images/s", theirs, "Ray Data", apart, repeats),
        Row("engine, time to the first answer", first[0], "s", first[1], "Ray Data", repeats=repeats),
    ]


def one_round(images: int, number: int) -> dict[str, Measured]:
    order = list(MODULES) if number % 2 == 0 else list(reversed(MODULES))
    return {engine: one_run(engine, images) for engine in order}


def one_run(engine: str, images: int) -> Measured:
    command = [sys.executable, "-m", "tests.benchmarks.one_run", engine, str(images)]
    # stderr is dropped: Ray Data tells its plan there.
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def median_rate(rounds: Sequence[dict[str, Measured]], engine: str) -> float:
    return statistics.median(runs[engine].rate for runs in rounds)


def comparison(rounds: Sequence[dict[str, Measured]], images: int) -> Table:
    table = Table(title=f"{images:,} images of 3x256x256, medians of {len(rounds)}")
    for column in ("", "images/s", "seconds", "first answer, s", "driver peak, MB", "files"):
        table.add_column(column, justify="right" if column else "left")
    for engine in MODULES:
        runs = [measured[engine] for measured in rounds]
        table.add_row(
            engine,
            f"{median_rate(rounds, engine):,.0f}",
            f"{statistics.median(run.seconds for run in runs):.2f}",
            f"{statistics.median(run.first_answer for run in runs):.2f}",
            f"{statistics.median(run.driver_mb for run in runs):.0f}",
            f"{runs[-1].files}",
        )
    return table


def memory(runs: Sequence[Measured]) -> Table:
    table = Table(title="The engine's driver")
    for column in ("images", "driver peak, MB", "images/s"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(f"{run.images:,}", f"{run.driver_mb:.0f}", f"{run.rate:,.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
