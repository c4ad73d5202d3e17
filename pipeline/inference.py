"""Images in, probabilities and attention out: every network of a job in one pass over fixed batches.

CPU and CUDA run the same code with another feed. On CUDA two pinned buffers and a copy stream bring the next
batch over while the networks work on this one, channels last and in bfloat16 where the device has it
(reference/engine-catalogue-ops.md sec. 5). On the CPU the networks run in float32, eagerly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pipeline.attention import MAP_SIDE, attention_columns, summarise
from pipeline.data import NetworkOutput
from pipeline.errors import JobError
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.network import Network, NetworkConfig

CPU_BATCH = 16  # DMAGNet-F takes 84 ms an image and core at 8, 71 at 16 and at 32
CUDA_BATCH = 256  # reference/engine-catalogue-ops.md sec. 5: 256 to 1024 for networks of 256 pixels a side
BFLOAT16_SINCE = (8, 0)  # CUDA compute capability (Ampere); older devices only emulate it
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


class Predictor:
    """The networks of a job on one device. `choice` says in one line which device, precision and batch, and why."""

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint],
        *,
        device: str | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        """`checkpoints` by column prefix; `threads` is torch's, and the whole process's, number of CPU threads.

        Raises JobError where CUDA is asked for and absent.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device, why = _choose(device)
        self.device = str(self._device)
        self._cuda = self._device.type == "cuda"
        if not self._cuda:
            _keep_freed_memory()
        self.batch = batch or (CUDA_BATCH if self._cuda else CPU_BATCH)
        self._bfloat16 = self._cuda and torch.cuda.get_device_capability(self._device) >= BFLOAT16_SINCE
        precision = "bfloat16" if self._bfloat16 else "float32"
        workers = "" if self._cuda else f", {torch.get_num_threads()} threads"
        self.choice = f"{self.device}: {why}; {precision}, batches of {self.batch}{workers}"
        self._networks = {prefix: self._load(checkpoint) for prefix, checkpoint in checkpoints.items()}
        self._feed: _Feed | None = None

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
        layout = torch.channels_last if self._cuda else torch.contiguous_format
        planes = batch.to(torch.float32, memory_format=layout) / 255
        sizes = {network.config.size for network in self._networks.values()}
        sized = {size: _resized(planes, size) for size in sizes}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            for prefix, network in self._networks.items():
                parts[prefix].append(network.predict(sized[network.config.size]))

    def _load(self, checkpoint: Checkpoint) -> _Loaded:
        module = checkpoint.build().to(self._device)
        if self._cuda:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return _Loaded(module, checkpoint.config, checkpoint.temperature)

    def _feed_of(self, images: NDArray[np.uint8]) -> _Feed:
        shape = (self.batch, *images.shape[1:])
        if self._feed is None or self._feed.shape != shape:
            self._feed = _CudaFeed(shape, self._device) if self._cuda else _HostFeed(shape)
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


def _keep_freed_memory() -> None:
    """Have glibc keep the blocks that a batch frees for the next one, instead of returning each to the kernel.

    Page faults are otherwise 40 % of the time of DMAGNet-F: 121 ms an image and core instead of 71.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc only
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


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

    probabilities: Tensor  # (B, K) float32
    statistics: Tensor  # (B, columns) float32
    maps: Tensor  # (B, 256) uint8


@dataclass(frozen=True, eq=False)
class _Loaded:
    module: Network
    config: NetworkConfig
    temperature: float

    def predict(self, planes: Tensor) -> _Part:
        """Planes (B, C, size, size) in [0, 1]."""
        result = self.module(planes)
        logits = result.logits.float()
        finite = logits.isfinite().all(1, keepdim=True)
        probabilities = torch.where(finite, (logits / self.temperature).softmax(1), torch.nan)
        statistics, maps = summarise(result.attention)
        scalars = [result.scalars[name].float()[:, None] for name in self.config.scalars]
        return _Part(probabilities, torch.cat([statistics, *scalars], 1), maps)

    def output(self, parts: list[_Part], count: int) -> NetworkOutput:
        """The first `count` rows of all batches, on the host: the one place that waits for the device."""
        columns = attention_columns(self.config)
        statistics = _joined([part.statistics for part in parts], count, len(columns), torch.float32)
        return NetworkOutput(
            probabilities=_joined([part.probabilities for part in parts], count, self.config.classes, torch.float32),
            attention={name: statistics[:, i].copy() for i, name in enumerate(columns)},
            maps=_joined([part.maps for part in parts], count, MAP_SIDE**2, torch.uint8),
        )


def _joined(batches: list[Tensor], count: int, width: int, dtype: torch.dtype) -> NDArray[Any]:
    """The first `count` rows (count, width) of batches (B, width), which are none where there are no images."""
    rows = torch.cat(batches) if batches else torch.empty((0, width), dtype=dtype)
    return rows[:count].cpu().numpy()


class _Feed(Protocol):
    """Brings images to the device in batches of one shape."""

    shape: tuple[int, ...]  # (B, C, S, S)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        """Images (M, C, S, S) as uint8 batches on the device; each is valid until the next one is asked for."""
        ...


class _HostFeed:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._buffer = torch.empty(shape, dtype=torch.uint8)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        for part in _split(images, self.shape[0]):
            _fill(self._buffer, part)
            yield self._buffer


class _CudaFeed:
    """Two slots in turn: one is filled and copied while the networks still work on the other."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.shape = shape
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._slots = [_Slot.empty(shape, device) for _ in range(2)]
        # The allocator may have handed out memory that kernels in flight still read.
        self._stream.wait_stream(torch.cuda.current_stream(device))

    def batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        networks = torch.cuda.current_stream(self._device)
        for slot, part in zip(cycle(self._slots), _split(images, self.shape[0]), strict=False):
            slot.copied.synchronize()  # the pinned buffer is free when its last copy is over
            _fill(slot.pinned, part)
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(slot.read)
                slot.images.copy_(slot.pinned, non_blocking=True)
                slot.copied.record(self._stream)
            networks.wait_event(slot.copied)
            yield slot.images
            slot.read.record(networks)  # by now the networks' kernels on this batch are queued


@dataclass(frozen=True, eq=False)
class _Slot:
    pinned: Tensor  # (B, C, S, S) uint8 in page-locked host memory
    images: Tensor  # (B, C, S, S) uint8 on the device
    copied: torch.cuda.Event
    read: torch.cuda.Event  # an event that was never recorded holds nobody up

    @classmethod
    def empty(cls, shape: tuple[int, ...], device: torch.device) -> _Slot:
        pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        images = torch.empty(shape, dtype=torch.uint8, device=device)
        copied, read = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        return cls(pinned, images, copied, read)


def _split(images: NDArray[np.uint8], batch: int) -> Iterator[NDArray[np.uint8]]:
    return (images[start : start + batch] for start in range(0, len(images), batch))


def _fill(buffer: Tensor, images: NDArray[np.uint8]) -> None:
    """Copy M <= B images into a buffer (B, C, S, S), zeros after them. The one copy on the host.

    Through numpy, because torch warns of arrays that it may not write to, as those in shared memory are.
    """
    array = buffer.numpy()
    array[: len(images)] = images
    array[len(images) :] = 0
