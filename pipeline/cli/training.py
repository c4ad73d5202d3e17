"""The verbs that train: torch, numpy, pyarrow, pillow and yaml are all that they need, neither ray nor astropy."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.training.fitting import Prepared
    from pipeline.training.loop import Step, Watch
    from pipeline.training.recipe import Recipe

Data = Annotated[Path, typer.Option(help="Folder below which a recipe names its images.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one.")]


def train(
    recipe: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A recipe; jobs/training has one a network.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the run; trained/NAME if not given.")] = None,
    data: Data = Path(),
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(help="Over the recipe's.")] = None,
    device: Device = None,
) -> None:
    """Train one network; the same command goes on where a stopped one stood."""
    with screen.answers():
        from pipeline.training.recipe import read_recipe

        chosen = read_recipe(recipe, [*(settings or []), *([] if seed is None else [f"seed={seed}"])])
        _train(chosen, data, output or Path("trained") / chosen.name, device)


def train_list(
    runs: Annotated[Path, typer.Argument(metavar="LIST.yaml", help="Runs, such as those of jobs/training/gpu.yaml.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs' folders.")] = Path("trained"),
    data: Data = Path(),
    settings: Settings = None,
    device: Device = None,
) -> None:
    """Train one network after another; those that have their checkpoint are left as they are."""
    with screen.answers():
        from pipeline.training.series import read_series

        for run in read_series(runs, output, settings or []):
            if not run.finished:
                _train(run.recipe, data, run.folder, device)


def _train(recipe: Recipe, data: Path, folder: Path, device: str | None) -> None:
    from pipeline.training.fitting import fit, prepare

    prepared = prepare(recipe, data)
    screen.note(_beginning(recipe, prepared))
    with _watching() as watch:
        path = fit(recipe, prepared, folder, watch, device)
    screen.facts(recipe.name, {"checkpoint": path, "metrics": folder / "metrics.jsonl"})


def _beginning(recipe: Recipe, prepared: Prepared) -> str:
    sides = prepared.sides
    counts = f"{len(sides.train)} images to train on, {len(sides.validation)} to validate, {len(sides.test)} held back"
    tied = f", {prepared.duplicates} pairs of one galaxy kept together" if recipe.data.duplicates else ""
    return f"{recipe.name}: {recipe.network} at {recipe.config.size} px; {counts}{tied}"


@contextmanager
def _watching() -> Iterator[Watch]:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("steps, {task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen.err) as bar:
        task = bar.add_task("training", total=None, said="")
        yield lambda at: bar.update(task, completed=at.step, total=at.steps, said=_said(at))


class _Lines:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, at: Step) -> None:
        now = time.monotonic()
        if now - self._last < screen.LOG_SECONDS and at.step < at.steps:
            return
        self._last = now
        left = screen.duration((at.steps - at.step) / at.steps_per_second)
        screen.note(f"step {at.step}/{at.steps}, {_said(at)}, {left} left")


def _said(at: Step) -> str:
    judged = f"; {at.note}" if at.note else ""
    return f"loss {at.loss:.3f}, {at.images_per_second:.0f} images/s{judged}"
