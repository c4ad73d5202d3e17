"""How unlike its training galaxies an image is to a network: one number, from what the network makes of it.

Three scores, each of which sees what the others miss:

    energy            -ln sum_k exp(logit_k): high where no class is called (Liu et al. 2020, arXiv:2010.03759, eq. 4)
    distance          min_c (f - m_c)' S^-1 (f - m_c) of the features f, with the means m_c of the classes and their
                      common covariance S: high where no galaxy's lie (Lee et al. 2018, arXiv:1807.03888, eq. 2)
    early distance    the same of an earlier layer's features (their sec. 2.2): the longer a network is trained, the
                      less do the last ones keep of what does not tell its classes apart, that a star is none of them

None has a scale of its own, so each is read against galaxies of the training data that were held out:

    surprise          -log10 of the share of held-out galaxies whose score is at least as high

and `novelty` is the surprise of the largest of the three surprises: 0 for the most ordinary image, 1 where one
held-out galaxy in ten is as novel, 2 where one in a hundred is. Above TAIL held-out galaxies the share is that
of an exponential tail (peaks over a threshold: Coles 2001, An Introduction to Statistical Modeling of Extreme
Values, ch. 4, shape 0), so that among a billion galaxies the strangest still have an order.

pipeline/training/novelty.py fits it. Everything is a tensor, stored in the checkpoint under `novelty.`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

PREFIX = "novelty."


@dataclass(frozen=True, eq=False)
class Scale:
    """A score's surprise: (Q,) scores, ascending, and (Q,) the surprise at each; straight lines between them."""

    scores: Tensor
    surprises: Tensor
    tail: Tensor  # () surprise a unit of score, beyond the last

    def surprise(self, scores: Tensor) -> Tensor:
        """Scores (N,) to surprises (N,) of at least 0; NaN for NaN."""
        above = torch.searchsorted(self.scores, scores).clamp(1, len(self.scores) - 1)
        low, high = self.scores[above - 1], self.scores[above]
        # Scores that are equal have no distance to divide by.
        part = ((scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)).clamp(0, 1)
        between = torch.lerp(self.surprises[above - 1], self.surprises[above], part)
        return between + (scores - self.scores[-1]).clamp_min(0) * self.tail


@dataclass(frozen=True, eq=False)
class Classes:
    """Where a layer has the classes: normal distributions of one covariance."""

    means: Tensor  # (C, D) of the classes' features, whitened
    whitening: Tensor  # (D, D): (f - centre) @ whitening has unit covariance within a class
    centre: Tensor  # (D,) mean of the features, so that float32 has no large numbers to subtract

    def distances(self, features: Tensor) -> Tensor:
        """(N,) squared Mahalanobis distance from features (N, D) to the nearest class."""
        white = (features.float() - self.centre) @ self.whitening
        return ((white[:, None] - self.means) ** 2).sum(2).amin(1)


class Seen(NamedTuple):
    """What a network makes of N images, as in NetworkResult."""

    logits: Tensor  # (N, K)
    features: Tensor  # (N, D)
    early: Tensor  # (N, E)


@dataclass(frozen=True, eq=False)
class Novelty:
    """Fitted to what a trained network makes of galaxies."""

    late: Classes  # of NetworkResult.features
    early: Classes  # of NetworkResult.early
    energy: Scale
    distance: Scale
    early_distance: Scale
    largest: Scale  # of the largest of the three surprises

    def score(self, seen: Seen) -> Tensor:
        """(N,) float32 novelty; NaN where anything of it is not finite."""
        scales = (self.energy, self.distance, self.early_distance)
        found = self.largest.surprise(largest(scales, scores(self.late, self.early, seen)))
        finite = torch.stack([part.isfinite().all(1) for part in seen]).all(0)
        return torch.where(finite & found.isfinite(), found, torch.nan)

    def to(self, device: torch.device) -> Novelty:
        """The same on another device."""
        return novelty_of({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under the name that it has in a checkpoint."""
        return {f"{PREFIX}{part}.{name}": getattr(getattr(self, part), name) for part, name in _names()}


_PARTS: dict[str, type[Classes | Scale]] = {
    **dict.fromkeys(("late", "early"), Classes),
    **dict.fromkeys(("energy", "distance", "early_distance", "largest"), Scale),
}


def _names() -> list[tuple[str, str]]:
    return [(part, field.name) for part, kind in _PARTS.items() for field in fields(kind)]


def scores(late: Classes, early: Classes, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
    """The three scores (N,)."""
    return energy(seen.logits), late.distances(seen.features), early.distances(seen.early)


def largest(scales: Sequence[Scale], found: Sequence[Tensor]) -> Tensor:
    """(N,) the largest surprise of scores (N,), each on its scale; NaN where one is."""
    return torch.stack([scale.surprise(score) for scale, score in zip(scales, found, strict=True)]).amax(0)


def energy(logits: Tensor) -> Tensor:
    """(N,) free energy of logits (N, K) at temperature 1."""
    return -logits.float().logsumexp(1)


def novelty_of(tensors: Mapping[str, Tensor]) -> Novelty:
    """The model of `Novelty.tensors`. Raises ValueError where a tensor lacks, is too many or does not fit."""
    wanted = {f"{PREFIX}{part}.{name}" for part, name in _names()}
    if wanted != tensors.keys():
        raise ValueError(
            f"missing or unknown tensors, perhaps of another version: {', '.join(sorted(wanted ^ tensors.keys()))}"
        )
    parts: dict[str, Any] = {
        part: kind(**{field.name: tensors[f"{PREFIX}{part}.{field.name}"] for field in fields(kind)})
        for part, kind in _PARTS.items()
    }
    found = Novelty(**parts)
    _check(found)
    return found


def _check(novelty: Novelty) -> None:
    for name, tensor in novelty.tensors().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite float32, got {tensor.dtype}")
    for name in _PARTS:
        part = getattr(novelty, name)
        if isinstance(part, Classes):
            _check_classes(part, PREFIX + name)
        else:
            _check_scale(part, PREFIX + name)


def _check_classes(classes: Classes, name: str) -> None:
    width = classes.centre.numel()
    if classes.centre.ndim != 1:
        raise ValueError(f"{name}.centre: expected (D,), got {tuple(classes.centre.shape)}")
    if classes.means.ndim != 2 or classes.means.shape[1:] != (width,) or not len(classes.means):
        raise ValueError(f"{name}.means: expected (C, {width}), got {tuple(classes.means.shape)}")
    if classes.whitening.shape != (width, width):
        raise ValueError(f"{name}.whitening: expected ({width}, {width}), got {tuple(classes.whitening.shape)}")


def _check_scale(scale: Scale, name: str) -> None:
    shapes = [tuple(scale.scores.shape), tuple(scale.surprises.shape), tuple(scale.tail.shape)]
    if scale.scores.ndim != 1 or len(scale.scores) < 2 or shapes[1:] != [shapes[0], ()]:
        raise ValueError(f"{name}: expected scores (Q,), surprises (Q,) and a tail, got {shapes}")
    if (scale.scores.diff() < 0).any() or (scale.surprises.diff() < 0).any() or scale.tail < 0:
        raise ValueError(f"{name}: expected scores and surprises that ascend")
