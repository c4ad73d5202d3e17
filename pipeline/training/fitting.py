"""One training run from its recipe to its checkpoint: read, split, train, write."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.errors import CheckpointError, JobError
from pipeline.memory import keep_freed_memory
from pipeline.models.checkpoint import read_checkpoint, write_checkpoint
from pipeline.models.contract import Contract
from pipeline.training.duplicates import same_galaxies
from pipeline.training.examples import Examples, read_examples
from pipeline.training.judging import Scores
from pipeline.training.loop import Trainer, Watch
from pipeline.training.recipe import Recipe
from pipeline.training.split import Sides, split_groups

CHECKPOINT = "checkpoint.safetensors"
POSITIONS = "pool.position"  # of DMAGNet's attention pooling: the mean token's, then one a position


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recipe's examples and their sides."""

    examples: Examples
    sides: Sides
    duplicates: int  # pairs of rows that show the same galaxy


def prepare(recipe: Recipe, root: Path) -> Prepared:
    """The recipe's images, split as the recipe says; the same wherever it is called. Raises JobError."""
    examples = read_examples(recipe.data, root, recipe.config.bands, recipe.split.test_where)
    pairs = same_galaxies(examples) if recipe.data.duplicates else []
    return Prepared(examples, split_groups(examples, recipe.split, pairs), len(pairs))


def fit(recipe: Recipe, prepared: Prepared, output: Path, watch: Watch, device: str | None = None) -> Path:
    """Train in `output`, or go on there, and write the checkpoint: the averaged weights and their contract.

    Raises JobError where the device is absent or the folder holds another run, CheckpointError where `init_from`
    does not fit.
    """
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        raise JobError(f"device {device} was asked for, but torch {torch.__version__} sees no CUDA device")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cpu":
        keep_freed_memory()
    sides = prepared.sides
    train, validation = prepared.examples.take(sides.train), prepared.examples.take(sides.validation)
    trainer = Trainer(recipe, train, validation, output, place)
    if recipe.init_from is not None:
        drawn = trainer.module.state_dict()
        trainer.begin_with(first_weights(Path(recipe.init_from), drawn, recipe.init_fresh))
    scores = trainer.run(watch)
    contract = _contract(trainer, prepared, scores)
    path = output / CHECKPOINT
    path.write_bytes(write_checkpoint(contract, trainer.averaged.state_dict()))
    return path


def first_weights(path: Path, wanted: dict[str, Tensor], fresh: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The weights of a checkpoint for a network that differs in its input size at most, and in what is `fresh`.

    DMAGNet's positions are interpolated to the new grid; weights whose names begin as `fresh` says are those of
    `wanted`. Raises CheckpointError where anything else differs.
    """
    try:
        found = dict(read_checkpoint(path.read_bytes(), str(path)).weights)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    if POSITIONS in found and POSITIONS in wanted:
        found[POSITIONS] = resized_positions(found[POSITIONS], len(wanted[POSITIONS]) - 1)
    found = {key: value for key, value in found.items() if not key.startswith(fresh)}
    found |= {key: value for key, value in wanted.items() if key.startswith(fresh)}
    wrong = [key for key in wanted if key not in found or found[key].shape != wanted[key].shape]
    if wrong or found.keys() - wanted.keys():
        raise CheckpointError(f"{path} is of another network: it differs in {', '.join(wrong[:3])}")
    return found


def resized_positions(positions: Tensor, count: int) -> Tensor:
    """Positions (1 + h h, C), the first the mean token's, on another square grid: (1 + count, C), bicubically."""
    mean, grid = positions[:1], positions[1:]
    before, after = math.isqrt(len(grid)), math.isqrt(count)
    if before == after:
        return positions
    planes = grid.T.reshape(1, -1, before, before)
    planes = F.interpolate(planes, (after, after), mode="bicubic", align_corners=False)
    return torch.cat([mean, planes.flatten(2)[0].T])


def _contract(trainer: Trainer, prepared: Prepared, scores: Scores | None) -> Contract:
    recipe, sides = trainer.recipe, prepared.sides
    how = recipe.optimisation
    description = (
        f"{recipe.data.source or ', '.join(recipe.data.images)}: {len(sides.train)} images to train on, "
        f"{len(sides.validation)} to validate, {len(sides.test)} held back, by group; {how.epochs} epochs at "
        f"{recipe.config.size} px, batch {how.batch}, seed {recipe.seed}, class balance {how.balance}"
    )
    return Contract(
        network=recipe.network,
        config=recipe.config,
        classes=recipe.data.classes,
        image=recipe.image,
        training=description,
        metrics={} if scores is None else {f"validation_{key}": value for key, value in scores.values().items()},
        temperature=1.0,
        prior=trainer.prior if recipe.objective.adjust_logits else None,
        experimental=recipe.data.experimental,
        untrained=False,
    )
