"""Several checkpoints on the same images: their scores beside each other, and whether the differences are real."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow.parquet as pq

from pipeline.errors import JobError
from pipeline.evaluation.calibration import softmax
from pipeline.evaluation.evaluate import Evaluation, Material
from pipeline.evaluation.intervals import Estimate
from pipeline.evaluation.judgement import Judgement, Said, headline, judge
from pipeline.evaluation.scores import Labels, differences

Measures: TypeAlias = Mapping[str, Estimate]

SEEDED = re.compile(r"(?P<name>.+?)[-_]?(?:seed|s)[-_]?\d+")


@dataclass(frozen=True, eq=False)
class Participant:
    """One of those that are compared; both mappings are by the name of a set."""

    classes: tuple[str, ...]
    judgements: Mapping[str, Judgement]
    said: Mapping[str, Said]


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


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in their seed alone, on one set."""

    set: str
    name: str
    runs: int
    headline: Mapping[str, tuple[float, float]]  # measure -> mean, standard deviation of the runs
    own: Mapping[str, tuple[float, float]]


def compared(participants: Mapping[str, Participant], given: Material) -> list[Compared]:
    """Every participant on every set that the first was judged on, the first's measures less each other's.

    Raises JobError where classes differ.
    """
    first = next(iter(participants.values()))
    labels = {one.name: one.examples.labels for one in (*given.test, *given.others)}
    found = []
    for name in first.judgements:
        for title, other in participants.items():
            if other.classes != first.classes:
                raise JobError(f"{title} has other classes than the first checkpoint: they cannot be compared")
            if name in other.judgements:
                less = None if other is first else _less(first, other, name, labels[name])
                found.append(_row(title, other.judgements[name], less))
    return found


def participant(evaluation: Evaluation) -> Participant:
    """A checkpoint as one of those that are compared."""
    return Participant(
        classes=evaluation.checkpoint.classes,
        judgements={one.name: one for one in evaluation.judgements},
        said=evaluation.said,
    )


def outsider(path: Path, given: Material) -> Participant:
    """What answered without being a checkpoint: a table of `id` and a logit a class, as the ANN of 1992 writes it.

    Its temperature is 1. Raises JobError where a class or a test image lacks.
    """
    table = pq.read_table(path).to_pydict()
    classes = given.recipe.data.classes
    if missing := [name for name in ("id", *classes) if name not in table]:
        raise JobError(f"{path} lacks the columns {', '.join(missing)}")
    rows = {str(name): row for row, name in enumerate(table["id"])}
    logits = np.stack([np.array(table[name], np.float64) for name in classes], 1)
    said, judgements = {}, {}
    for one in given.test:
        if lacking := [str(name) for name in one.examples.ids if str(name) not in rows]:
            raise JobError(f"{path} has no answer for {len(lacking)} test images, {lacking[0]} among them")
        found = softmax(logits[[rows[str(name)] for name in one.examples.ids]])
        said[one.name] = Said(raw=found, calibrated=found, temperature=1.0, images_per_second=math.nan)
        judgements[one.name] = judge(one.name, one.examples.labels, classes, said[one.name], one.axis_ratio)
    return Participant(classes, judgements, said)


def over_seeds(rows: Sequence[Compared]) -> list[Seeds]:
    """Mean and standard deviation over the runs of one name, `NAME_seed0`, `NAME_seed1`, ..., two at least."""
    groups: dict[tuple[str, str], list[Compared]] = {}
    for row in rows:
        if (match := SEEDED.fullmatch(row.name)) is not None:
            groups.setdefault((row.set, match["name"]), []).append(row)
    return [
        Seeds(*key, len(runs), _spread([run.headline for run in runs]), _spread([run.own for run in runs]))
        for key, runs in groups.items()
        if len(runs) > 1
    ]


def _spread(runs: Sequence[Measures]) -> dict[str, tuple[float, float]]:
    values = {name: np.array([run[name].value for run in runs]) for name in runs[0]}
    return {name: (float(found.mean()), float(found.std(ddof=1))) for name, found in values.items()}


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


def _less(first: Participant, other: Participant, name: str, labels: Labels) -> tuple[Measures, Measures]:
    """The first's measures less the other's, of the headline's classes and of the networks' own."""
    classes = first.classes
    mine, theirs = (one.said[name].calibrated for one in (first, other))
    top, grouped = headline(mine, labels, classes)
    other_top, _ = headline(theirs, labels, classes)
    return (
        differences(grouped, top.argmax(1), other_top.argmax(1), top.shape[1]),
        differences(labels, mine.argmax(1), theirs.argmax(1), len(classes)),
    )
