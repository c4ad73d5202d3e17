"""Are stars, spikes, trails, halos and empty sky told from galaxies? Areas under the ROC curve of the shipped score.

Beside it stands the plainest other score, the probability that is missing to certainty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.intervals import Estimate, Floats, auroc


@dataclass(frozen=True, eq=False)
class Strangeness:
    """Two scores of N images, both higher where they are stranger."""

    novelty: Floats
    doubt: Floats  # 1 - the largest probability


@dataclass(frozen=True)
class Separation:
    """One kind of what is no galaxy against one set of galaxies."""

    kind: str
    galaxies: str
    images: tuple[int, int]  # of the kind, of galaxies
    novelty: Estimate  # area under the ROC curve
    doubt: Estimate


def separations(kinds: Mapping[str, Strangeness], galaxies: Mapping[str, Strangeness]) -> list[Separation]:
    """Every kind, and then all together, against every set of galaxies. Scores that are NaN are left out."""
    together = Strangeness(*(np.concatenate([getattr(one, name) for one in kinds.values()]) for name in _SCORES))
    return [
        Separation(
            kind=kind,
            galaxies=name,
            images=(len(strange.doubt), len(plain.doubt)),
            novelty=auroc(_known(strange.novelty), _known(plain.novelty)),
            doubt=auroc(_known(strange.doubt), _known(plain.doubt)),
        )
        for name, plain in galaxies.items()
        for kind, strange in {**kinds, "all": together}.items()
    ]


_SCORES = ("novelty", "doubt")


def _known(scores: Floats) -> Floats:
    return scores[np.isfinite(scores)]
