"""Attention maps to catalogue columns: where a network looked, how far that reaches and how sharply.

The statistics are those of reference/networks.md sec. 4, each of one image's map by itself. Coordinates are
image sides: x from the eastern edge (column 0) to the western, y from the northern (row 0) to the southern.

With a the map, a <- a - min(a, 0), p = a / sum a, c the centroid and Q = sum p (r - c)(r - c)^T:

    peak_x, peak_y     centre of the highest pixel
    cx, cy             centroid
    sigma              sqrt((Qxx + Qyy) / 2)
    e1, e2, ellip      (Qxx - Qyy) / (Qxx + Qyy), 2 Qxy / (Qxx + Qyy), and their length
    pa                 position angle of the major axis, 0 to 180 degrees east of north; NaN where ellip rounds to 0
    entropy            -sum p ln p / ln(hw), 1 for a uniform map
    area50             the smallest fraction of the pixels that holds half the attention
    gini               sum_k (2k - n - 1) p_(k) / n, p_(k) ascending, n = hw; 0 for a uniform map
    central            attention within 0.25 image sides of the image centre
    raw_min, raw_max   of the map as the network gave it
    flat               1 where the map says nothing: constant, or not finite; the rest is then a uniform map's

The major axis lies at theta = atan2(e2, e1) / 2 from x towards y, that is from west towards south. Its unit
vector points cos theta west and sin theta south, the opposite one as far east and north, so
pa = atan2(cos theta, sin theta) = 90 deg - theta = atan2(e2, -e1) / 2, modulo 180 deg.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAP_SIDE = 16  # cells a side of the stored map
CENTRAL_RADIUS = 0.25  # image sides
FLAT = 1e-6  # a range below this fraction of the largest value is float32 rounding (eps 1.2e-7) of a constant
ROUND = 1e-6  # an ellipticity below this is float32 rounding of a round map


def summarise(attention: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, h, w) to statistics (N, 16) float32, as network.ATTENTION_COLUMNS, and stored maps (N, 256) uint8.

    Computed in float64. A stored map is p by its area on a 16x16 grid, row by row, 255 at its highest cell.
    """
    maps = attention.double()
    p, flat = distribution(maps)
    x, y = _pixel_centres(maps)
    cx, cy = _total(p * x), _total(p * y)
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    qxx, qyy, qxy = _total(p * dx * dx), _total(p * dy * dy), _total(p * dx * dy)
    peak = p.flatten(1).argmax(1)
    statistics = [
        x.flatten()[peak % p.shape[2]],
        y.flatten()[peak // p.shape[2]],
        cx,
        cy,
        ((qxx + qyy) / 2).sqrt(),
        *_ellipse(qxx, qyy, qxy, flat),
        *_concentration(p),
        _total(p * (torch.hypot(x - 0.5, y - 0.5) <= CENTRAL_RADIUS)),
        maps.amin((1, 2)),
        maps.amax((1, 2)),
        flat.double(),
    ]
    return torch.stack(statistics, 1).float(), _stored(p)


def distribution(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, h, w) of any sign to p (N, h, w) of sum 1, and whether they are flat (N,), p then being uniform."""
    lowest, highest = maps.amin((1, 2)), maps.amax((1, 2))
    largest = torch.maximum(lowest.abs(), highest.abs())
    # A NaN or an infinity makes the comparison false, so that such a map is flat too.
    flat = ~(highest - lowest > FLAT * largest)
    shifted = maps - lowest.clamp(max=0)[:, None, None]
    shifted = torch.where(flat[:, None, None], 1.0, shifted)
    return shifted / _total(shifted)[:, None, None], flat


def _ellipse(qxx: Tensor, qyy: Tensor, qxy: Tensor, flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """e1, e2, ellip and pa (N,) of second moments (N,)."""
    trace = (qxx + qyy).clamp_min(torch.finfo(qxx.dtype).tiny)
    e1, e2 = (qxx - qyy) / trace, 2 * qxy / trace
    ellip = torch.hypot(e1, e2)
    pa = torch.rad2deg(torch.atan2(e2, -e1) / 2) % 180
    return e1, e2, ellip, torch.where(flat | (ellip < ROUND), torch.nan, pa)


def _concentration(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy, area50 and gini (N,) of p (N, h, w)."""
    ascending = p.flatten(1).sort(1).values
    n = ascending.shape[1]
    entropy = torch.special.entr(ascending).sum(1) / math.log(max(n, 2))
    # The tolerance keeps a uniform map of many pixels at exactly half of them.
    short_of_half = ascending.flip(1).cumsum(1) < 0.5 - 1e-9
    rank = torch.arange(1, n + 1, dtype=p.dtype, device=p.device)
    gini = (ascending * (2 * rank - n - 1)).sum(1) / n
    return entropy, (short_of_half.sum(1) + 1) / n, gini


def _stored(p: Tensor) -> Tensor:
    """p (N, h, w) by its area on a 16x16 grid, as (N, 256) uint8 with 255 at the highest cell."""
    cells = overlap(MAP_SIDE, p.shape[1], p) @ p @ overlap(MAP_SIDE, p.shape[2], p).T  # (N, 16, 16)
    cells = cells.flatten(1) / cells.amax((1, 2))[:, None]
    return (cells * 255).round().to(torch.uint8)


def overlap(cells: int, pixels: int, like: Tensor) -> Tensor:
    """(cells, pixels): the fraction of each of `pixels` equal intervals that lies in each of `cells` of the same line.

    In the type and on the device of `like`.
    """
    cell = torch.arange(cells, dtype=like.dtype, device=like.device)[:, None] * pixels
    pixel = torch.arange(pixels, dtype=like.dtype, device=like.device) * cells
    # In units in which all edges are integers: a cell is `pixels` long, a pixel `cells`.
    shared = torch.minimum(cell + pixels, pixel + cells) - torch.maximum(cell, pixel)
    return shared.clamp_min(0) / cells


def _pixel_centres(maps: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, 1, w) and y (1, h, 1) of the pixel centres, in image sides."""
    _, height, width = maps.shape
    x = (torch.arange(width, dtype=maps.dtype, device=maps.device) + 0.5) / width
    y = (torch.arange(height, dtype=maps.dtype, device=maps.device) + 0.5) / height
    return x[None, None, :], y[None, :, None]


def _total(values: Tensor) -> Tensor:
    return values.sum((1, 2))
