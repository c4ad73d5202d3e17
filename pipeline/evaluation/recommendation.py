"""How pure and how complete the galaxies are that a catalogue recommends of each class, by schemas/recommended.yaml.

Of the cuts there, those on the probability and on novelty (OUT_OF_DISTRIBUTION) are applied. The status and the other
flags say what is wrong with a survey's image at a position: labelled images come without, as if all were sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.catalogue.recommended import Cuts
from pipeline.data import NOVEL, RowFlag
from pipeline.evaluation.intervals import Estimate, wilson
from pipeline.evaluation.judgement import Said
from pipeline.evaluation.scores import Labels


@dataclass(frozen=True)
class Recommendation:
    """One class of one set of labelled images."""

    name: str
    least: float  # probability
    images: int  # of the class
    recommended: int
    purity: Estimate  # share of the recommended images that are of the class
    completeness: Estimate  # share of the images of the class that are recommended


def recommendations(said: Said, labels: Labels, classes: Sequence[str], cuts: Cuts) -> tuple[Recommendation, ...]:
    """Of images with labels (N,), a class each; NaN where none is recommended, or none is of the class."""
    known = np.ones(len(labels), bool)
    if RowFlag.OUT_OF_DISTRIBUTION in cuts.excluded and said.novelty is not None:
        known = ~(said.novelty >= NOVEL)  # NaN is not novel, as in a catalogue
    found = []
    for number, name in enumerate(classes):
        chosen, member = known & (said.calibrated[:, number] >= cuts.least(name)), labels == number
        right, recommended, images = int((chosen & member).sum()), int(chosen.sum()), int(member.sum())
        purity, completeness = wilson(right, recommended), wilson(right, images)
        found.append(Recommendation(name, cuts.least(name), images, recommended, purity, completeness))
    return tuple(found)
