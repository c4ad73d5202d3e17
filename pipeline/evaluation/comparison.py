"""Several checkpoints on the same images: their scores beside each other, and whether the differences are real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.errors import JobError
from pipeline.evaluation.evaluate import Evaluation, Material
from pipeline.evaluation.intervals import Estimate
from pipeline.evaluation.judgement import Judgement, headline
from pipeline.evaluation.scores import Labels, differences

Measures: TypeAlias = Mapping[str, Estimate]


@dataclass(frozen=True)
class Compared:
    """One checkpoint beside the first, on one set."""

    set: str
    name: str
    images: int
    headline: Measures  # measures of the headline's classes
    own: Measures  # of the network's own classes
    ece: Estimate
    nll: Estimate
    images_per_second: float
    headline_less: Measures | None  # the first's measures less this one's, paired; None for the first
    own_less: Measures | None


def compared(evaluations: Mapping[str, Evaluation], given: Material) -> list[Compared]:
    """Every checkpoint on every set with labels, the first beside each. Raises JobError where classes differ."""
    first = next(iter(evaluations.values()))
    found = []
    for number, judgement in enumerate(first.judgements):
        labels = next(one for one in (*given.test, *given.others) if one.name == judgement.name).examples.labels
        for name, other in evaluations.items():
            if other.checkpoint.classes != first.checkpoint.classes:
                raise JobError(f"{name} has other classes than the first checkpoint: they cannot be compared")
            less = None if other is first else _less(first, other, judgement.name, labels)
            found.append(_row(name, other.judgements[number], less))
    return found


def _row(
    name: str,
    judgement: Judgement,
    less: tuple[Measures, Measures] | None,
) -> Compared:
    return Compared(
        set=judgement.name,
        name=name,
        images=judgement.own.images,
        headline=judgement.headline.measures,
        own=judgement.own.measures,
        ece=judgement.after.ece,
        nll=judgement.after.nll,
        images_per_second=judgement.images_per_second,
        headline_less=None if less is None else less[0],
        own_less=None if less is None else less[1],
    )


def _less(first: Evaluation, other: Evaluation, name: str, labels: Labels) -> tuple[Measures, Measures]:
    """The first's measures less the other's, of the headline's classes and of the networks' own."""
    classes = first.checkpoint.classes
    mine, theirs = (one.said[name].calibrated for one in (first, other))
    top, grouped = headline(mine, labels, classes)
    other_top, _ = headline(theirs, labels, classes)
    return (
        differences(grouped, top.argmax(1), other_top.argmax(1), top.shape[1]),
        differences(labels, mine.argmax(1), theirs.argmax(1), len(classes)),
    )
