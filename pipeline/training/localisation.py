"""Does attention lie on the source? Maps against masks of where the source is.

Maps are (N, h, w), any scale, as `NetworkResult.attention`; masks (N, H, W) bool over the same field of sky, the
same way up, on any grid of their own. Lengths are image sides. Where a mask is empty there is nothing to
find, and every measure is NaN; a flat map counts as the uniform one (pipeline/attention.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.attention import distribution, overlap

ROUNDING = 1e-9  # image sides: a distance of the tolerance itself is within it


def unpacked_masks(packed: Sequence[bytes]) -> Tensor:
    """(N, H, H) bool of square masks as numpy.packbits wrote them, row by row, all of one size: 512 bytes are 64x64.

    Raises ValueError where the bits do not fill a square, or differ in number.
    """
    sizes = {len(mask) for mask in packed}
    if len(sizes) != 1:
        raise ValueError(f"expected masks of one size, got {sorted(sizes)} bytes")
    bits = 8 * sizes.pop()
    side = math.isqrt(bits)
    if side < 1 or side * side != bits:
        raise ValueError(f"expected the bits of a square, got {bits}")
    unpacked = np.unpackbits(np.frombuffer(b"".join(packed), np.uint8))
    return torch.from_numpy(unpacked).reshape(len(packed), side, side).bool()


def pointing_game(maps: Tensor, masks: Tensor, tolerance: float = 0.0) -> Tensor:
    """(N,) float64: 1 where the highest pixel's centre lies within `tolerance` of the mask, 0 where it does not.

    Their mean is the hit rate of the pointing game (Zhang et al. 2018, arXiv:1608.00507). Where several pixels
    are the highest it is the share of them that hit: what a choice among them by lot would score, so that
    a uniform map scores the area within the tolerance and not whatever its first pixel happens to hold.
    """
    p, _ = distribution(maps.double())
    highest = p == p.amax((1, 2), keepdim=True)
    hits = _distance(masks, p) <= tolerance + ROUNDING
    return _where_found((highest & hits).sum((1, 2)) / highest.sum((1, 2)), masks)


def mass_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """(N,) float64: the share of the attention that lies within the mask, pixels that it cuts counted by their area."""
    p, _ = distribution(maps.double())
    covered = masks.to(p.dtype)
    _, height, width = p.shape
    rows, columns = overlap(height, masks.shape[1], p), overlap(width, masks.shape[2], p)
    # Shares of the mask's pixels to shares of the map's: both grids cover the same sky.
    covered = (rows @ covered @ columns.T) * (height * width / (masks.shape[1] * masks.shape[2]))  # (N, h, w)
    return _where_found((p * covered).sum((1, 2)), masks)


def mass_gain(maps: Tensor, masks: Tensor) -> Tensor:
    """(N,) float64: `mass_in_mask` over the mask's share of the image, 1 for a uniform map.

    At most 1 over that share, which only attention wholly within the mask reaches.
    """
    return mass_in_mask(maps, masks) / masks.double().mean((1, 2))


def _distance(masks: Tensor, like: Tensor) -> Tensor:
    """(N, h, w): from the pixel centres of maps like (N, h, w) to the nearest point of the mask, in image sides.

    A mask's pixel is a square with its edge; inf where the mask is empty. First along rows, then across them:
    the least of dx^2 + dy^2 over a mask is the least over its rows of dy^2 plus the row's own least dx^2.
    """
    dx = _to_interval(like.shape[2], masks.shape[2], like) ** 2  # (W, w)
    dy = _to_interval(like.shape[1], masks.shape[1], like) ** 2  # (H, h)
    along = like.new_full((*masks.shape[:2], like.shape[2]), torch.inf)  # (N, H, w)
    for column in range(masks.shape[2]):
        along = torch.minimum(along, torch.where(masks[:, :, column, None], dx[column], torch.inf))
    nearest = torch.full_like(like, torch.inf)
    for row in range(masks.shape[1]):
        nearest = torch.minimum(nearest, along[:, None, row, :] + dy[row, :, None])
    return nearest.sqrt()


def _to_interval(centres: int, intervals: int, like: Tensor) -> Tensor:
    """(intervals, centres): from the centre of each of `centres` equal parts of a line to each of `intervals`."""
    centre = (torch.arange(centres, dtype=like.dtype, device=like.device) + 0.5) / centres
    middle = (torch.arange(intervals, dtype=like.dtype, device=like.device) + 0.5)[:, None] / intervals
    return ((centre - middle).abs() - 0.5 / intervals).clamp_min(0)


def _where_found(measure: Tensor, masks: Tensor) -> Tensor:
    return torch.where(masks.any(2).any(1), measure.double(), torch.nan)
