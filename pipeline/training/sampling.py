"""Which images make an epoch: a function of the seed and the epoch alone, so that a resumed run draws the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.training.examples import Examples


def class_shares(labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float64]:
    """(K,) the part of the labels (N,) that each class has. Raises JobError where a class has none."""
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise JobError(f"nothing to train on for {', '.join(empty)}")
    return counts / counts.sum()


def drawn_shares(natural: NDArray[np.float64], balance: float) -> NDArray[np.float64]:
    """(K,) how often each class is drawn: its share to the power of 1 - balance, in all 1.

    A balance of 0 leaves the classes as they are, 1 draws all equally often.
    """
    raised = natural ** (1 - balance)
    return raised / raised.sum()


def row_weights(examples: Examples, collections: Mapping[str, float]) -> NDArray[np.float64]:
    """(N,) the chance of a row beside the others of its class."""
    return np.array([collections.get(str(name), 1.0) for name in examples.collections], np.float64)


def epoch_rows(
    labels: NDArray[np.int64], weights: NDArray[np.float64], shares: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.int64]:
    """(count,) row numbers in the order of training; the same for the same seed.

    Within a class a row comes as often as its weight asks, to within one: what is left over is drawn by lot.
    """
    draw = np.random.default_rng(seed)
    quotas = _rounded(shares * count, draw)
    parts = []
    for label, quota in enumerate(quotas):
        rows = np.flatnonzero(labels == label)
        chance = weights[rows]
        if quota and chance.sum() > 0:
            parts.append(np.repeat(rows, _rounded(quota * chance / chance.sum(), draw)))
    return draw.permutation(np.concatenate(parts))


def _rounded(wanted: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.int64]:
    """Whole numbers of the same sum as `wanted`, each off by less than one, the parts decided by lot without bias.

    Systematic sampling: marks one apart, from a random start, on the running sum of the parts.
    """
    order = draw.permutation(len(wanted))
    parts = wanted[order] - np.floor(wanted[order])
    edges = np.floor(np.cumsum(parts) + draw.random())
    extra = np.diff(edges, prepend=0.0).astype(np.int64)
    counts = np.floor(wanted).astype(np.int64)
    counts[order] += extra
    return counts
