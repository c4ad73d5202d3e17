"""The baseline of 1992 on the images of a recipe: five indicators an image, and the small network that reads them.

`python -m pipeline.training.ann jobs/training/tang.yaml --data DATA --output trained/ann1992` measures the
indicators of every image of the recipe (a third of a second each, kept in the output so that it goes on where it
stopped), trains on the same side as the networks do, and writes the test side's answers and scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pipeline.arguments import errors_in_a_line
from pipeline.models.ann import ANN, INDICATORS, ANNConfig
from pipeline.training.augment import framed
from pipeline.training.examples import Examples
from pipeline.training.fitting import Prepared, prepare
from pipeline.training.indicators import indicators
from pipeline.training.judging import Scores, scores
from pipeline.training.recipe import Recipe, read_recipe
from pipeline.training.sampling import class_shares, drawn_shares

MEASURED = "indicators.parquet"
ANSWERS = "answers.parquet"
FIGURES = "scores.json"
AT_ONCE = 256  # images that are measured between two writes
STEPS, RATE, DECAY = 2000, 0.02, 1e-4  # of AdamW on the whole training side at once; ours

Measure = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def measured(examples: Examples, recipe: Recipe, folder: Path, measure: Measure = indicators) -> NDArray[np.float32]:
    """(N, 5) the indicators of framed images, as `measure` finds them; those in the folder are not measured again."""
    path = folder / MEASURED
    known: dict[str, list[float]] = {}
    if path.is_file():
        table = pq.read_table(path).to_pydict()
        known = {name: [table[key][i] for key in INDICATORS] for i, name in enumerate(table["id"])}
    folder.mkdir(parents=True, exist_ok=True)
    missing = np.flatnonzero([str(name) not in known for name in examples.ids])
    for start in range(0, len(missing), AT_ONCE):
        rows = missing[start : start + AT_ONCE]
        images, frames = torch.from_numpy(examples.images[rows]), torch.from_numpy(examples.frames[rows])
        planes = framed(images, frames, recipe.config.size, recipe.augmentation.padding)
        found = measure((planes * 255).round().byte().numpy())
        known |= {str(name): row for name, row in zip(examples.ids[rows], found.tolist(), strict=True)}
        columns = {key: [row[i] for row in known.values()] for i, key in enumerate(INDICATORS)}
        pq.write_table(pa.table({"id": list(known), **columns}), path)
    return np.array([known[str(name)] for name in examples.ids], np.float32)


def fit_ann(values: Tensor, labels: Tensor, classes: Sequence[str], balance: float, seed: int) -> ANN:
    """The ANN on indicators (N, 5) with labels (N,), each class weighing what a balanced draw would give it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ANNConfig(classes=len(classes)).build()
    module.fit_scale(values)
    natural = class_shares(labels.numpy(), classes)
    weights = torch.from_numpy(drawn_shares(natural, balance) / natural).float()
    optimiser = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        loss = F.cross_entropy(module(values), labels, weight=weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return module.eval()


def train_ann(recipe: Recipe, prepared: Prepared, folder: Path, measure: Measure = indicators) -> Scores:
    """Measure, train and answer; the scores on the test side, which with the answers are written to the folder."""
    examples, sides = prepared.examples, prepared.sides
    values = torch.from_numpy(measured(examples, recipe, folder, measure))
    labels = torch.from_numpy(examples.labels)
    classes, train, test = recipe.data.classes, torch.from_numpy(sides.train), torch.from_numpy(sides.test)
    module = fit_ann(values[train], labels[train], classes, recipe.optimisation.balance, recipe.seed)
    with torch.inference_mode():
        logits = module(values[test]).numpy()
    held = examples.take(sides.test)
    said = {name: logits[:, i] for i, name in enumerate(classes)}
    pq.write_table(
        pa.table({"id": held.ids, "label": held.labels, "collection": held.collections, **said}), folder / ANSWERS
    )
    got = scores(logits, held.labels)
    (folder / FIGURES).write_text(json.dumps({"images": len(held), **got.values()}, indent=2) + "\n")
    return got


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the ANN of 1992 on the images of a recipe and write its answers on the side that is held back."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.training.ann", description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--output", type=Path, default=Path("trained/ann1992"))
    given = parser.parse_args(arguments)
    with errors_in_a_line(parser):
        recipe = read_recipe(given.recipe)
        train_ann(recipe, prepare(recipe, given.data), given.output)


if __name__ == "__main__":
    main()
