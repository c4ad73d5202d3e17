"""How a device runs the networks: ways that are tried on it, and the batch that it likes.

Nothing here knows networks: a forward takes a batch (B, C, S, S) uint8 on the device and gives tensors. That is how the
choosing is tested without a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Forward = Callable[[Tensor], Sequence[Tensor]]

GAIN = 1.03  # of images/s, that the next larger batch must give (engine-catalogue-ops.md sec. 5)
FREE = 0.15  # of the memory, that is left to others (same)
WARM_UP = 3  # calls before a capture (docs.pytorch.org, CUDA semantics, "CUDA graphs")
TRIALS = 5  # calls that are timed


@dataclass(frozen=True)
class Tried:
    """One way to run the networks, and what it gave."""

    name: str
    rate: float  # images/s; 0 where it failed
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.name} fails ({self.failure})" if self.failure else f"{self.name} {self.rate:,.0f} images/s"


def fastest(
    ways: Mapping[str, Callable[[], Forward]], rate: Callable[[Forward], float]
) -> tuple[Forward, tuple[Tried, ...]]:
    """The way of the highest rate, and what was tried, best first. Ways that raise RuntimeError are passed over.

    Torch's errors of compiling, capturing and memory are RuntimeErrors. Raises the last one where every way fails.
    """
    found: list[tuple[Tried, Forward | None]] = []
    last = RuntimeError("no way to run the networks was given")
    for name, make in ways.items():
        try:
            forward = make()
            found.append((Tried(name, rate(forward)), forward))
        except RuntimeError as error:
            last = error
            found.append((Tried(name, 0.0, f"{error}".strip().split("\n", 1)[0][:200] or type(error).__name__), None))
    found.sort(key=lambda each: -each[0].rate)
    best = found[0][1] if found else None
    if best is None:
        raise last
    return best, tuple(tried for tried, _ in found)


def best_batch(rate: Callable[[int], float], first: int, most: int) -> int:
    """The batch from which doubling gives less than GAIN more images/s, or than which memory holds no larger one.

    Raises torch.OutOfMemoryError where not even the first fits.
    """
    batch, images_second = first, rate(first)
    while batch * 2 <= most:
        try:
            doubled = rate(batch * 2)
        except torch.OutOfMemoryError:
            return batch
        if doubled < GAIN * images_second:
            return batch
        batch, images_second = batch * 2, doubled
    return batch


def images_second(forward: Forward, batch: Tensor) -> float:
    """Best of some calls, each waited for."""
    forward(batch)
    best = float("inf")
    for _ in range(TRIALS):
        wait(batch.device)
        started = time.perf_counter()
        forward(batch)
        wait(batch.device)
        best = min(best, time.perf_counter() - started)
    return len(batch) / best


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Captured:
    """A forward as one CUDA graph, for batches of one shape: nothing is launched kernel by kernel.

    Not for networks that ask the device what to do next (MBAN with `certain`): their capture raises RuntimeError.
    """

    def __init__(self, forward: Forward, batch: Tensor) -> None:
        device = batch.device
        self._images = batch.clone()
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                forward(self._images)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._said = tuple(forward(self._images))

    def __call__(self, batch: Tensor) -> Sequence[Tensor]:
        self._images.copy_(batch)
        self._graph.replay()
        return [each.clone() for each in self._said]  # the next replay writes over them
