"""The verbs that say how good a checkpoint is: evaluate, card. They need the extra `train` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.evaluation.comparison import Compared
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
        from pipeline.errors import JobError
        from pipeline.evaluation.evaluate import material
        from pipeline.training.recipe import read_recipe

        if attention and stamps is None:
            raise JobError("--attention is measured on galaxies out of the centre: say where they are with --stamps")
        given = material(read_recipe(recipe, settings or ()), data, stamps, artefacts, subset or ())
        named = _named(checkpoints)
        evaluations = {name: _evaluated(path, name, given, output, device, write) for name, path in named.items()}
        if len(evaluations) > 1 or beside:
            _compare(evaluations, beside or (), given, output)
        if attention:
            _attend({name: one.checkpoint for name, one in evaluations.items()}, given, output, device)
        screen.note(f"written to {output}")


def card(
    evaluation: Annotated[Path, typer.Argument(help="evaluation.json of `pipeline evaluate`.")],
    output: Annotated[Path | None, typer.Option(help="Markdown file; the screen if not given.")] = None,
) -> None:
    """Write the model card of an evaluated checkpoint: every figure in it is one of the evaluation's."""
    with screen.answers():
        from pipeline.errors import JobError
        from pipeline.evaluation.card import card as written

        try:
            said = json.loads(evaluation.read_text())
            beside = evaluation.parent.parent / "attention.json"
            text = written(said, json.loads(beside.read_text()) if beside.is_file() else ())
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(f"{evaluation} is no evaluation: {type(error).__name__} {error}") from error
        if output is None:
            screen.out.out(text, end="")
        else:
            output.write_text(text)


def _evaluated(path: Path, name: str, given: Material, output: Path, device: str, write: bool) -> Evaluation:
    from pipeline.evaluation.evaluate import evaluate, finished
    from pipeline.evaluation.writing import figures, write_evaluation, write_finished
    from pipeline.models.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path.read_bytes(), str(path))
    if write or not checkpoint.calibrated_on:
        checkpoint = finished(checkpoint, given, device)
    found = evaluate(checkpoint, given, device)
    if write:
        write_finished(path, checkpoint, figures(found, given))
    said = write_evaluation(output / name, found, given, name, device)
    _show(said)
    return found


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each file by its own name, or by its folder's where files are called alike."""
    alike = len({path.stem for path in paths}) < len(paths) or paths[0].stem == "checkpoint"
    return {path.resolve().parent.name if alike else path.stem: path for path in paths}


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
        _show_comparison(name, [row for row in rows if row.set == name])
    for group in over_seeds(rows):
        shown = {
            f"{part}, {name}": getattr(group, part)[name] for part in ("headline", "own") for name in ("accuracy", "f1")
        }
        means = ", ".join(f"{name} {mean:.4f} ± {deviation:.4f}" for name, (mean, deviation) in shown.items())
        screen.note(f"{group.set}: {group.name}, {group.runs} seeds: {means}")


def _show_comparison(name: str, rows: Sequence[Compared]) -> None:
    less = f"{rows[0].name} less this one"
    screen.grid(
        (name, "images", "accuracy", "macro F1", less, "own classes: accuracy", "macro F1", less, "ECE", "images/s"),
        [
            (
                row.name,
                row.images,
                _figure(row.headline["accuracy"]),
                _figure(row.headline["f1"]),
                "" if row.headline_less is None else _figure(row.headline_less["f1"], sign=True),
                _figure(row.own["accuracy"]),
                _figure(row.own["f1"]),
                "" if row.own_less is None else _figure(row.own_less["f1"], sign=True),
                _figure(row.ece),
                None if row.images_per_second != row.images_per_second else round(row.images_per_second, 1),
            )
            for row in rows
        ],
    )


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
        [(row.name, *(_figure(getattr(row, name)) for name in columns)) for row in rows],
    )


def _figure(estimate: Any, *, sign: bool = False) -> str:
    """A figure with its interval; a dictionary of JSON or an Estimate."""
    if estimate is None:
        return ""
    value, low, high = (
        estimate[end] if isinstance(estimate, Mapping) else getattr(estimate, end) for end in ("value", "low", "high")
    )
    if value is None or value != value:
        return "-"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if sign else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _show(said: Mapping[str, Any]) -> None:
    """The tables of one checkpoint."""
    facts = said["checkpoint"]
    screen.facts(
        said["name"],
        {
            "network": f"{facts['network']}, {facts['parameters']:,} parameters, {facts['size']} px",
            "temperature": f"{facts['temperature']:.3f}, fitted on {facts['calibrated_on'] or 'nothing'}",
        },
    )
    screen.grid(
        ("set", "classes", "images", "accuracy", "macro precision", "macro recall", "macro F1"),
        [
            (
                one["name"],
                len(part["classes"]),
                part["images"],
                _figure(part["accuracy"]),
                *(_figure(part["measures"][name]) for name in ("precision", "recall", "f1")),
            )
            for one in said["sets"]
            for part in _parts(one)
        ],
    )
    screen.out.print()
    screen.grid(
        ("set", "ECE before", "ECE after", "Brier", "log loss", "images/s"),
        [
            (
                one["name"],
                _figure(one["before"]["ece"]),
                *(_figure(one["after"][name]) for name in ("ece", "brier", "nll")),
                round(one["images_per_second"], 1),
            )
            for one in said["sets"]
        ],
    )
    _show_classes(said)
    _show_more(said)


def _parts(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The headline's scores and the network's own, once where they are the same."""
    parts = [one["headline"], one["own"]]
    return parts if parts[0]["classes"] != parts[1]["classes"] else parts[:1]


def _show_classes(said: Mapping[str, Any]) -> None:
    """Recall by class on every set: the bias of seeing and depth shows in the drawn ones."""
    sets = said["sets"]
    names = [one["name"] for one in sets[0]["own"]["by_class"]]
    screen.out.print()
    rows = [
        (
            name,
            *(
                f"{_figure(one['own']['by_class'][k]['recall'])} of {one['own']['by_class'][k]['images']}"
                for one in sets
            ),
        )
        for k, name in enumerate(names)
    ]
    screen.grid(("recall", *(one["name"] for one in sets)), rows)


def _show_more(said: Mapping[str, Any]) -> None:
    """Roundness, the frame, the leak of the collection, what is no galaxy."""
    screen.out.print()
    for one in said["sets"]:
        if one["roundness"]:
            found = one["roundness"]
            error, right = _figure(found["error_of_wrong"]), _figure(found["right"])
            screen.note(
                f"roundness, {one['name']}: right {right}; wrong ones miss their range of axis ratio by {error}"
            )
    screen.grid(
        ("bright radius and half-light radius over the frame, medians", "images", "bright", "half-light"),
        [
            (row["set"], row["images"], f"{row['bright_radius']:.3f}", _figure_or_dash(row["half_light"]))
            for row in said["fields"]
            if row["name"] == "all"
        ],
    )
    for row in said["leaks"]:
        first, second = row["collections"]
        screen.note(f"collection from features, {row['name']}, {first} or {second}: area {_figure(row['auroc'])}")
    if said["separations"]:
        screen.out.print()
        screen.grid(
            ("no galaxy", "images", "against", "images", "area, novelty", "area, doubt"),
            [
                (
                    row["kind"],
                    row["images"][0],
                    row["galaxies"],
                    row["images"][1],
                    _figure(row["novelty"]),
                    _figure(row["doubt"]),
                )
                for row in said["separations"]
            ],
        )


def _figure_or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
