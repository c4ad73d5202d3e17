"""The same galaxy under two ids: found by its picture, so that it cannot be trained on and tested on.

Each image is cut to the same number of radii, at several trial radii, since two collections measured it on frames of
different width; what is smooth is taken away, so that neighbours, arms and noise decide and not the profile that all
ellipticals share; and the rest is correlated.
"""

from __future__ import annotations

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
    """Pairs of rows, the first below the second, that show the same sky north up, whatever their collections."""
    images, frames = torch.from_numpy(examples.images), torch.from_numpy(examples.frames)
    plain = _details(images, frames)
    pairs: set[tuple[int, int]] = set()
    for trial in TRIALS:
        scaled = plain if trial == 1.0 else _details(images, frames * trial)
        pairs |= _above(scaled, plain, alike)
    return sorted(pairs)


def _above(scaled: Tensor, plain: Tensor, alike: float) -> set[tuple[int, int]]:
    found = set()
    for start in range(0, len(scaled), ROWS):
        hits = (scaled[start : start + ROWS] @ plain.T >= alike).nonzero()
        found |= {(min(i + start, j), max(i + start, j)) for i, j in hits.tolist() if i + start != j}
    return found


def _details(images: Tensor, frames: Tensor) -> Tensor:
    """(N, SIDE^2) unit vectors of mean 0: what of each picture is not smooth."""
    parts = []
    for start in range(0, len(images), ROWS):
        grey = framed(images[start : start + ROWS], WIDE * frames[start : start + ROWS], 2 * SIDE, "reflection")
        grey = F.avg_pool2d(grey.mean(1, keepdim=True), 2)
        fine = (grey - F.avg_pool2d(grey, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)).flatten(1)
        parts.append(F.normalize(fine - fine.mean(1, keepdim=True)))
    return torch.cat(parts)
