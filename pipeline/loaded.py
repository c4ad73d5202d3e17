"""One network with its weights on the device: what it says of a batch, and of all batches on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.attention import MAP_SIDE, summarise
from pipeline.data import UNCERTAINTY, NetworkOutput
from pipeline.models.calibration import probabilities
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.dmagnet import DMAGNet
from pipeline.models.dmagnet_cpu import FoldedDMAGNet
from pipeline.models.network import Network, NetworkConfig, NetworkResult, attention_columns
from pipeline.models.novelty import Novelty, Seen


@dataclass(frozen=True, eq=False)
class Part:
    """One network's say on one batch, padding included, on the device."""

    numbers: Tensor  # (B, 2K + 3 + columns) float32: logits, probabilities, entropy, spread, novelty, attention
    maps: Tensor  # (B, 256) uint8


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network on the device, with what turns its logits into what the catalogue says."""

    module: Network
    config: NetworkConfig
    temperature: float
    shift: Tensor | None  # (K,) Prior.shift
    novelty: Novelty | None
    turned: bool  # whether the other seven views are looked at too

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device, views: int) -> LoadedNetwork:
        """Channels last, and in the form that suits the device."""
        module = checkpoint.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu" and isinstance(module, DMAGNet):
            module = FoldedDMAGNet(module)
        prior, novelty = checkpoint.prior, checkpoint.novelty
        return cls(
            module,
            checkpoint.config,
            checkpoint.temperature,
            shift=None if prior is None else torch.tensor(prior.shift, device=device),
            novelty=None if novelty is None else novelty.to(device),
            turned=views > 1,
        )

    def compiled(self) -> LoadedNetwork:
        """The network compiled for batches of one shape; the compiling is done by its first call."""
        return replace(self, module=torch.compile(self.module, dynamic=False))

    def predict(self, planes: Tensor) -> Part:
        """Planes (B, C, size, size) in [0, 1]."""
        result = self.module(planes)
        said = self._probabilities(result.logits)
        statistics, maps = summarise(result.attention)
        scalars = [result.scalars[name].float() for name in self.config.scalars]
        sure = [_entropy(said), self._spread(planes, said), self._novelty(result)]
        rest = torch.stack([*sure, *statistics.unbind(1), *scalars], 1)
        return Part(torch.cat([result.logits.float(), said, rest], 1), maps)

    def output(self, parts: Sequence[Part], count: int) -> NetworkOutput:
        """The first `count` rows of all batches, on the host: the one place that waits for the device."""
        columns, classes = attention_columns(self.config), self.config.classes
        width = 2 * classes + len(UNCERTAINTY) + len(columns)
        numbers = _joined([part.numbers for part in parts], count, width, torch.float32)
        single = np.ascontiguousarray(numbers[:, 2 * classes :].T)  # (3 + columns, count)
        entropy, spread, novelty = single[: len(UNCERTAINTY)]
        return NetworkOutput(
            logits=numbers[:, :classes].copy(),
            probabilities=numbers[:, classes : 2 * classes].copy(),
            entropy=entropy,
            spread=spread,
            novelty=novelty,
            attention=dict(zip(columns, single[len(UNCERTAINTY) :], strict=True)),
            maps=_joined([part.maps for part in parts], count, MAP_SIDE**2, torch.uint8),
        )

    def _probabilities(self, logits: Tensor) -> Tensor:
        return probabilities(logits, self.temperature, self.shift)

    def _spread(self, planes: Tensor, said: Tensor) -> Tensor:
        """(B,) of planes as drawn, of which the network said probabilities (B, K); NaN where nobody asked."""
        if not self.turned:
            return said.new_full((len(said),), torch.nan)
        others = [self._probabilities(self.module(view).logits) for view in _other_views(planes)]
        every = torch.stack([said, *others])  # (8, B, K)
        return ((every - every.mean(0)) ** 2).sum(2).mean(0).sqrt()

    def _novelty(self, result: NetworkResult) -> Tensor:
        """(B,); NaN where the checkpoint has no model of it."""
        if self.novelty is None:
            return result.logits.new_full((len(result.logits),), torch.nan, dtype=torch.float32)
        with torch.autocast(result.logits.device.type, enabled=False):  # bfloat16 holds no distance
            return self.novelty.score(Seen(logits=result.logits, features=result.features, early=result.early))


def _entropy(said: Tensor) -> Tensor:
    """(B,) entropy of probabilities (B, K) over its maximum, ln K."""
    return torch.special.entr(said).sum(1) / math.log(max(said.shape[1], 2))


def _other_views(planes: Tensor) -> Iterator[Tensor]:
    """Planes (B, C, S, S) in the three quarter turns, and their mirror images in all four."""
    for mirrored in (False, True):
        for turns in range(4):
            if mirrored or turns:
                view = torch.rot90(planes.flip(3) if mirrored else planes, turns, (2, 3))
                yield view.contiguous(memory_format=torch.channels_last)


def _joined(batches: list[Tensor], count: int, width: int, dtype: torch.dtype) -> NDArray[Any]:
    """The first `count` rows (count, width) of batches (B, width), which are none where there are no images."""
    rows = torch.cat(batches) if batches else torch.empty((0, width), dtype=dtype)
    return rows[:count].cpu().numpy()
