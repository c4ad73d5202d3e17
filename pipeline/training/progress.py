"""The state of a run on disk: all that a step depends on, so that a killed run goes on as if it had not been killed.

Random numbers need no state: each step draws from a generator seeded by the recipe's seed and the step's number.
safetensors with a JSON header, as checkpoints are; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import JobError

STATE = "state/state.safetensors"


@dataclass(frozen=True, eq=False)
class Saved:
    """What a run has after `step` steps. Tensors by `weights.`, `averaged.` and `optimiser.` and their own name."""

    step: int
    recipe: str  # digest: another recipe's state is refused
    tensors: Mapping[str, Tensor]


def digest(recipe: Any) -> str:
    """A hash of a recipe as plain values."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def save_state(folder: Path, saved: Saved) -> None:
    """Write the state over the last one, at once or not at all."""
    target = folder / STATE
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = {key: value.detach().contiguous() for key, value in saved.tensors.items()}
    part = target.with_suffix(".part")
    save_file(whole, part, {"step": str(saved.step), "recipe": saved.recipe})
    part.replace(target)


def load_state(folder: Path, recipe: str) -> Saved | None:
    """The state in the folder, None where there is none.

    Raises JobError where it is damaged or of another recipe.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise JobError(f"{path} is damaged: {error}") from error
    if header.get("recipe") != recipe:
        raise JobError(f"{folder} holds a run of another recipe: choose another output folder")
    return Saved(int(header["step"]), recipe, tensors)


def parted(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors whose name begins with `part.`, without it."""
    return {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}


def prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{key}": value for key, value in tensors.items()}
