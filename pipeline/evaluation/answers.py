"""What a checkpoint says of labelled images: logits, features and novelty, framed as in training."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from pipeline.evaluation.intervals import Floats
from pipeline.models.calibration import probabilities
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.novelty import Seen
from pipeline.models.prior import Prior
from pipeline.training.augment import augmented, framed
from pipeline.training.examples import Examples
from pipeline.training.recipe import Augmentation, Padding

BATCH = 32


@dataclass(frozen=True, eq=False)
class Answers:
    """Of N images."""

    logits: NDArray[np.float32]  # (N, K)
    features: NDArray[np.float32]  # (N, D)
    early: NDArray[np.float32]  # (N, E)
    novelty: Floats  # (N,) NaN where the checkpoint cannot tell
    images_per_second: float

    def probabilities(self, temperature: float, prior: Prior | None) -> Floats:
        """(N, K) as inference makes them."""
        shift = None if prior is None else torch.tensor(prior.shift)
        return probabilities(torch.from_numpy(self.logits), temperature, shift).double().numpy()

    @property
    def seen(self) -> Seen:
        """What novelty is fitted to."""
        return Seen(*(torch.from_numpy(part) for part in (self.logits, self.features, self.early)))


def answers(
    checkpoint: Checkpoint,
    examples: Examples,
    device: str = "cpu",
    padding: Padding = "reflection",
    changed: Augmentation | None = None,
) -> Answers:
    """Ask a checkpoint, in float32, about every example, each changed as training does where `changed` says how.

    Raises ValueError where the channels differ.
    """
    if examples.images.shape[1] != checkpoint.config.bands:
        raise ValueError(f"expected images of {checkpoint.config.bands} channels, got {examples.images.shape[1]}")
    module = checkpoint.build().to(device)
    novelty = None if checkpoint.novelty is None else checkpoint.novelty.to(torch.device(device))
    found: list[tuple[Tensor, ...]] = []
    draw = Generator().manual_seed(0)
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            rows, size = slice(start, start + BATCH), checkpoint.config.size
            shown = (
                planes(examples, rows, size, padding)
                if changed is None
                else _changed(examples, rows, size, changed, draw)
            )
            result = module(shown.to(device))
            said = Seen(logits=result.logits, features=result.features, early=result.early)
            strange = said.logits.new_full((len(said.logits),), torch.nan) if novelty is None else novelty.score(said)
            found.append((*(part.float().cpu() for part in said), strange.double().cpu()))
    seconds = time.perf_counter() - started
    parts = [torch.cat(part) for part in zip(*found, strict=True)] if found else _none(checkpoint)
    logits, features, early, novel = (part.numpy() for part in parts)
    return Answers(logits, features, early, novel, len(examples) / seconds)


def planes(examples: Examples, rows: slice, size: int, padding: Padding = "reflection") -> Tensor:
    """(B, C, size, size) float32 in [0, 1]: the framed images of these rows."""
    images, frames = torch.from_numpy(examples.images[rows]), torch.from_numpy(examples.frames[rows])
    return framed(images, frames, size, padding)


def _changed(examples: Examples, rows: slice, size: int, how: Augmentation, draw: Generator) -> Tensor:
    """As `planes`, as training sees them."""
    images, frames = torch.from_numpy(examples.images[rows]), torch.from_numpy(examples.frames[rows])
    return augmented(images, frames, size, how, draw)


def _none(checkpoint: Checkpoint) -> list[Tensor]:
    config = checkpoint.config
    widths = (config.classes, config.features, config.early)
    return [*(torch.empty(0, width) for width in widths), torch.empty(0, dtype=torch.float64)]
