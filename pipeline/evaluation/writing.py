"""Evaluations on disk: a folder of JSON and PNG a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation import plots
from pipeline.evaluation.answers import planes
from pipeline.evaluation.comparison import Compared, over_seeds
from pipeline.evaluation.evaluate import Evaluation, Material
from pipeline.evaluation.judgement import Judgement
from pipeline.evaluation.record import plain, record
from pipeline.evaluation.shipping import Stored

RESULT = "evaluation.json"
WORST = 24  # errors of a contact sheet
SHEET_SIDE = 128  # px of its images


def write_evaluation(
    folder: Path, evaluation: Evaluation, given: Material, device: str, stored: Stored | None = None
) -> dict[str, Any]:
    """JSON and PNG into `folder`, which is made and names the checkpoint; gives back what the JSON says."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name
    said = record(evaluation, given, name, device) | {"stored": plain(stored)}
    (folder / RESULT).write_text(json.dumps(said, indent=1, allow_nan=False) + "\n")
    real = {one.name: one for one in evaluation.judgements if not one.name.startswith("drawn")}
    for number, (label, judgement) in enumerate(real.items()):
        ending = "" if number == 0 else f"_{label}"
        _draw(folder, evaluation, given, judgement, f"{name}, {label}", ending)
    plots.draw_risk(folder / "risk_coverage.png", real, f"{name}: errors among the answers that are kept")
    if evaluation.separations:
        plots.draw_separations(folder / "novelty.png", evaluation.separations, f"{name}: what is no galaxy")
    return said


def write_comparison(folder: Path, rows: Sequence[Compared]) -> None:
    """The comparison table as JSON, and a figure a set of images."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"rows": plain(list(rows)), "seeds": plain(over_seeds(rows))}
    (folder / "comparison.json").write_text(json.dumps(said, indent=1, allow_nan=False) + "\n")
    for name in dict.fromkeys(row.set for row in rows):
        mine = [row for row in rows if row.set == name]
        file = "comparison_" + "".join(c if c.isalnum() else "_" for c in name)
        plots.draw_comparison(folder / f"{file}.png", mine, name)


def figures(evaluation: Evaluation, given: Material) -> dict[str, float]:
    """The figures that a checkpoint carries in its contract."""
    found = {}
    for one in evaluation.judgements:
        if one.name.startswith("drawn"):
            continue
        key = f"test_{one.name}" if one.name in {known.name for known in given.test} else one.name
        found[f"{key}_images"] = float(one.own.images)
        if one.headline.classes != one.own.classes:
            found[f"{key}_accuracy_{len(one.headline.classes)}"] = one.headline.accuracy.value
            found[f"{key}_macro_f1_{len(one.headline.classes)}"] = one.headline.measures["f1"].value
        found[f"{key}_accuracy_{len(one.own.classes)}"] = one.own.accuracy.value
        found[f"{key}_macro_f1_{len(one.own.classes)}"] = one.own.measures["f1"].value
        found[f"{key}_ece"] = one.after.ece.value
    return found


def _draw(folder: Path, evaluation: Evaluation, given: Material, judgement: Judgement, title: str, ending: str) -> None:
    plots.draw_confusion(folder / f"confusion{ending}.png", judgement.own, title)
    if judgement.headline.classes != judgement.own.classes:
        count = len(judgement.headline.classes)
        plots.draw_confusion(folder / f"confusion_{count}{ending}.png", judgement.headline, title)
    plots.draw_reliability(folder / f"reliability{ending}.png", judgement, title)
    images, captions = worst_errors(evaluation, given, judgement.name)
    if len(images):
        heading = f"{title}: wrong answers, those first that gave the true class least"
        plots.draw_sheet(folder / f"worst{ending}.png", images, captions, heading)


def worst_errors(
    evaluation: Evaluation, given: Material, name: str
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], list[str]]:
    """The wrong answers that gave the true class least, as the network saw them, each with what it is and was said."""
    examples = next(one for one in (*given.test, *given.others) if one.name == name).examples
    probabilities, labels = evaluation.said[name].calibrated, examples.labels
    answers = probabilities.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    rows = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:WORST]
    names = [plots.word(one) for one in evaluation.checkpoint.classes]
    captions = [f"{names[labels[row]]} → {names[answers[row]]}, {probabilities[row, answers[row]]:.2f}" for row in rows]
    shown = planes(examples.take(rows), slice(None), SHEET_SIDE) if len(rows) else None
    images = np.zeros((0, 1, 1, 1), np.uint8) if shown is None else (shown * 255).round().byte().numpy()
    return images, captions
