"""The verb that trains: it needs torch, numpy, pyarrow, pillow and yaml, and neither ray nor astropy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.training.fitting import Prepared
    from pipeline.training.loop import Step
    from pipeline.training.recipe import Recipe


def train(
    recipe: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A recipe; jobs/training has one a network.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the run; trained/NAME if not given.")] = None,
    data: Annotated[Path, typer.Option(help="Folder below which the recipe names its images.")] = Path(),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")] = None,
    seed: Annotated[int | None, typer.Option(help="Over the recipe's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one.")] = None,
) -> None:
    """Train one network; the same command goes on where a stopped one stood."""
    with screen.answers():
        from pipeline.training.fitting import fit, prepare
        from pipeline.training.recipe import read_recipe

        given = [*(settings or []), *([] if seed is None else [f"seed={seed}"])]
        chosen = read_recipe(recipe, given)
        folder = output or Path("trained") / chosen.name
        prepared = prepare(chosen, data)
        screen.note(_beginning(chosen, prepared))
        path = fit(chosen, prepared, folder, _Lines(), device)
        screen.facts(chosen.name, {"checkpoint": path, "metrics": folder / "metrics.jsonl"})


def _beginning(recipe: Recipe, prepared: Prepared) -> str:
    sides = prepared.sides
    counts = f"{len(sides.train)} images to train on, {len(sides.validation)} to validate, {len(sides.test)} held back"
    tied = f", {prepared.duplicates} pairs of one galaxy kept together" if recipe.data.duplicates else ""
    return f"{recipe.name}: {recipe.network} at {recipe.config.size} px; {counts}{tied}"


class _Lines:
    """A line every ten seconds."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, at: Step) -> None:
        now = time.monotonic()
        if now - self._last < screen.LOG_SECONDS and at.step < at.steps:
            return
        self._last = now
        left = screen.duration((at.steps - at.step) / at.steps_per_second) if at.steps_per_second else "?"
        screen.note(
            f"step {at.step}/{at.steps}, loss {at.loss:.3f}, {at.images_per_second:.1f} images/s, {left} left"
            f"{'; ' + at.note if at.note else ''}"
        )
