"""The verbs that say how good a checkpoint is: evaluate, card. They need the extra `train` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import screen, tables
from pipeline.errors import JobError

if TYPE_CHECKING:
    from pipeline.evaluation.evaluate import Evaluation, Material
    from pipeline.evaluation.focus import FocusRow
    from pipeline.models.checkpoint import Checkpoint


def evaluate(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="safetensors files.")],
    recipe: Annotated[Path, typer.Option(help="The recipe that trained them: its images, its split.")],
    data: Annotated[Path, typer.Option(help="Folder below which the recipe names its images.")] = Path(),
    output: Annotated[Path, typer.Option(help="Folder for JSON and PNG.")] = Path("evaluation"),
    stamps: Annotated[Path | None, typer.Option(help="Drawn galaxies: python -m pipeline.mock.stamps FILE.")] = None,
    artefacts: Annotated[
        Path | None, typer.Option(help="What is no galaxy: python -m pipeline.mock.artefacts FILE.")
    ] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Measure where they look; needs --stamps.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put temperature, prior, novelty and figures into the checkpoints.")
    ] = False,
    ship: Annotated[
        Path | None, typer.Option(help="Folder for the finished checkpoints, in float16 where no answer changes.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Compare with these answers too: Parquet of `id` and a logit a class."),
    ] = None,
    subset: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Judge these test images by themselves as well.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe.")] = None,
) -> None:
    """Judge checkpoints on what their recipe held back, on DECaLS and on drawn galaxies; compare several."""
    with screen.answers():
        from pipeline.evaluation.evaluate import material
        from pipeline.training.recipe import read_recipe

        if attention and stamps is None:
            raise JobError("--attention is measured on galaxies out of the centre: say where they are with --stamps")
        named = _named(checkpoints)
        given = material(read_recipe(recipe, settings or ()), data, stamps, artefacts, subset or ())
        targets = {name: _target(path, name, write, ship) for name, path in named.items()}
        evaluations = {
            name: _evaluated(path, targets[name], given, output / name, device) for name, path in named.items()
        }
        if len(evaluations) > 1 or beside:
            _compare(evaluations, beside or (), given, output)
        if attention:
            _attend({name: one.checkpoint for name, one in evaluations.items()}, given, output, device)
        screen.note(f"written to {output}")


def card(
    evaluation: Annotated[Path, typer.Argument(help="evaluation.json of `pipeline evaluate`.")],
    output: Annotated[Path | None, typer.Option(help="Markdown file; the screen if not given.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="A sentence below the targets: why one falls short.")] = None,
) -> None:
    """Write the model card of an evaluated checkpoint: every figure in it is one of the evaluation's."""
    with screen.answers():
        from pipeline.evaluation.card import card as written

        try:
            said = json.loads(evaluation.read_text())
            beside = evaluation.parent.parent / "attention.json"
            text = written(said, json.loads(beside.read_text()) if beside.is_file() else (), note or ())
        except (ValueError, KeyError, TypeError) as error:
            wrong = f"{type(error).__name__} {error}"
            raise JobError(f"{evaluation} is no evaluation of this version: {wrong}") from error
        if output is None:
            screen.out.out(text, end="")
        else:
            output.write_text(text)


def _target(path: Path, name: str, write: bool, ship: Path | None) -> Path | None:
    """Where the finished checkpoint goes, None for nowhere."""
    if ship is None:
        return path if write else None
    ship.mkdir(parents=True, exist_ok=True)
    return ship / f"{name}.safetensors"


def _evaluated(path: Path, target: Path | None, given: Material, output: Path, device: str) -> Evaluation:
    from pipeline.evaluation.evaluate import evaluate, finished
    from pipeline.evaluation.shipping import stored, write_finished
    from pipeline.evaluation.writing import figures, write_evaluation
    from pipeline.models.checkpoint import read_checkpoint

    checkpoint, how = read_checkpoint(path.read_bytes(), str(path)), None
    if target is not None or not checkpoint.calibrated_on:
        checkpoint = finished(checkpoint, given, device)
    if target not in (None, path):
        checkpoint, how = stored(checkpoint, given, device)
    found = evaluate(checkpoint, given, device)
    if target is not None:
        half = None if how is None else how.half
        found = replace(found, checkpoint=write_finished(target, checkpoint, figures(found, given), half=half))
    said = write_evaluation(output, found, given, device, how)
    tables.evaluation(said)
    return found


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each file by its own name, or by its folder's where files are called alike or as training calls them.

    Raises JobError where two would have one name.
    """
    stems = [path.stem for path in paths]
    named: dict[str, Path] = {}
    for path in paths:
        alike = path.stem == "checkpoint" or stems.count(path.stem) > 1
        name = path.resolve().parent.name if alike else path.stem
        if name in named:
            raise JobError(f"{named[name]} and {path} would both be called {name}: rename one")
        named[name] = path
    return named


def _compare(evaluations: Mapping[str, Evaluation], beside: Sequence[str], given: Material, output: Path) -> None:
    from pipeline.evaluation.comparison import compared, outsider, over_seeds, participant
    from pipeline.evaluation.writing import write_comparison

    taking_part = {name: participant(one) for name, one in evaluations.items()}
    for text in beside:
        name, _, file = text.partition("=")
        taking_part[name] = outsider(Path(file), given)
    rows = compared(taking_part, given)
    write_comparison(output, rows)
    for name in dict.fromkeys(row.set for row in rows):
        screen.out.print()
        tables.comparison(name, [row for row in rows if row.set == name])
    for group in over_seeds(rows):
        shown = {
            f"{part}, {name}": getattr(group, part)[name] for part in ("headline", "own") for name in ("accuracy", "f1")
        }
        means = ", ".join(f"{name} {mean:.4f} ± {deviation:.4f}" for name, (mean, deviation) in shown.items())
        screen.note(f"{group.set}: {group.name}, {group.runs} seeds: {means}")


def _attend(checkpoints: Mapping[str, Checkpoint], given: Material, output: Path, device: str) -> None:
    from pipeline.evaluation.focus import controls, focus_row, scene
    from pipeline.evaluation.record import plain

    drawn = next(one for one in given.others if one.masks)
    real = given.test[0].examples
    rows: list[FocusRow] = []
    for name, checkpoint in checkpoints.items():
        seen = scene(drawn, real, checkpoint.config.size)
        rows += controls(seen) if not rows else []
        rows.append(focus_row(name, checkpoint, seen, device))
    (output / "attention.json").write_text(json.dumps(plain(rows), indent=1, allow_nan=False) + "\n")
    screen.out.print()
    columns = (
        *("hit", "gain", "over_centre", "over_brightest", "margin", "rotation"),
        *("control_hit", "control_gain", "control_margin", "likeness"),
    )
    screen.grid(
        ("attention", *(name.replace("_", " ") for name in columns)),
        [(row.name, *(tables.figure(getattr(row, name)) for name in columns)) for row in rows],
    )
