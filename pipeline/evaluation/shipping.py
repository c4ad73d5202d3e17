"""A checkpoint as it ships: in half the bytes where no answer on a test image changes by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pipeline.evaluation.answers import answers
from pipeline.evaluation.evaluate import Material
from pipeline.models.checkpoint import Checkpoint, Contract, read_checkpoint, write_checkpoint


@dataclass(frozen=True)
class Stored:
    """How the weights lie in the file."""

    half: bool  # float16
    images: int  # of the test sets and of DECaLS, asked with the weights in float32 and in float16
    flips: int  # answers of another class


def stored(checkpoint: Checkpoint, given: Material, device: str = "cpu") -> tuple[Checkpoint, Stored]:
    """The checkpoint as float16 keeps it where no class flips, and as it is where one does."""
    small = read_checkpoint(as_bytes(checkpoint, half=True), "in float16")
    sets = [one.examples for one in (*given.test, *given.others) if not one.masks]
    padding = given.recipe.augmentation.padding
    flips = 0
    for examples in sets:
        whole, half = (
            answers(one, examples, device, padding).probabilities(one.temperature, one.prior).argmax(1)
            for one in (checkpoint, small)
        )
        flips += int((whole != half).sum())
    found = Stored(flips == 0, sum(map(len, sets)), flips)
    return (small if found.half else checkpoint), found


def as_bytes(checkpoint: Checkpoint, metrics: Mapping[str, float] | None = None, *, half: bool = False) -> bytes:
    """The file of a checkpoint, with more figures in its contract."""
    contract = Contract(**{part.name: getattr(checkpoint, part.name) for part in fields(Contract)})
    contract = replace(contract, metrics={**contract.metrics, **(metrics or {})})
    return write_checkpoint(contract, checkpoint.weights, checkpoint.novelty, half=half)


def write_finished(
    path: Path, checkpoint: Checkpoint, metrics: Mapping[str, float], *, half: bool = False
) -> Checkpoint:
    """Put a checkpoint and its measured figures in the place of the file at `path`, at once or not at all.

    Gives back what the file now holds.
    """
    data = as_bytes(checkpoint, metrics, half=half)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    return read_checkpoint(data, str(path))
