"""Did a network learn the collection instead of the galaxy? A probe that tries to tell collections from its features.

Where all images of a collection are of one class, a frame, a scale or a JPEG quality can stand in for the class. The
probe sees features of one class alone: what tells collections apart there is no morphology, or a difference of
how they were selected. An area of 0.5 is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pipeline.evaluation.intervals import Estimate, auroc

LEAST = 30  # images of a collection to fit on, and 10 to test on
LEAST_TESTED = 10
DECAY = 1e-2  # of the mean squared weight, on standardised features
STEPS = 200


@dataclass(frozen=True)
class Leak:
    """One class of which two collections have images."""

    name: str  # of the class
    collections: tuple[str, str]
    fitted: tuple[int, int]  # images
    tested: tuple[int, int]
    auroc: Estimate


@dataclass(frozen=True, eq=False)
class Side:
    """Features (N, D), labels (N,) and collections (N,) of one side of a split."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    collections: NDArray[np.str_]

    def of(self, label: int, collection: str) -> NDArray[np.float32]:
        return self.features[(self.labels == label) & (self.collections == collection)]


def leaks(fit: Side, test: Side, classes: tuple[str, ...]) -> list[Leak]:
    """The probe's area on the test side, for each class and pair of collections with enough images."""
    found = []
    names = [str(name) for name in np.unique(fit.collections)]
    pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
    for label, name in enumerate(classes):
        for pair in pairs:
            learned = [fit.of(label, collection) for collection in pair]
            asked = [test.of(label, collection) for collection in pair]
            if min(map(len, learned)) >= LEAST and min(map(len, asked)) >= LEAST_TESTED:
                first, second = probe(learned[0], learned[1], asked)
                counts = (len(learned[0]), len(learned[1])), (len(asked[0]), len(asked[1]))
                found.append(Leak(name, pair, *counts, auroc(second, first)))
    return found


def probe(
    first: NDArray[np.float32], second: NDArray[np.float32], asked: list[NDArray[np.float32]]
) -> list[NDArray[np.float64]]:
    """Scores (n,) of each group of features (n, D), higher where they look like `second`'s.

    Logistic regression with a ridge, both groups counting alike, by L-BFGS.
    """
    learned = torch.from_numpy(np.concatenate([first, second])).double()
    truth = torch.cat([torch.zeros(len(first)), torch.ones(len(second))]).double()
    middle, spread = learned.mean(0), learned.std(0).clamp_min(1e-6)
    weight = torch.where(truth > 0, len(truth) / (2 * len(second)), len(truth) / (2 * len(first)))
    slope = _fitted((learned - middle) / spread, truth, weight)
    return [_scored(torch.from_numpy(features).double(), middle, spread, slope) for features in asked]


def _fitted(features: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """(D + 1,) slopes and the offset."""
    slope = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = features @ slope[:-1] + slope[-1]
        value = F.binary_cross_entropy_with_logits(logits, truth, weight) + DECAY * (slope[:-1] ** 2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return slope.detach()


def _scored(features: Tensor, middle: Tensor, spread: Tensor, slope: Tensor) -> NDArray[np.float64]:
    return ((features - middle) / spread @ slope[:-1] + slope[-1]).numpy()
