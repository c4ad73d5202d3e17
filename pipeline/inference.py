"""Images in, probabilities and attention out: every network of a job in one pass over fixed batches.

CPU and CUDA run the same code with another feed (feed.py), and both run the networks channels last: on the CPU every
network is 1.2 to 1.9 times as fast so. On CUDA they run in bfloat16 where the device has it
(reference/engine-catalogue-ops.md sec. 5), on the CPU in float32, DMAGNet in the form of models/dmagnet_cpu.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pipeline.attention import MAP_SIDE, attention_columns, summarise
from pipeline.data import UNCERTAINTY, NetworkOutput
from pipeline.errors import JobError
from pipeline.feed import CudaFeed, Feed, HostFeed
from pipeline.memory import keep_freed_memory
from pipeline.models.calibration import probabilities
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.dmagnet import DMAGNet
from pipeline.models.dmagnet_cpu import FoldedDMAGNet
from pipeline.models.network import Network, NetworkConfig, NetworkResult
from pipeline.models.novelty import Novelty

CPU_BATCH = 16  # on one thread torch gives smaller batches of pointwise layers to a kernel of half the speed
CUDA_BATCH = 256  # reference/engine-catalogue-ops.md sec. 5: 256 to 1024 for networks of 256 pixels a side
BFLOAT16_SINCE = (8, 0)  # CUDA compute capability (Ampere); older devices only emulate it


class Predictor:
    """The networks of a job on one device. `choice` says in one line which device, precision and batch, and why."""

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint],
        *,
        device: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
        views: Mapping[str, int] | None = None,
    ) -> None:
        """`checkpoints` by column prefix; `threads` is torch's, and the whole process's, number of CPU threads.

        `views` by column prefix, 1 where it is not given: 8 shows a network each image in its eight flips and
        quarter turns, for the spread of what it says, at eight times the cost.
        Raises JobError where CUDA is asked for and absent.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device, why = _choose(device)
        self.device = str(self._device)
        self._cuda = self._device.type == "cuda"
        if not self._cuda:
            keep_freed_memory()
        self.batch = batch or (CUDA_BATCH if self._cuda else CPU_BATCH)
        self._bfloat16 = self._cuda and torch.cuda.get_device_capability(self._device) >= BFLOAT16_SINCE
        precision = "bfloat16" if self._bfloat16 else "float32"
        workers = "" if self._cuda else f", {torch.get_num_threads()} threads"
        self.choice = f"{self.device}: {why}; {precision}, batches of {self.batch}{workers}"
        self._networks = {
            prefix: self._load(checkpoint, (views or {}).get(prefix, 1)) for prefix, checkpoint in checkpoints.items()
        }
        self._feed: Feed | None = None

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NetworkOutput]:
        """Images (M, C, S, S), M may be 0 and the array read-only, to each network's output by column prefix.

        An image depends on no other: batches have one size, their tail is padded. Images of another size than a
        network's are resized on the device. An image whose logits are not finite gets NaN probabilities.
        Raises ValueError for arrays of another shape or type; errors of CUDA pass through.
        """
        self._check(images)
        parts: dict[str, list[_Part]] = {prefix: [] for prefix in self._networks}
        with torch.inference_mode():
            for batch in self._feed_of(images).batches(images):
                self._predict(batch, parts)
            return {prefix: network.output(parts[prefix], len(images)) for prefix, network in self._networks.items()}

    def _predict(self, batch: Tensor, parts: dict[str, list[_Part]]) -> None:
        """Every network over one batch (B, C, S, S) uint8 on the device. Nothing here waits for the device."""
        planes = batch.to(torch.float32, memory_format=torch.channels_last) / 255
        sizes = {network.config.size for network in self._networks.values()}
        sized = {size: _resized(planes, size) for size in sizes}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            for prefix, network in self._networks.items():
                parts[prefix].append(network.predict(sized[network.config.size]))

    def _load(self, checkpoint: Checkpoint, views: int) -> _Loaded:
        module = checkpoint.build().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not self._cuda and isinstance(module, DMAGNet):
            module = FoldedDMAGNet(module)
        prior, novelty = checkpoint.prior, checkpoint.novelty
        return _Loaded(
            module,
            checkpoint.config,
            checkpoint.temperature,
            shift=None if prior is None else torch.tensor(prior.shift, device=self._device),
            novelty=None if novelty is None else novelty.to(self._device),
            turned=views > 1,
        )

    def _feed_of(self, images: NDArray[np.uint8]) -> Feed:
        shape = (self.batch, *images.shape[1:])
        if self._feed is None or self._feed.shape != shape:
            self._feed = CudaFeed(shape, self._device) if self._cuda else HostFeed(shape)
        return self._feed

    def _check(self, images: NDArray[np.uint8]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise ValueError(f"expected uint8 images (M, C, S, S), got {images.dtype} {images.shape}")
        for prefix, network in self._networks.items():
            if images.shape[1] != network.config.bands:
                raise ValueError(f"{prefix}: expected {network.config.bands} channels, got {images.shape[1]}")


def _choose(device: str | None) -> tuple[torch.device, str]:
    """The device and why it is this one."""
    available = torch.cuda.is_available()
    if device is None:
        return (torch.device("cuda"), "the default") if available else (torch.device("cpu"), "torch sees no CUDA")
    if torch.device(device).type == "cuda" and not available:
        raise JobError(f"device {device} was asked for, but torch {torch.__version__} sees no CUDA device")
    return torch.device(device), "asked for"


def planes_at(images: Tensor, size: int) -> Tensor:
    """Images (B, C, S, S) uint8 as what a network of `size` pixels a side is given: (B, C, size, size) in [0, 1]."""
    return _resized(images.to(torch.float32) / 255, size)


def _resized(planes: Tensor, size: int) -> Tensor:
    """Planes (B, C, S, S) at `size` pixels a side, anti-aliased; themselves where they have that size."""
    if planes.shape[-1] == size:
        return planes
    return F.interpolate(planes, (size, size), mode="bilinear", antialias=True)


@dataclass(frozen=True, eq=False)
class _Part:
    """One network's say on one batch, padding included, on the device."""

    numbers: Tensor  # (B, 2K + 3 + columns) float32: logits, probabilities, entropy, spread, novelty, attention
    maps: Tensor  # (B, 256) uint8


@dataclass(frozen=True, eq=False)
class _Loaded:
    module: Network
    config: NetworkConfig
    temperature: float
    shift: Tensor | None  # (K,) Prior.shift
    novelty: Novelty | None
    turned: bool  # whether the other seven views are looked at too

    def predict(self, planes: Tensor) -> _Part:
        """Planes (B, C, size, size) in [0, 1]."""
        result = self.module(planes)
        said = self._probabilities(result.logits)
        statistics, maps = summarise(result.attention)
        scalars = [result.scalars[name].float() for name in self.config.scalars]
        sure = [_entropy(said), self._spread(planes, said), self._novelty(result)]
        rest = torch.stack([*sure, *statistics.unbind(1), *scalars], 1)
        return _Part(torch.cat([result.logits.float(), said, rest], 1), maps)

    def output(self, parts: list[_Part], count: int) -> NetworkOutput:
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
            return self.novelty.score(result.features, result.logits)


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
