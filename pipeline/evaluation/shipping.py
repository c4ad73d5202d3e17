"""A checkpoint as it ships: in half the bytes where no answer on a test image changes by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.answers import answers
from pipeline.evaluation.evaluate import Material
from pipeline.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from pipeline.models.contract import Contract
from pipeline.training.examples import Examples

HALVES = (0, 20_000)  # tensors of so many values or more go to float16: all, else the large ones, most of the file


@dataclass(frozen=True)
class Stored:
    """How the weights lie in the file."""

    half: int | None  # tensors of so many values or more are in float16; None: none is
    images: int  # of the test sets and of DECaLS, asked with the weights in float32 and in float16
    flips: int  # answers of another class where all weights are in float16


def stored(checkpoint: Checkpoint, given: Material, device: str = "cpu") -> tuple[Checkpoint, Stored]:
    """The checkpoint as float16 keeps it where no class flips, and as it is where one does."""
    sets = [one.examples for one in (*given.test, *given.others) if not one.masks]
    images = sum(map(len, sets))
    whole = _classes(checkpoint, sets, given, device)
    flips: list[int] = []
    largest = max(tensor.numel() for tensor in checkpoint.weights.values())
    for least in (least for least in HALVES if least <= largest):
        small = read_checkpoint(as_bytes(checkpoint, half=least), "in float16")
        flips.append(int((_classes(small, sets, given, device) != whole).sum()))
        if not flips[-1]:
            return small, Stored(least, images, flips[0])
    return checkpoint, Stored(None, images, flips[0])


def _classes(checkpoint: Checkpoint, sets: Sequence[Examples], given: Material, device: str) -> NDArray[np.int64]:
    """(N,) what a checkpoint calls the images of all sets."""
    padding = given.recipe.augmentation.padding
    found = [answers(checkpoint, examples, device, padding) for examples in sets]
    return np.concatenate([one.probabilities(checkpoint.temperature, checkpoint.prior).argmax(1) for one in found])


def as_bytes(checkpoint: Checkpoint, metrics: Mapping[str, float] | None = None, *, half: int | None = None) -> bytes:
    """The file of a checkpoint, with more figures in its contract."""
    contract = Contract(**{part.name: getattr(checkpoint, part.name) for part in fields(Contract)})
    contract = replace(contract, metrics={**contract.metrics, **(metrics or {})})
    return write_checkpoint(contract, checkpoint.weights, checkpoint.novelty, half=half)


def write_finished(
    path: Path, checkpoint: Checkpoint, metrics: Mapping[str, float], *, half: int | None = None
) -> Checkpoint:
    """Put a checkpoint and its measured figures in the place of the file at `path`, at once or not at all.

    Gives back what the file now holds.
    """
    data = as_bytes(checkpoint, metrics, half=half)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    return read_checkpoint(data, str(path))
