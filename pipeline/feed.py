"""Images to the device, batch by batch, in one shape: the tail of the last batch is padded with zeros.

On CUDA two pinned buffers and a copy stream bring the next batch over while the networks work on this one
(reference/engine-catalogue-ops.md sec. 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Feed(Protocol):
    """Brings images to the device in batches of one shape."""

    shape: tuple[int, ...]  # (B, C, S, S)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        """Images (M, C, S, S) as uint8 batches on the device; each is valid until the next one is asked for."""
        ...


class HostFeed:
    """One buffer in this process's memory, filled anew for each batch."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._buffer = torch.empty(shape, dtype=torch.uint8)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        for part in _split(images, self.shape[0]):
            _fill(self._buffer, part)
            yield self._buffer


class CudaFeed:
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
