"""From stored images to what a network sees: the frame, and what training changes about it, in torch on whole batches.

One resampling does frame, turn, mirror, scale and shift together, so that an image is interpolated once. Every random
number comes from the generator that is passed in.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor

from pipeline.training.recipe import Augmentation, Padding

REFERENCE_SIZE = 128  # px a side at which `blur_sigma` is counted
BLUR_REACH = 3  # deviations of the Gaussian that its kernel holds
TINT = 0.15  # of the pedestal, a channel: the sky of a grz image is nearly white, not quite
GRAIN = 2.0  # pixels at most that noise is correlated over
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, of red, green and blue


def framed(images: Tensor, frames: Tensor, size: int, padding: Padding) -> Tensor:
    """Images (N, C, S, S) uint8 to (N, C, size, size) in [0, 1]; `frames` (N,) are what to show, in image widths."""
    matrices = torch.diag_embed(frames.float()[:, None].expand(-1, 2))  # (N, 2, 2)
    return _sampled(images, matrices, torch.zeros(len(images), 2, device=images.device), size, padding)


def augmented(images: Tensor, frames: Tensor, size: int, how: Augmentation, draw: Generator) -> Tensor:
    """As `framed`, each image changed in its own way; the generator is on the images' device."""
    count = len(images)
    angle = _uniform(count, draw) * 2 * math.pi if how.turn else torch.zeros(count, device=draw.device)
    side = torch.where(_uniform(count, draw) < 0.5, -1.0, 1.0) if how.mirror else torch.ones(count, device=draw.device)
    zoom = torch.exp(_even(count, draw) * math.log1p(how.scale))
    cosine, sine = angle.cos(), angle.sin()
    matrices = torch.stack([torch.stack([cosine, -sine * side], 1), torch.stack([sine, cosine * side], 1)], 1)
    matrices = matrices * (zoom * frames.float())[:, None, None]  # (N, 2, 2)
    shifts = 2 * how.shift * _even(2 * count, draw).reshape(count, 2) * frames.float()[:, None]
    planes = _sampled(images, matrices, shifts, size, how.padding)
    planes = _coloured(planes, how, draw)
    planes = _blurred(planes, how, draw)
    planes = _noisy(_lifted(planes, how, draw), how, draw)
    return planes.clamp(0, 1)


def _sampled(images: Tensor, matrices: Tensor, shifts: Tensor, size: int, padding: Padding) -> Tensor:
    """Images (N, C, S, S) uint8 at an affine grid: matrices (N, 2, 2) and shifts (N, 2) in half widths of image."""
    affine = torch.cat([matrices, shifts[:, :, None]], 2)
    grid = F.affine_grid(affine, [len(images), 1, size, size], align_corners=False)
    planes = images.to(torch.float32) / 255
    return F.grid_sample(planes, grid, padding_mode=padding, align_corners=False)


def _coloured(planes: Tensor, how: Augmentation, draw: Generator) -> Tensor:
    """Planes (N, C, H, W) with other channel gains and brightness, some of them grey."""
    count, channels = planes.shape[:2]
    gain = how.gain * _even(count * channels, draw).reshape(count, channels)
    factor = torch.exp(gain + how.brightness * _even(count, draw)[:, None])
    planes = planes * factor[:, :, None, None]
    grey = _uniform(count, draw) < how.grey
    if channels != len(LUMINANCE) or not how.grey:
        return planes
    weights = torch.tensor(LUMINANCE, device=planes.device)[:, None, None]
    return torch.where(grey[:, None, None, None], (planes * weights).sum(1, keepdim=True), planes)


def _blurred(planes: Tensor, how: Augmentation, draw: Generator) -> Tensor:
    """Planes (N, C, S, S), the chosen ones under a Gaussian of one deviation a batch: seeing that is worse."""
    chosen = _uniform(len(planes), draw) < how.blur
    sigma = float(how.blur_sigma * _uniform(1, draw)) * planes.shape[-1] / REFERENCE_SIZE
    reach = math.ceil(BLUR_REACH * sigma)
    if not how.blur or reach < 1 or not chosen.any():
        return planes
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32, device=planes.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(planes.shape[1], 1, -1)  # (C, 1, K)
    wide = F.pad(planes[chosen], (reach,) * 4, mode="replicate")
    wide = F.conv2d(wide, kernel[:, :, None, :], groups=planes.shape[1])
    soft = F.conv2d(wide, kernel[:, :, :, None], groups=planes.shape[1])
    return planes.index_put((chosen.nonzero().squeeze(1),), soft)


def _lifted(planes: Tensor, how: Augmentation, draw: Generator) -> Tensor:
    """Planes (N, C, H, W) on another level of the sky, nearly white; the range above it shrinks as it rises."""
    if not how.pedestal:
        return planes
    count, channels = planes.shape[:2]
    tint = 1 + TINT * _even(count * channels, draw).reshape(count, channels)
    level = (how.pedestal * _uniform(count, draw)[:, None] * tint)[:, :, None, None]
    return level + (1 - level) * planes


def _noisy(planes: Tensor, how: Augmentation, draw: Generator) -> Tensor:
    """Planes (N, C, S, S) with Gaussian noise, drawn on a coarser grid a batch: served images are resampled ones."""
    if not how.noise:
        return planes
    count, channels, side = planes.shape[:3]
    coarse = max(2, round(side / math.exp(float(_uniform(1, draw)) * math.log(GRAIN))))
    noise = torch.randn((count, channels, coarse, coarse), generator=draw, device=draw.device)
    noise = F.interpolate(noise, (side, side), mode="bilinear", align_corners=False)
    level = how.noise * _uniform(count, draw).square() / noise.std()
    return planes + level[:, None, None, None] * noise


def _uniform(count: int, draw: Generator) -> Tensor:
    """(count,) from 0 to 1."""
    return torch.rand(count, generator=draw, device=draw.device)


def _even(count: int, draw: Generator) -> Tensor:
    """(count,) from -1 to 1."""
    return 2 * _uniform(count, draw) - 1
