"""AG-CNN: a small convolutional network that classifies by what its attention gates let through.

Bowles, Scaife, Porter, Tang and Bastien 2021, MNRAS 501, 4579, arXiv:2012.01248. Layers, widths, gates and
aggregations are those of the code that the authors released (reference/networks.md sec. 1): its three-gate,
fine-tuned form has the 101,447 parameters that their notebook prints. What differs from it, and why:

* normalisation is of each image by itself (normalise.py)
* logits come out, not probabilities: the released loss applied a second softmax
* the six dead layers' parameters (`fc1` to `fc3`) are not built
* dropout acts before the heads of one and two gates too; the released code has it with three only

From the review, sec. 3.2.1, and not from the paper: normalisation "mix", pooling "mean", `structure_aware`. The
losses that belong to them are in focus.py. Few parameters are not little work: at 256 pixels three gates take
0.36 G multiply-adds, most of them in the gate at full resolution.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.models.activation import over_positions
from pipeline.models.configs.agcnn import CONVOLUTIONS, SUMMARIES, ZONE_NAMES, ZONES, AGCNNConfig
from pipeline.models.network import NetworkResult
from pipeline.models.normalise import FixedNormalisation, LearnedMix

CENTRAL_RADIUS = 0.25  # image sides
PSI_BIAS = 10.0  # at the start, as released; softmax, range, std and mix do not see it


class AGCNN(nn.Module):
    """Images (N, C, S, S) float32 in [0, 1] to logits, the mean of the gates' maps and a summary of each.

    The map is the paper's: every gate's map bilinearly at the image's size, and their mean. `gate1_entropy` and
    the like are pipeline/attention.py's statistics of one gate's own map; `gate1_core` and `gate1_disc` its
    shares within those zones; `gate1_weight_range` and the like what the learned mix chose.
    """

    def __init__(self, config: AGCNNConfig) -> None:
        super().__init__()
        channels = (config.bands, *config.widths)
        self.stages = nn.ModuleList(
            _stage(before, after, count)
            for before, after, count in zip(channels, config.widths, CONVOLUTIONS, strict=False)
        )
        self.shrink = nn.MaxPool2d(2)
        self.gates = nn.ModuleList(Gate(config, width) for width in config.gated)
        self.dropout = nn.Dropout(config.dropout)
        zones = 1 + len(ZONES) if config.structure_aware else 1
        self.heads = Heads(config, tuple(zones * width for width in config.gated))
        self._draw()

    def forward(self, images: Tensor) -> NetworkResult:
        """Convolutions, one gate after another from the deepest on, and the heads over what they let through."""
        # In float32 throughout: at PSI_BIAS, where the scores begin, bfloat16 steps by 0.06, and maps move by 7 %.
        with _full_precision(images.device):
            x = 2 * images - 1  # the paper's mean 0.5 and deviation 0.5
            features = []
            for number, stage in enumerate(self.stages):
                x = stage(self.shrink(x) if number else x)
                features.append(x)  # (N, 6, S, S), (N, 16, S/2, S/2), (N, 32, S/4, S/4), (N, 64, S/8, S/8)
            pooled: list[Tensor] = []
            gates: dict[str, Tensor] = {}
            scalars: dict[str, Tensor] = {}
            for number, (gate, seen) in enumerate(zip(self.gates, features[-2::-1], strict=False), start=1):
                vector, attention, said = gate(seen, features[-1])
                pooled.append(vector)  # (N, 32), (N, 16), (N, 6)
                gates[f"gate {number}"] = _lifted(attention)
                scalars |= {f"gate{number}_{name}": value for name, value in said.items()}
            logits = self.heads([self.dropout(vector) for vector in pooled])
            sized = [_resized(found, images.shape[-2:]) for found in gates.values()]
            attention, early = torch.stack(sized).mean(0), over_positions(features[-1])
            return NetworkResult(logits, attention, scalars, torch.cat(pooled, 1), early, gates)

    def _draw(self) -> None:
        """The released code's initial weights; its linear layers keep torch's own."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
        for gate in self.gates:
            nn.init.constant_(gate.psi.bias, PSI_BIAS)  # type: ignore[union-attr, arg-type]


class Gate(nn.Module):
    """One attention gate: deep features g say where among the finer features x to look.

    s = psi(ReLU(theta x + up(phi g))), a = normalise(s), v = sum of a x over the pixels.
    """

    def __init__(self, config: AGCNNConfig, width: int) -> None:
        super().__init__()
        deep, inner, kind = config.widths[-1], config.gate_channels, config.normalisation
        self.theta = nn.Conv2d(width, inner, 1, bias=False)
        self.phi = nn.Conv2d(deep, inner, 1, bias=False)
        self.psi = nn.Conv2d(inner, 1, 1)
        self.normalise = LearnedMix(deep) if kind == "mix" else FixedNormalisation(kind)
        self.average = config.pooling == "mean"
        self.structure_aware = config.structure_aware

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """x (N, C, h, w) and g (N, G, h', w') to v (N, C) or (N, 3C) by zone, the map (N, h, w) and its scalars."""
        inner = F.interpolate(self.phi(g), x.shape[-2:], mode="bilinear")  # (N, 64, h, w)
        # In place, because these 64 channels at full resolution are most of the memory of the network.
        inner = inner.add_(self.theta(x)).relu_()
        score = self.psi(inner).squeeze(1)  # (N, h, w)
        attention, said = self.normalise(score, g)
        zones = _zones(score) if self.structure_aware else score.new_ones(1, *score.shape[1:])  # (Z, h, w)
        vector = torch.einsum("nzhw,nchw->nzc", attention[:, None] * zones, x).flatten(1)
        if self.average:
            # Never by less than one pixel's full attention: a map of zeros has none to share out.
            vector = vector / attention.sum((1, 2)).clamp_min(1)[:, None]
        return vector, attention, self._summary(attention.detach(), zones) | said

    def _summary(self, attention: Tensor, zones: Tensor) -> dict[str, Tensor]:
        """SUMMARIES (N,) of maps (N, h, w), and their shares in core and disc; a constant map counts as uniform."""
        p = _distribution(attention.double())
        x, y, radius = _places(p)
        peak = p.flatten(1).argmax(1)
        cx, cy = (p * x).sum((1, 2), keepdim=True), (p * y).sum((1, 2), keepdim=True)
        spread = (p * ((x - cx) ** 2 + (y - cy) ** 2)).sum((1, 2))
        entropy = torch.special.entr(p).sum((1, 2)) / math.log(max(p[0].numel(), 2))
        central = (p * (radius <= CENTRAL_RADIUS)).sum((1, 2))
        places = (x.flatten()[peak % p.shape[2]], y.flatten()[peak // p.shape[2]])
        values = dict(zip(SUMMARIES, (*places, (spread / 2).sqrt(), entropy, central), strict=True))
        if self.structure_aware:
            shares = torch.einsum("nhw,zhw->zn", p, zones.double())
            values |= dict(zip(ZONE_NAMES, shares, strict=False))
        return {name: value.float() for name, value in values.items()}


class Heads(nn.Module):
    """The four aggregations of the paper: one vector a gate to logits.

    mean             the mean of each gate's own logits
    concat           one layer over all vectors
    deep_supervised  the mean of concat's logits and each gate's own
    fine_tuned       one layer over each gate's own logits, rectified
    """

    def __init__(self, config: AGCNNConfig, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.slope = config.aggregation, config.head_slope
        own = () if self.kind == "concat" else widths
        self.own = nn.ModuleList(nn.Linear(width, config.classes) for width in own)
        if self.kind != "mean":
            inputs = config.classes * len(widths) if self.kind == "fine_tuned" else sum(widths)
            self.joint = nn.Linear(inputs, config.classes)

    def forward(self, pooled: list[Tensor]) -> Tensor:
        """One (N, C) a gate to logits (N, K)."""
        if self.kind == "concat":
            return self.joint(torch.cat(pooled, 1))
        each = [head(vector) for head, vector in zip(self.own, pooled, strict=True)]
        if self.kind == "fine_tuned":
            return self.joint(F.leaky_relu(torch.cat(each, 1), self.slope))
        if self.kind == "deep_supervised":
            each.append(self.joint(torch.cat(pooled, 1)))
        return torch.stack(each).mean(0)


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast, which a meta device, on which operations are only counted, does not know."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _stage(before: int, after: int, count: int) -> nn.Sequential:
    """3x3 convolutions that keep the side. The norm comes after the ReLU, as in the paper."""
    units = [
        (nn.Conv2d(after if number else before, after, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(after))
        for number in range(count)
    ]
    return nn.Sequential(*(layer for unit in units for layer in unit))


def _lifted(attention: Tensor) -> Tensor:
    """Maps (N, h, w) raised to a minimum of 0 where `std` made them negative."""
    return attention - attention.amin((1, 2), keepdim=True).clamp(max=0)


def _resized(maps: Tensor, sides: torch.Size) -> Tensor:
    return F.interpolate(maps[:, None], sides, mode="bilinear").squeeze(1)


def _distribution(maps: Tensor) -> Tensor:
    """Maps (N, h, w) to p (N, h, w) of sum 1, uniform where pipeline/attention.py calls the map flat."""
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    largest = torch.maximum(lowest.abs(), highest.abs())
    varied = highest - lowest > 1e-6 * largest
    lifted = torch.where(varied, _lifted(maps), 1.0)
    return lifted / lifted.sum((1, 2), keepdim=True)


def _places(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pixel centres of maps (..., h, w), in image sides: x (1, w), y (h, 1) and from the centre (h, w)."""
    height, width = like.shape[-2:]
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5)[None, :] / width
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5)[:, None] / height
    return x, y, torch.hypot(x - 0.5, y - 0.5)


def _zones(like: Tensor) -> Tensor:
    """Core, disc and background of maps (N, h, w): (3, h, w), each pixel 1 in one of them."""
    radius = _places(like)[2]
    core, disc = ZONES
    return torch.stack([radius < core, (radius >= core) & (radius < disc), radius >= disc]).to(like.dtype)
