"""Does the class hang on what the map marks? Images with their most attended pixels taken away, or only those left.

Deletion and insertion of RISE (Petsiuk, Das and Saenko 2018, arXiv:1806.07421): pixels go, or come, in
the order of the map, and the probability of the class is watched. The area under its curve is small for a good
map under deletion and large under insertion. As there, deletion goes to a constant image and insertion starts
from a blurred one. Images are (N, C, S, S) in [0, 1], maps (N, h, w).

Pixels that a map holds equal go in an order drawn by lot from a seed, the same for every image: row by row,
a uniform map would sweep the image like a shutter. What happens to an image depends on that image alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.attention import distribution
from pipeline.data import ImageContract
from pipeline.preprocess import colours

Classifier = Callable[[Tensor], Tensor]  # images (N, C, S, S) to probabilities (N, K)

LEVELS = 2.0**24  # of importance below the highest: closer pixels differ by rounding alone, and are equal
EXCESS = 1e-2  # by which a probability may leave [0, 1], the step of bfloat16 at 1 being 0.008


@dataclass(frozen=True, eq=False)
class Curve:
    """The probability of the whole image's class as its pixels go or come."""

    changed: Tensor  # (T,) float64, share of the pixels changed: from 0 to 1
    probability: Tensor  # (N, T) float64

    @property
    def area(self) -> Tensor:
        """(N,) float64 in [0, 1], by trapezia."""
        return torch.trapezoid(self.probability, self.changed, dim=1)


@dataclass(frozen=True)
class Steps:
    """How finely pixels go or come, and the lot by which equals are ordered."""

    count: int = 32  # forward passes, less one; RISE takes a row of pixels a step
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"expected at least 1 step, got {self.count}")


def deletion(classify: Classifier, images: Tensor, baseline: Tensor, maps: Tensor, steps: Steps = Steps()) -> Curve:
    """Each image gives way to its baseline, the most attended pixels first. A small area is good.

    Raises ValueError where `classify` does not give probabilities.
    """
    changed, seen = _replaced(classify, images, baseline, maps, steps)
    return Curve(changed, _of_class(seen, whole=0))


def insertion(classify: Classifier, images: Tensor, baseline: Tensor, maps: Tensor, steps: Steps = Steps()) -> Curve:
    """The baseline gives way to each image, the most attended pixels first. A large area is good.

    Raises ValueError where `classify` does not give probabilities.
    """
    changed, seen = _replaced(classify, baseline, images, maps, steps)
    return Curve(changed, _of_class(seen, whole=-1))


def no_flux(images: Tensor, contract: ImageContract) -> Tensor:
    """A baseline without a galaxy: the contract's colour of no flux, which is not black, in every pixel.

    It is also what pixels without data look like. Raises ValueError where the contract has other planes.
    """
    if images.shape[1] != len(contract.planes):
        raise ValueError(f"the contract has the planes {contract.planes}, the images have {images.shape[1]}")
    colour = colours(np.zeros((len(contract.bands), 1, 1), np.float32), contract)  # (C, 1, 1) uint8
    return (torch.from_numpy(colour).to(images) / 255).expand_as(images)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """A baseline without detail: each image under a Gaussian of `sigma` image sides.

    The kernel is normalised over the pixels that there are, so that a constant image stays as it is. Raises
    ValueError where sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"expected a positive sigma, got {sigma}")
    rows, columns = (_kernel(side, sigma, images) for side in images.shape[2:])
    return rows @ images @ columns.T


def _replaced(classify: Classifier, before: Tensor, after: Tensor, maps: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """The shares (T,) of pixels changed from `before` to `after`, and the probabilities (T, N, K) at each."""
    rank = _ranks(maps, before.shape[2:], steps.seed)[:, None]  # (N, 1, S, S)
    pixels = rank[0].numel()
    counts = torch.linspace(0, pixels, steps.count + 1, dtype=torch.float64).round()
    seen = [_probabilities(classify, torch.where(rank < count, after, before)) for count in counts.tolist()]
    return (counts / pixels).to(rank.device), torch.stack(seen)


def _ranks(maps: Tensor, sides: torch.Size, seed: int) -> Tensor:
    """(N, S, S) int64: 0 at the pixel that each map marks most, on the image's grid; a coarse map bilinearly."""
    p, _ = distribution(maps.double())
    fine = F.interpolate(p[:, None], sides, mode="bilinear", antialias=True).flatten(1)
    importance = (fine / fine.amax(1, keepdim=True) * LEVELS).round()  # (N, S * S)
    lot = torch.randperm(importance.shape[1], generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = lot[importance[:, lot].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(-1, *sides)


def _probabilities(classify: Classifier, images: Tensor) -> Tensor:
    found = classify(images).double()
    if not ((found >= -EXCESS) & (found <= 1 + EXCESS)).all():
        raise ValueError(f"expected probabilities, got {found.amin().item():.3g} to {found.amax().item():.3g}")
    return found


def _of_class(seen: Tensor, whole: int) -> Tensor:
    """(N, T) of probabilities (T, N, K): those of the class that each image has at step `whole`."""
    label = seen[whole].argmax(1)  # (N,)
    return seen.gather(2, label.expand(len(seen), -1)[:, :, None]).squeeze(2).T


def _kernel(side: int, sigma: float, like: Tensor) -> Tensor:
    """(side, side), rows of sum 1."""
    place = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    weight = torch.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    return (weight / weight.sum(1, keepdim=True)).to(like)
