"""Boxes that a network cuts out of its own input: by attention and a Gaussian, or by a learned transformer.

A box is (x, y, side) in image sides: its centre, x from column 0 and y from row 0, and its width, which is its
height too. It never reaches over the edge.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import at_least_float32

LEAST_SIDE = 0.25  # image sides; our guess, as is the next (reference/networks.md sec. 2.2)
CENTRED = (0.5, 0.5, 0.6)  # the box where nothing says where to look, and the transformer's first
SMOOTHING = 5  # pixels a side that count as one when the brightest is sought, against hot pixels
FLAT = 1e-6  # a range below this fraction of the largest value is float32 rounding of a constant
LOCALISER_CHANNELS = 32


def gaussian_box(images: Tensor, attention: Tensor, tau1: float, reach: float, tau2: float) -> Tensor:
    """Images (N, C, H, W) and maps (N, h, w) >= 0 to boxes (N, 3): MBAN's, by the brightest attended pixel.

    Zhang et al. 2021 name tau1, lambda (`reach`, in image sides) and tau2 and what each does; their values and
    this construction are our guess (reference/networks.md sec. 2). With A the map at the images' size:

        B = A >= tau1 max A
        m = the brightest pixel within B, in the mean of the bands smoothed over 5x5; of equals the most attended
        G = exp(-|u - m|^2 / (2 lambda^2))
        K = A G >= tau2 max(A G)

    and the box is the square around K, of at least a quarter of the side, moved inside the image. A map or an
    image that is constant has no such pixel: the box is then the centred one. No gradient passes.
    """
    with torch.no_grad():
        height, width = images.shape[-2:]
        attended = F.interpolate(at_least_float32(attention)[:, None], (height, width), mode="bilinear").squeeze(1)
        light = F.avg_pool2d(
            at_least_float32(images).mean(1, keepdim=True), SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False
        ).squeeze(1)  # (N, H, W)
        x, y = _centres(width, attended), _centres(height, attended)
        peak = _brightest(light, attended, attended >= tau1 * _highest(attended))
        distance = (x - x[peak % width][:, None])[:, None] ** 2 + (y - y[peak // width][:, None])[:, :, None] ** 2
        focused = attended * torch.exp(-distance / (2 * reach**2))  # (N, H, W)
        kept = focused >= tau2 * _highest(focused)
        box = _square(*_span(kept.any(1)), *_span(kept.any(2)))
        unguided = _constant(attention) | _constant(light)
        parts = zip(box.unbind(1), CENTRED, strict=True)
        return torch.stack([torch.where(unguided, centred, part) for part, centred in parts], 1)


class Localiser(nn.Module):
    """A small network that says where to crop: the differentiable successor of the Gaussian.

    Spatial transformer, Jaderberg et al. 2015, arXiv:1506.02025, without turning or shearing; ours in detail
    (reference/networks.md sec. 6, item 5). There the features are averaged over the positions first, which
    forgets where things are; here each position keeps its own weights. Its last layer begins at zero, and so
    the box as CENTRED for every image.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, LOCALISER_CHANNELS, 1)
        self.last = nn.Linear(LOCALISER_CHANNELS * side**2, 3)
        share = (CENTRED[2] - LEAST_SIDE) / (1 - LEAST_SIDE)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.constant_(self.last.bias[2], math.log(share / (1 - share)))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, h, h) to boxes (N, 3)."""
        x, y, size = at_least_float32(self.last(F.relu(self.narrow(features)).flatten(1))).unbind(1)
        side = LEAST_SIDE + (1 - LEAST_SIDE) * size.sigmoid()
        free = (1 - side) / 2  # from the centre to where the box meets the edge
        return torch.stack([0.5 + free * x.tanh(), 0.5 + free * y.tanh(), side], 1)


def crop(planes: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Planes (N, C, H, W) within boxes (N, 3), bilinearly at (N, C, side, side). Gradients reach planes and boxes."""
    planes = at_least_float32(planes)
    x, y, width = boxes.to(planes.dtype)[:, :, None].unbind(1)  # (N, 1) each
    across = _centres(side, planes) - 0.5
    columns, rows = (2 * (centre + width * across) - 1 for centre in (x, y))  # (N, side), from -1 to 1 over the planes
    grid = torch.stack([columns[:, None].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], 3)
    return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)


def _brightest(light: Tensor, attended: Tensor, allowed: Tensor) -> Tensor:
    """The flat index (N,) of the brightest allowed pixel of (N, H, W): the most attended one of a saturated core."""
    lit = torch.where(allowed, light, -torch.inf)
    highest = _highest(lit)
    bright = lit >= highest - FLAT * highest.abs()
    return torch.where(bright, attended, -torch.inf).flatten(1).argmax(1)


def _square(left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Edges (N,) to the square boxes (N, 3) around them, moved inside the image."""
    side = torch.maximum(right - left, bottom - top).clamp(LEAST_SIDE, 1)
    x, y = ((low + high) / 2 for low, high in ((left, right), (top, bottom)))
    x, y = (torch.minimum(torch.maximum(centre, side / 2), 1 - side / 2) for centre in (x, y))
    return torch.stack([x, y, side], 1)


def _span(hit: Tensor) -> tuple[Tensor, Tensor]:
    """The outer edges (N,), in sides, of the pixels of (N, L) that are hit, of which there is at least one."""
    length = hit.shape[1]
    first = hit.to(torch.uint8).argmax(1)
    last = length - 1 - hit.flip(1).to(torch.uint8).argmax(1)
    return first / length, (last + 1) / length


def _centres(pixels: int, like: Tensor) -> Tensor:
    return (torch.arange(pixels, dtype=like.dtype, device=like.device) + 0.5) / pixels


def _highest(maps: Tensor) -> Tensor:
    return maps.amax((1, 2), keepdim=True)


def _constant(maps: Tensor) -> Tensor:
    """Whether each of maps (N, H, W) is constant, or not finite (N,)."""
    lowest, highest = maps.amin((1, 2)), maps.amax((1, 2))
    return ~(highest - lowest > FLAT * torch.maximum(lowest.abs(), highest.abs()))
