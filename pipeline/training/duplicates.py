"""The same galaxy under two ids: found by its picture, so that it cannot be trained on and tested on.

Each image is cut to the same number of radii, at several trial radii, since two collections measured it on frames of
different width; what is smooth is taken away, so that neighbours, arms and noise decide and not the profile that all
ellipticals share; and the rest is correlated.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.training.augment import framed
from pipeline.training.examples import Examples

# On gz_sdss the pairs that an eye confirms lie from 0.996 down to 0.90; from 0.89 on the values run together with
# those of galaxies that only look alike. To tie two strangers together does no harm.
ALIKE = 0.89
WIDE = 1.18  # of the network's frame: room for the neighbours on the sky
TRIALS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.26)  # of one radius over the other
SIDE = 40  # px a side
SMOOTH = 9  # px, the box of what counts as smooth
ROWS = 512  # at a time


def same_galaxies(examples: Examples, alike: float = ALIKE) -> list[tuple[int, int]]:
    """Pairs of rows, the first below the second, of two collections that show the same sky north up.

    Within one collection ids are trusted to tell galaxies apart.
    """
    images, frames = torch.from_numpy(examples.images), torch.from_numpy(examples.frames)
    names, sizes = np.unique(examples.collections, return_counts=True)
    found: set[tuple[int, int]] = set()
    for name in names[np.argsort(sizes)][:-1]:  # the largest is met as the other side
        here, there = np.flatnonzero(examples.collections == name), np.flatnonzero(examples.collections != name)
        plain = _details(images[there], frames[there])
        for trial in TRIALS:
            likeness = _details(images[here], frames[here] * trial) @ plain.T  # (here, there)
            for row, other in (likeness >= alike).nonzero().tolist():
                first, second = sorted((int(here[row]), int(there[other])))
                found.add((first, second))
    return sorted(found)


def _details(images: Tensor, frames: Tensor) -> Tensor:
    """(N, SIDE^2) unit vectors of mean 0: what of each picture is not smooth."""
    parts = []
    for start in range(0, len(images), ROWS):
        grey = framed(images[start : start + ROWS], WIDE * frames[start : start + ROWS], 2 * SIDE, "reflection")
        grey = F.avg_pool2d(grey.mean(1, keepdim=True), 2)
        fine = (grey - F.avg_pool2d(grey, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)).flatten(1)
        parts.append(F.normalize(fine - fine.mean(1, keepdim=True)))
    return torch.cat(parts)
