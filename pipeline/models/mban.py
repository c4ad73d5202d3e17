"""MBAN: one branch looks at the whole image, a second at the part that the first attended to, and both decide.

Zhang, Liang, Su and Jacobs 2021, ICPR 2020, 9643: primary and auxiliary ResNet-18, the class activation map of the
primary one, a box by tau1, a Gaussian of reach lambda around the brightest attended pixel, and tau2; the pooled
features V1 and V2, 512 each, joined to 1024 and classified. 22,359,177 parameters for their three classes. Their
text was not at hand: the values of tau1, lambda, tau2 and the image size, and how the mask becomes a box, are our
guesses (reference/networks.md sec. 2 and 7). The losses are in branch_losses.py.

From the review, sec. 3.2.2, and not from the paper:

* `shared`: one backbone; the auxiliary branch is two blocks on the crop of the second stage's features
* `localiser="transformer"`: the box is learned, and gradients reach what places it
* `certain`: in eval mode only images whose two highest primary probabilities differ by less meet the auxiliary
  branch, as one smaller batch; the answer of the others is the primary branch's
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.models.activation import class_map, over_positions
from pipeline.models.configs.mban import SHARED_STRIDE, MBANConfig
from pipeline.models.crop import Localiser, crop, gaussian_box
from pipeline.models.network import NetworkResult
from pipeline.models.resnet import Backbone, Block, draw_residual


@dataclass(frozen=True, eq=False)
class Branches:
    """What each branch says. Rows that never met the auxiliary branch have NaN there and in their box."""

    primary: Tensor  # (N, K) logits
    auxiliary: Tensor  # (N, K)
    fusion: Tensor  # (N, K); the primary's where the auxiliary branch was not asked
    attention: Tensor  # (N, h, w) the primary's class activation map in [0, 1]
    v1: Tensor  # (N, 512) the primary's pooled features
    early: Tensor  # (N, 256) the mean over the image of its last stage but one
    box: Tensor  # (N, 3) centre x, y and side, in image sides
    asked: Tensor  # (N,) bool


class MBAN(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to the fused logits and the primary branch's class activation map.

    `box_cx`, `box_cy`, `box_sx`, `box_sy`: centre and sides of the crop, in image sides. `js_primary_aux`: how far
    the branches disagree, 0 to 1 (Jensen-Shannon divergence in bits). `primary_max`, `aux_max`: their highest
    probabilities, not scaled by the checkpoint's temperature. `aux_used`: 1 where the auxiliary branch was asked;
    where it was not, the box, `js_primary_aux` and `aux_max` are NaN. The features are V1, which every row has.

    With `certain`, the host waits for the device once a pass, to learn how many rows are left.
    """

    def __init__(self, config: MBANConfig) -> None:
        super().__init__()
        self.config = config
        last = config.widths[-1]
        self.primary = Backbone(config.backbone)
        self.auxiliary = _tail(config.widths) if config.shared else Backbone(config.backbone)
        if config.localiser == "transformer":
            self.localiser = Localiser(last, -(-config.size // 32))
        self.primary_head = nn.Linear(last, config.classes)
        self.auxiliary_head = nn.Linear(last, config.classes)
        self.fusion_head = nn.Linear(2 * last, config.classes)

    def forward(self, images: Tensor) -> NetworkResult:
        said = self.branches(images)
        x, y, side = said.box.float().unbind(1)
        primary, auxiliary = said.primary.float().softmax(1), said.auxiliary.float().softmax(1)
        disagreement = jensen_shannon(primary, auxiliary)
        values = [x, y, side, side, disagreement, primary.amax(1), auxiliary.amax(1), said.asked.float()]
        scalars = dict(zip(self.config.scalars, values, strict=True))
        return NetworkResult(said.fusion, said.attention, scalars, said.v1, said.early)

    def branches(self, images: Tensor) -> Branches:
        """Images (N, C, S, S) to what each branch says, which is what training needs."""
        stages = self.primary(images)
        deep = stages[-1]  # (N, 512, S/32, S/32) M
        v1 = deep.mean((2, 3))  # (N, 512)
        primary = self.primary_head(v1)
        attention = class_map(deep, self.primary_head.weight, primary)  # (N, S/32, S/32)
        rows = self._uncertain(primary)
        seen = stages[1] if self.config.shared else images
        rows_box = self._box(images[rows], deep[rows], attention[rows])  # (R, 3), R rows of N
        v2 = self._look(seen[rows], rows_box)  # (R, 512)
        auxiliary, fusion = torch.full_like(primary, torch.nan), primary.clone()
        auxiliary[rows] = self.auxiliary_head(v2)
        fusion[rows] = self.fusion_head(torch.cat([v1[rows], v2], 1))  # (R, 1024) to (R, K)
        box = torch.full((len(images), 3), torch.nan, dtype=rows_box.dtype, device=rows_box.device)
        box[rows] = rows_box
        asked = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        asked[rows] = True
        return Branches(primary, auxiliary, fusion, attention, v1, over_positions(stages[-2]), box, asked)

    def _uncertain(self, primary: Tensor) -> Tensor | slice:
        """The rows that the auxiliary branch is asked about: all in training, and where only costs are counted."""
        if self.config.certain is None or self.training or primary.is_meta:
            return slice(None)
        first, second = primary.float().softmax(1).topk(2, 1).values.unbind(1)
        return (first - second < self.config.certain).nonzero().squeeze(1)

    def _box(self, images: Tensor, deep: Tensor, attention: Tensor) -> Tensor:
        if self.config.localiser == "transformer":
            return self.localiser(deep)
        return gaussian_box(images, attention, self.config.tau1, self.config.reach, self.config.tau2)

    def _look(self, seen: Tensor, box: Tensor) -> Tensor:
        """Images (R, C, S, S) or second-stage features (R, 128, S/8, S/8), within boxes (R, 3), to V2 (R, 512)."""
        if self.config.shared:
            deep = self.auxiliary(crop(seen, box, self.config.crop_size // SHARED_STRIDE))
        else:
            deep = self.auxiliary(crop(seen, box, self.config.crop_size))[-1]
        return deep.mean((2, 3))


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JS = (KL(p | m) + KL(q | m)) / 2 in bits, m = (p + q) / 2, of distributions (N, K): 0 to 1 (N,)."""
    middle = (p + q) / 2
    entropy = torch.special.entr(middle) - (torch.special.entr(p) + torch.special.entr(q)) / 2
    return (entropy.sum(1) / math.log(2)).clamp(0, 1)


def _tail(widths: tuple[int, ...]) -> nn.Sequential:
    """The auxiliary branch on a shared backbone: (N, 128, c, c) to (N, 512, c/4, c/4)."""
    tail = nn.Sequential(Block("basic", widths[1], widths[2], 2), Block("basic", widths[2], widths[3], 2))
    draw_residual(tail)
    return tail
