"""How unlike its training galaxies an image is to a network: one number, from what the network makes of it.

Two scores, each of which sees what the other misses:

    energy      -ln sum_k exp(logit_k): high where no class is called (Liu et al. 2020, arXiv:2010.03759, eq. 4)
    distance    min_c (f - m_c)' S^-1 (f - m_c) of the features f, with the means m_c of the classes and their
                common covariance S: high where the features lie (Lee et al. 2018, arXiv:1807.03888, eq. 2)

Neither has a scale of its own, so each is read against galaxies of the training data that were held out:

    surprise    -log10 of the share of held-out galaxies whose score is at least as high

and `novelty` is the surprise of the larger of the two surprises: 0 for the most ordinary image, 1 where one
held-out galaxy in ten is as novel, 2 where one in a hundred is. Above TAIL held-out galaxies the share is that
of an exponential tail (peaks over a threshold: Coles 2001, An Introduction to Statistical Modeling of Extreme
Values, ch. 4, shape 0), so that among a billion galaxies the strangest still have an order.

pipeline/training/novelty.py fits it. Everything is a tensor, stored in the checkpoint under `novelty.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

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
class Novelty:
    """Fitted to the features (N, D) and logits (N, K) of a trained network."""

    means: Tensor  # (C, D) of the classes' features, whitened
    whitening: Tensor  # (D, D): (f - centre) @ whitening has unit covariance within a class
    centre: Tensor  # (D,) mean of the features, so that float32 has no large numbers to subtract
    energy: Scale
    distance: Scale
    both: Scale  # of the larger of the two surprises

    def score(self, features: Tensor, logits: Tensor) -> Tensor:
        """(N,) float32 novelty; NaN where features or logits are not finite."""
        first = self.energy.surprise(energy(logits))
        second = self.distance.surprise(self.distances(features))
        return self.both.surprise(torch.maximum(first, second))

    def distances(self, features: Tensor) -> Tensor:
        """(N,) squared Mahalanobis distance from features (N, D) to the nearest class."""
        white = (features.float() - self.centre) @ self.whitening
        return ((white[:, None] - self.means) ** 2).sum(2).amin(1)

    def to(self, device: torch.device) -> Novelty:
        """The same on another device."""
        return novelty_of({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under the name that it has in a checkpoint."""
        flat = {name: getattr(self, name) for name in _PLAIN}
        for scale in _SCALES:
            flat |= {f"{scale}.{field.name}": getattr(getattr(self, scale), field.name) for field in fields(Scale)}
        return {PREFIX + name: tensor for name, tensor in flat.items()}


_PLAIN = ("means", "whitening", "centre")
_SCALES = ("energy", "distance", "both")


def energy(logits: Tensor) -> Tensor:
    """(N,) free energy of logits (N, K) at temperature 1."""
    return -logits.float().logsumexp(1)


def novelty_of(tensors: Mapping[str, Tensor]) -> Novelty:
    """The model of `Novelty.tensors`. Raises ValueError where a tensor lacks, is too many or does not fit."""
    wanted = {PREFIX + name for name in _PLAIN}
    wanted |= {f"{PREFIX}{scale}.{field.name}" for scale in _SCALES for field in fields(Scale)}
    if wanted != tensors.keys():
        raise ValueError(f"missing or unknown tensors: {', '.join(sorted(wanted ^ tensors.keys()))}")
    scales = {
        scale: Scale(**{field.name: tensors[f"{PREFIX}{scale}.{field.name}"] for field in fields(Scale)})
        for scale in _SCALES
    }
    plain = {name: tensors[PREFIX + name] for name in _PLAIN}
    found = Novelty(plain["means"], plain["whitening"], plain["centre"], *(scales[name] for name in _SCALES))
    _check(found)
    return found


def _check(novelty: Novelty) -> None:
    for name, tensor in novelty.tensors().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite float32, got {tensor.dtype}")
    width = novelty.centre.numel()
    if novelty.centre.ndim != 1:
        raise ValueError(f"{PREFIX}centre: expected (D,), got {tuple(novelty.centre.shape)}")
    if novelty.means.ndim != 2 or novelty.means.shape[1:] != (width,) or not len(novelty.means):
        raise ValueError(f"{PREFIX}means: expected (C, {width}), got {tuple(novelty.means.shape)}")
    if novelty.whitening.shape != (width, width):
        raise ValueError(f"{PREFIX}whitening: expected ({width}, {width}), got {tuple(novelty.whitening.shape)}")
    for name in _SCALES:
        _check_scale(getattr(novelty, name), PREFIX + name)


def _check_scale(scale: Scale, name: str) -> None:
    shapes = [tuple(scale.scores.shape), tuple(scale.surprises.shape), tuple(scale.tail.shape)]
    if scale.scores.ndim != 1 or len(scale.scores) < 2 or shapes[1:] != [shapes[0], ()]:
        raise ValueError(f"{name}: expected scores (Q,), surprises (Q,) and a tail, got {shapes}")
    if (scale.scores.diff() < 0).any() or (scale.surprises.diff() < 0).any() or scale.tail < 0:
        raise ValueError(f"{name}: expected scores and surprises that ascend")
