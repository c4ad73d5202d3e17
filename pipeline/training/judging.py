"""How good the weights are on images that they were not fitted to: quick numbers while a run goes on.

`pipeline evaluate` says it thoroughly; here it is enough to see whether training works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.training.augment import framed
from pipeline.training.examples import Examples
from pipeline.training.recipe import Recipe

BATCH = 64


@dataclass(frozen=True, eq=False)
class Scores:
    """Of N images: the mean cross entropy, the part that is right, and macro means over the classes that occur."""

    loss: float
    accuracy: float
    macro_recall: float
    macro_f1: float
    recalls: NDArray[np.float64]  # (K,) NaN where a class has no image

    def values(self) -> dict[str, float]:
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            **{f"recall_{i}": float(value) for i, value in enumerate(self.recalls) if np.isfinite(value)},
        }

    def line(self) -> str:
        return f"validation loss {self.loss:.3f}, accuracy {self.accuracy:.3f}, macro F1 {self.macro_f1:.3f}"


def judge(
    module: nn.Module, examples: Examples, recipe: Recipe, device: torch.device, shift: Sequence[float] | None
) -> Scores:
    """The scores of a module in eval mode on examples that are only framed; `shift` (K,) is Prior.shift."""
    logits = predict(module, examples, recipe, device)
    return scores(logits if shift is None else logits + np.asarray(shift, np.float32), examples.labels)


def predict(module: nn.Module, examples: Examples, recipe: Recipe, device: torch.device) -> NDArray[np.float32]:
    """The logits (N, K) of a module in eval mode."""
    how = recipe.optimisation
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    parts: list[Tensor] = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16"):
        for start in range(0, len(examples), BATCH):
            images = torch.from_numpy(examples.images[start : start + BATCH]).to(device)
            frames = torch.from_numpy(examples.frames[start : start + BATCH]).to(device)
            planes = framed(images, frames, recipe.config.size, recipe.augmentation.padding)
            parts.append(module(planes.to(memory_format=layout)).logits.float().cpu())
    return torch.cat(parts).numpy()


def scores(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores:
    """The scores of logits (N, K) for labels (N,)."""
    classes = logits.shape[1]
    said = logits.argmax(1)
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, said), 1)
    right, true, called = table.diagonal(), table.sum(1), table.sum(0)
    occur = true > 0
    recalls = np.where(occur, right / np.maximum(true, 1), np.nan)
    f1 = 2 * right[occur] / (true + called)[occur]
    loss = float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    return Scores(loss, float(right.sum() / len(labels)), float(np.nanmean(recalls)), float(f1.mean()), recalls)
