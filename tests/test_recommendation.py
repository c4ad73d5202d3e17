"""The purity and completeness of what a catalogue recommends, measured on labelled images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.catalogue.recommended import published_cuts
from pipeline.data import NOVEL
from pipeline.evaluation.evaluate import evaluate, finished, material
from pipeline.evaluation.intervals import wilson
from pipeline.evaluation.judgement import Said
from pipeline.evaluation.recommendation import recommendations
from pipeline.evaluation.record import record
from pipeline.models.checkpoint import CLASSES, read_checkpoint
from tests.evaluated import recipe

SPIRAL = np.array([0.95, 0.85, 0.80, 0.79, 0.81, 0.10])  # as float64: 0.8 itself is enough
SAID = Said(np.stack([SPIRAL, 1 - SPIRAL], 1), np.stack([SPIRAL, 1 - SPIRAL], 1), 1.0, 1.0)
LABELS = np.array([0, 0, 1, 0, 0, 1])
CUTS = replace(published_cuts(), probability=0.8)


def test_purity_is_of_the_recommended_and_completeness_of_the_class() -> None:
    spiral, other = recommendations(SAID, LABELS, ("spiral", "other"), CUTS)
    assert (spiral.name, spiral.least, spiral.images, spiral.recommended) == ("spiral", 0.8, 4, 4)
    assert (spiral.purity, spiral.completeness) == (wilson(3, 4), wilson(3, 4))
    assert (other.images, other.recommended) == (2, 1)
    assert (other.purity, other.completeness) == (wilson(1, 1), wilson(1, 2))


def test_a_class_has_its_own_cut_and_what_is_novel_is_not_recommended() -> None:
    novelty = np.array([NOVEL, 0.0, np.nan, 0.0, NOVEL - 0.01, 9.0])
    strict = replace(CUTS, classes={"spiral": 0.9})
    assert recommendations(SAID, LABELS, ("spiral", "other"), strict)[0].recommended == 1
    spiral, other = recommendations(replace(SAID, novelty=novelty), LABELS, ("spiral", "other"), CUTS)
    assert (spiral.recommended, other.recommended) == (3, 0)
    assert np.isnan(other.purity.value) and other.completeness.value == 0
    blind = replace(CUTS, flags=("MASKED",))
    assert recommendations(replace(SAID, novelty=novelty), LABELS, ("spiral", "other"), blind)[0].recommended == 4


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest) -> dict[str, object]:
    given = material(recipe(), request.getfixturevalue("discs"))
    path = request.getfixturevalue("discs_checkpoint")
    checkpoint = finished(read_checkpoint(path.read_bytes(), path.name), given)
    return record(evaluate(checkpoint, given), given, "tiny", "cpu")


def test_every_evaluation_says_it_of_every_set(said: dict[str, object]) -> None:
    found = said["recommended"]
    assert isinstance(found, dict)
    assert list(found) == [one["name"] for one in said["sets"]]  # type: ignore[attr-defined]
    survey = {one["name"]: one for one in found["survey"]}
    assert tuple(survey) == CLASSES
    assert survey["round"]["purity"]["value"] == 1
    assert 0.9 < survey["round"]["completeness"]["value"] <= 1
    assert survey["round"]["least"] == published_cuts().probability


def test_the_cuts_are_read_without_pydantic() -> None:
    code = "import sys; sys.modules['pydantic'] = None; import pipeline.evaluation.recommendation as r"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
