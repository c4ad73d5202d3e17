"""The baseline of 1992 on a recipe's images: same sides, same labels, and no image measured twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.training.ann import ANSWERS, FIGURES, train_ann
from pipeline.training.fitting import prepare
from tests.training_sets import recipe, write_set


def _flatness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 5) of numbers that tell discs from bars: moments of the light, and noise; the first image has none."""
    grey = images.astype(np.float64).mean(1)
    place = np.arange(grey.shape[1]) - (grey.shape[1] - 1) / 2
    total = grey.sum((1, 2))
    xx, yy = ((grey * axis).sum((1, 2)) / total for axis in (place**2, place[:, None] ** 2))
    xy = (grey * place * place[:, None]).sum((1, 2)) / total
    minor = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    rows = np.stack([minor, xx + yy, total, xy, xx - yy], 1).astype(np.float32)
    rows[0] = np.nan
    return rows


def test_the_ann_learns_from_indicators_and_answers_for_the_test_side(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 80)
    given = recipe(split={"test": 0.3})
    prepared = prepare(given, tmp_path)
    asked: list[int] = []

    def measure(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(images))
        return _flatness(images)

    got = train_ann(given, prepared, tmp_path / "out", measure)
    assert got.accuracy >= 0.85
    answers = pq.read_table(tmp_path / "out" / ANSWERS)
    assert answers["id"].to_pylist() == prepared.examples.ids[prepared.sides.test].tolist()
    said = np.stack([answers[name].to_numpy() for name in given.data.classes], 1).argmax(1)
    assert (said == answers["label"].to_numpy()).mean() == got.accuracy
    assert json.loads((tmp_path / "out" / FIGURES).read_text())["images"] == len(answers)
    assert sum(asked) == len(prepared.examples)
    assert train_ann(given, prepared, tmp_path / "out", measure).accuracy == got.accuracy
    assert sum(asked) == len(prepared.examples)
