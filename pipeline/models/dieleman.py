"""Dieleman: one small convnet looks at sixteen turned and mirrored parts of a galaxy, dense layers join them.

Dieleman, Willett and Dambre 2015, MNRAS 450, 1441, arXiv:1503.07077: the winner of the Galaxy Zoo challenge. The
layers were read in the code that the author released (github.com/benanne/kaggle-galaxies, the script
try_convnet_cc_multirotflip_3x69r45_maxout2048_extradense.py and doc/documentation.tex, "about 42 million
parameters"): the frame at a third of its resolution, its middle 69 pixels upright and turned by 45 degrees, each
mirrored too; of each of these four views the four corner parts of 45 pixels, turned so that the galaxy lies towards
the lower right; convolutions of 6, 5, 3 and 3 pixels with a bias of each position's own; two maxout layers of 2048.
What differs, and why:

* classes come out as logits; the code rectifies and divides 37 answers of Galaxy Zoo's tree
* weights are drawn by He et al. 2015 instead of with deviations of 0.001 to 0.1, which were made for its learning
  rate of 0.04 and leave untrained answers alike to six digits; biases begin as they did
* the frame is shrunk by area; the code samples every third pixel, bilinearly

The parts of a turned or mirrored galaxy are the same sixteen in another order. The dense layers do see the order, so
the answer is not invariant, but for the name. The network has no attention. Its map is the energy of the last
convolution, brought back from every part to where in the frame that part was; outside the view it is 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import at_least_float32, energy_map, over_positions
from pipeline.models.configs.dieleman import CONVOLUTIONS, DielemanConfig
from pipeline.models.network import NetworkResult

FRAME = 141  # pixels a side: 424, Galaxy Zoo's, at a third
VIEW = 69
PART = 45
MARGIN = (FRAME - VIEW) // 2
TURNS = (0.0, math.pi / 4)  # of the views; the corner of the turned view stays within the frame
QUARTERS = 4  # parts of a view
PARTS = len(TURNS) * 2 * QUARTERS
PIECES = 2  # linear units of which a maxout unit takes the largest
MAP = 47  # pixels a side of the map: the frame at a third
SHARE = 1e-3  # of a pixel of the map: the sampled edge of a view that covers less than this says nothing


class Dieleman(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits and the energy of the last convolution, on the frame."""

    def __init__(self, config: DielemanConfig) -> None:
        super().__init__()
        first, second, third, last = (
            (UntiedConvolution(before, after, kernel, side), nn.ReLU())
            for before, after, (kernel, side) in zip(
                (config.bands, *config.channels), config.channels, CONVOLUTIONS, strict=False
            )
        )
        self.convolutions = nn.Sequential(*first, nn.MaxPool2d(2), *second, nn.MaxPool2d(2), *third, *last)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.ModuleList(
            nn.Linear(before, PIECES * config.units) for before in (PARTS * config.channels[-1] * 4, config.units)
        )
        self.classifier = nn.Linear(config.units, config.classes)
        self._draw()

    def forward(self, images: Tensor) -> NetworkResult:
        seen = parts(images)  # (N, 16, C, 45, 45)
        deep = self.convolutions(seen.flatten(0, 1))  # (16 N, 128, 4, 4)
        x = self.pool(deep).reshape(len(images), -1)  # (N, 16 * 128 * 2 * 2)
        for layer in self.hidden:
            x = layer(self.dropout(x)).reshape(len(images), -1, PIECES).amax(2)  # (N, 2048)
        energy = energy_map(deep).reshape(len(images), PARTS, *deep.shape[2:])  # (N, 16, 4, 4)
        early = over_positions(deep).reshape(len(images), PARTS, -1).mean(1)  # (N, 128)
        return NetworkResult(self.classifier(self.dropout(x)), on_the_frame(energy), {}, x, early)

    def _draw(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, UntiedConvolution):
                nn.init.constant_(module.position_bias, 0.1)
        for layer in self.hidden:
            nn.init.constant_(layer.bias, 0.01)  # type: ignore[arg-type]
        nn.init.constant_(self.classifier.bias, 0.1)


class UntiedConvolution(nn.Conv2d):
    """A convolution without padding, to `side` positions a side, each of which has a bias of its own."""

    def __init__(self, before: int, after: int, kernel: int, side: int) -> None:
        super().__init__(before, after, kernel, bias=False)
        self.position_bias = nn.Parameter(torch.zeros(after, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.position_bias


def parts(images: Tensor) -> Tensor:
    """Images (N, C, S, S) to their sixteen parts (N, 16, C, 45, 45), the middle of the frame at the lower right.

    In order: upright, upright mirrored, turned, turned mirrored, and of each the parts at the upper left, upper
    right, lower right and lower left.
    """
    frame = F.interpolate(images, (FRAME, FRAME), mode="bilinear", antialias=True)
    views = [_turned(frame, angle)[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for angle in TURNS]
    mirrored = [view for upright in views for view in (upright, upright.flip(3))]
    corners = [view.rot90(quarter, (2, 3))[..., :PART, :PART] for view in mirrored for quarter in range(QUARTERS)]
    return torch.stack(corners, 1)


def on_the_frame(energy: Tensor) -> Tensor:
    """Maps (N, 16, h, w) of each part to the frame (N, 47, 47): the mean over the parts that see a place."""
    ones = energy.new_ones(1, *energy.shape[1:])
    seen = _spread(ones)
    return torch.where(seen > SHARE, _spread(energy) / seen.clamp_min(SHARE), 0.0)


def _spread(energy: Tensor) -> Tensor:
    """The sum (N, 47, 47) of the parts' maps (N, 16, h, w), each where that part was: `parts` backwards."""
    whole = F.interpolate(energy, (PART, PART), mode="bilinear").reshape(-1, len(TURNS), 2, QUARTERS, PART, PART)
    views = F.pad(whole, (0, VIEW - PART, 0, VIEW - PART))  # (N, 2, 2, 4, 69, 69)
    mirrored = torch.stack([views[:, :, :, quarter].rot90(-quarter, (3, 4)) for quarter in range(QUARTERS)]).sum(0)
    upright = mirrored[:, :, 0] + mirrored[:, :, 1].flip(3)  # (N, 2, 69, 69)
    frame = F.pad(upright, (MARGIN,) * 4)  # (N, 2, 141, 141)
    back = torch.stack([_turned(frame[:, n : n + 1], -angle) for n, angle in enumerate(TURNS)]).sum(0)
    return F.avg_pool2d(back, FRAME // MAP).squeeze(1)


def _turned(frame: Tensor, angle: float) -> Tensor:
    """Images (N, C, H, H) turned about their middle, bilinearly, with zeros from outside."""
    if not angle:
        return frame
    frame = at_least_float32(frame)
    along = (torch.arange(FRAME, dtype=frame.dtype, device=frame.device) + 0.5) * (2 / FRAME) - 1  # from -1 to 1
    x, y = along[None, :], along[:, None]
    cosine, sine = math.cos(angle), math.sin(angle)
    grid = torch.stack([cosine * x - sine * y, sine * x + cosine * y], 2)  # (H, H, 2)
    return F.grid_sample(frame, grid.expand(len(frame), -1, -1, -1), align_corners=False)
