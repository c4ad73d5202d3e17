"""Does attention turn and mirror with the sky? A galaxy has no up: its map should follow it around.

Correlations of maps (N, h, w), pixel by pixel, from -1 to 1 and NaN where a map is flat. They say nothing of
place: a map of the image's centre, whatever the image, is perfectly consistent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.attention import distribution

Attend = Callable[[Tensor], Tensor]  # images (N, C, S, S) to maps (N, h, w)

QUARTER_TURNS = (1, 2, 3)


def rotation_consistency(attend: Attend, images: Tensor) -> Tensor:
    """(N,) float64: the correlation of R a(x) with a(R x), its mean over the three quarter turns R.

    The measure is reference/networks.md sec. 6's. Raises ValueError where maps are not square.
    """
    maps = attend(images)
    if maps.shape[1] != maps.shape[2]:
        raise ValueError(f"expected square maps, got {tuple(maps.shape[1:])}")
    found = [
        correlation(torch.rot90(maps, turns, (1, 2)), attend(torch.rot90(images, turns, (2, 3))))
        for turns in QUARTER_TURNS
    ]
    return torch.stack(found).mean(0)


def flip_consistency(attend: Attend, images: Tensor) -> Tensor:
    """(N,) float64: the same for mirror images, the mean over east-west and north-south."""
    maps = attend(images)
    found = [correlation(maps.flip(axis), attend(images.flip(axis + 1))) for axis in (1, 2)]
    return torch.stack(found).mean(0)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """(N,) float64: Pearson's correlation of maps (N, h, w) over their pixels, NaN where either is flat."""
    (a, a_flat), (b, b_flat) = distribution(first.double()), distribution(second.double())
    return torch.where(a_flat | b_flat, torch.nan, _pearson(a.flatten(1), b.flatten(1)))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """(N,) float64: Spearman's correlation of maps (N, h, w), equal pixels sharing their mean rank."""
    (a, a_flat), (b, b_flat) = distribution(first.double()), distribution(second.double())
    return torch.where(a_flat | b_flat, torch.nan, _pearson(_mean_ranks(a.flatten(1)), _mean_ranks(b.flatten(1))))


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of (N, n)."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    # The clamp takes off what rounding adds to a perfect correlation.
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).clamp(-1, 1)


def _mean_ranks(values: Tensor) -> Tensor:
    """(N, n) to ranks (N, n) float64 from 0."""
    ascending = values.sort(1).values
    below = torch.searchsorted(ascending, values)
    not_above = torch.searchsorted(ascending, values, right=True)
    return (below + not_above - 1).double() / 2
