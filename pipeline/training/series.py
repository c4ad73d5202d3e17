"""A series of runs from one list: every network of the catalogue by one command, which goes on where it stood.

The list is YAML, one entry a run or a grid of runs:

    - recipe: agcnn.yaml                        beside the list
      set: [optimisation.epochs=60]             over the recipe
      from: agcnn_small                         begin with the checkpoint of this run of the series
      each: {config.normalisation: [softmax, range], config.aggregation: [mean, concat]}      one run a combination
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import JobError
from pipeline.plain_yaml import plain_yaml
from pipeline.training.fitting import CHECKPOINT
from pipeline.training.recipe import Recipe, read_recipe

KEYS = {"recipe", "set", "from", "each"}


@dataclass(frozen=True)
class Run:
    """One run of a series and its folder."""

    recipe: Recipe
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / CHECKPOINT).is_file()


def read_series(path: Path, output: Path, settings: Sequence[str] = ()) -> list[Run]:
    """The runs of a list in its order, each with a folder below `output`; `settings` go over all of them.

    Raises JobError where the list or a recipe is wrong, or two runs have one name.
    """
    try:
        entries = plain_yaml(path.read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"cannot read the list {path}: {error}") from error
    if not isinstance(entries, list):
        raise JobError(f"{path}: expected a list of runs, got {entries!r}")
    runs = [run for entry in entries for run in _runs(entry, path, output, settings)]
    names = [run.recipe.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise JobError(f"{path}: several runs are called {', '.join(twice)}")
    return runs


def _runs(entry: Any, path: Path, output: Path, settings: Sequence[str]) -> list[Run]:
    if not isinstance(entry, dict) or "recipe" not in entry or entry.keys() - KEYS:
        raise JobError(f"{path}: expected recipe and any of set, from, each, got {entry!r}")
    given = [*entry.get("set", ())]
    if "from" in entry:
        given.append(f"init_from={output / entry['from'] / CHECKPOINT}")
    axes = [[(key, value) for value in values] for key, values in entry.get("each", {}).items()]
    runs = []
    for corner in itertools.product(*axes):
        chosen = [f"{key}={value}" for key, value in corner]
        recipe = read_recipe(path.parent / entry["recipe"], [*given, *chosen, *settings])
        if corner:
            name = "_".join([recipe.name, *(str(value) for _, value in corner)])
            recipe = read_recipe(path.parent / entry["recipe"], [*given, *chosen, *settings, f"name={name}"])
        runs.append(Run(recipe, output / recipe.name))
    return runs
