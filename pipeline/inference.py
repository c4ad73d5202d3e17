"""Images in, probabilities and attention out: every network of a job in one pass over fixed batches.

CPU and CUDA run the same code with another feed (feed.py), and both run the networks channels last: on the CPU every
network is 1.2 to 1.9 times as fast so. On the CPU they run in float32 and eagerly, DMAGNet in the form of
models/dmagnet_cpu.py. On CUDA precision, batch and way are chosen by trying them on the device (forward.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data import NetworkOutput
from pipeline.errors import JobError
from pipeline.feed import CudaFeed, Feed, HostFeed
from pipeline.forward import FREE, Captured, Forward, best_batch, fastest, images_second
from pipeline.loaded import LoadedNetwork, Part
from pipeline.memory import keep_freed_memory
from pipeline.models.checkpoint import Checkpoint

CPU_BATCH = 16  # on one thread torch gives smaller batches of pointwise layers to a kernel of half the speed
FIRST_BATCH, MOST_BATCH = 64, 4096  # on CUDA, tried by doubling
BFLOAT16_SINCE = (8, 0)  # CUDA compute capability (Ampere); older devices only emulate it
FLIPS = 0.001  # of the images, whose class a coarser precision may change
COMPARED = 1024  # images that precisions are compared on
PRECISIONS: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


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
        precision: str | None = None,
    ) -> None:
        """`checkpoints` by column prefix; `threads` is torch's, and the whole process's, number of CPU threads.

        `views` by column prefix, 1 where it is not given: 8 shows a network each image in its eight flips and
        quarter turns, for the spread of what it says, at eight times the cost. `precision`, a key of PRECISIONS, is
        chosen where it is not given. Raises JobError where CUDA is asked for and absent.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device, why = _choose(device)
        self.device = str(self._device)
        cuda = self._device.type == "cuda"
        if not cuda:
            keep_freed_memory()
        self._networks = {
            prefix: LoadedNetwork.of(checkpoint, self._device, (views or {}).get(prefix, 1))
            for prefix, checkpoint in checkpoints.items()
        }
        self._feed: Feed | None = None
        self.batch = batch or (FIRST_BATCH if cuda else CPU_BATCH)
        self._precision = PRECISIONS[precision or "float32"]
        self._forward: Forward = self.forward
        workers = "" if cuda else f", {torch.get_num_threads()} threads"
        reasons = self._settle(batch, precision) if cuda else ""
        self.choice = f"{self.device}: {why}; {self.precision}, batches of {self.batch}{workers}{reasons}"

    @property
    def precision(self) -> str:
        """A key of PRECISIONS."""
        return next(name for name, dtype in PRECISIONS.items() if dtype == self._precision)

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NetworkOutput]:
        """Images (M, C, S, S), M may be 0 and the array read-only, to each network's output by column prefix.

        An image depends on no other: batches have one size, their tail is padded. Images of another size than a
        network's are resized on the device. An image whose logits are not finite gets NaN probabilities.
        Raises ValueError for arrays of another shape or type; errors of CUDA pass through.
        """
        self._check(images)
        parts: dict[str, list[Part]] = {prefix: [] for prefix in self._networks}
        forward = self._forward if images.shape[1:] == self._shape else self.forward
        with torch.inference_mode():
            for batch in self._feed_of(images).batches(images):
                for prefix, part in zip(parts, _pairs(forward(batch)), strict=True):
                    parts[prefix].append(part)
            return {prefix: network.output(parts[prefix], len(images)) for prefix, network in self._networks.items()}

    @property
    def chosen(self) -> Forward:
        """`forward`, in the way that was found fastest for batches of `batch` images."""
        return self._forward

    def forward(self, batch: Tensor) -> list[Tensor]:
        """Every network over one batch (B, C, S, S) uint8 on the device: the two tensors of each one's Part in turn.

        Nothing here waits for the device.
        """
        planes = batch.to(torch.float32, memory_format=torch.channels_last) / 255
        sizes = {network.config.size for network in self._networks.values()}
        sized = {size: _resized(planes, size) for size in sizes}
        # No cache: a CUDA graph would hold the cast weights of the call that it was captured from.
        coarse = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision if coarse else None, coarse, cache_enabled=False):
            parts = [network.predict(sized[network.config.size]) for network in self._networks.values()]
        return [tensor for part in parts for tensor in (part.numbers, part.maps)]

    def flips(self, precision: str, count: int = COMPARED) -> float:
        """The share of test images that get another class in a precision than in float32, in the worst network."""
        asked = self._precision
        try:
            with torch.inference_mode():
                self._precision = torch.float32
                exact = self._classes(count)
                self._precision = PRECISIONS[precision]
                coarse = self._classes(count)
        finally:
            self._precision = asked
        return max(float((one != other).float().mean()) for one, other in zip(exact, coarse, strict=True))

    def _classes(self, count: int) -> list[Tensor]:
        """Of test images, by each network (count,)."""
        batches = [self.forward(batch) for batch in torch.split(self._tests(count), self.batch)]
        numbers = [torch.cat([batch[2 * number] for batch in batches]) for number in range(len(self._networks))]
        return [
            found[:, : network.config.classes].argmax(1)
            for found, network in zip(numbers, self._networks.values(), strict=True)
        ]

    def _settle(self, batch: int | None, precision: str | None) -> str:
        """Choose precision, batch and way on CUDA by trying them; gives the reasons."""
        torch.cuda.set_per_process_memory_fraction(1 - FREE, self._device)
        reasons = ""
        if precision is None and torch.cuda.get_device_capability(self._device) >= BFLOAT16_SINCE:
            share = self.flips("bfloat16")
            reasons = f"; bfloat16 changes the class of {share:.2%} of {COMPARED} test images"
            self._precision = torch.bfloat16 if share <= FLIPS else torch.float32
        with torch.inference_mode():
            if batch is None:
                self.batch = best_batch(
                    lambda count: images_second(self.forward, self._tests(count)), FIRST_BATCH, MOST_BATCH
                )
            torch.cuda.empty_cache()
            tests = self._tests(self.batch)
            self._forward, tried = fastest(self._ways(tests), lambda forward: images_second(forward, tests))
        return f"{reasons}; {', '.join(map(str, tried))}"

    def _ways(self, tests: Tensor) -> Mapping[str, Callable[[], Forward]]:
        """What there is to run the networks over batches of one shape."""

        def compiled() -> Forward:
            self._networks = {prefix: network.compiled() for prefix, network in plain.items()}
            try:
                return Captured(self.forward, tests)
            finally:
                self._networks = plain

        plain = self._networks
        return {
            "eager": lambda: self.forward,
            "CUDA graph": lambda: Captured(self.forward, tests),
            "compiled CUDA graph": compiled,
        }

    @property
    def _shape(self) -> tuple[int, int, int]:
        """C, S, S of the images that the way was chosen for: of the largest network."""
        config = max((network.config for network in self._networks.values()), key=lambda config: config.size)
        return config.bands, config.size, config.size

    def _tests(self, count: int) -> Tensor:
        """Test images (count, C, S, S) uint8 on the device, of the largest network's size."""
        return drawn_images(count, *self._shape[:2]).to(self._device)

    def _feed_of(self, images: NDArray[np.uint8]) -> Feed:
        shape = (self.batch, *images.shape[1:])
        if self._feed is None or self._feed.shape != shape:
            cuda = self._device.type == "cuda"
            self._feed = CudaFeed(shape, self._device) if cuda else HostFeed(shape)
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


def drawn_images(count: int, bands: int, size: int, seed: int = 0) -> Tensor:
    """Images (count, C, S, S) uint8: blobs of many sizes, shapes and colours in noise, in place of galaxies."""
    draw = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, size)
    x, y = axis[None, None, :], axis[None, :, None]
    centre, width = (
        torch.rand(2, count, 1, 1, generator=draw) - 0.5,
        0.05 + 0.4 * torch.rand(2, count, 1, 1, generator=draw),
    )
    blob = torch.exp(-(((x - centre[0]) / width[0]) ** 2) - ((y - centre[1]) / width[1]) ** 2)  # (count, S, S)
    colours = torch.rand(count, bands, 1, 1, generator=draw)
    noise = 0.05 * torch.rand(count, bands, size, size, generator=draw)
    return (255 * (blob[:, None] * colours * 0.95 + noise)).to(torch.uint8)


def _pairs(tensors: Sequence[Tensor]) -> list[Part]:
    """What `forward` gave, network by network."""
    return [Part(numbers, maps) for numbers, maps in zip(tensors[::2], tensors[1::2], strict=True)]
