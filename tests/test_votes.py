"""Votes of volunteers become classes by cuts that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from pipeline.errors import JobError
from pipeline.training.examples import read_examples
from pipeline.training.recipe import plain
from pipeline.training.votes import (
    CLASSES,
    NO_CLASS,
    TOTALS,
    VOTES,
    Cuts,
    classes_of_votes,
    counts_of_votes,
    read_votes,
)
from tests.evaluated import png, recipe

CLEAR = {
    "round": {"smooth": 0.9, "round": 0.8},
    "in_between": {"smooth": 0.9, "in_between": 0.8},
    "cigar": {"smooth": 0.9, "cigar": 0.8},
    "edge_on": {"featured": 0.9, "edge_on": 0.9, "not_edge_on": 0.1},
    "spiral": {"featured": 0.9, "not_edge_on": 0.9, "spiral": 0.9},
    "merger": {"merger": 0.8},
}


def table(
    *galaxies: dict[str, float], votes: float | None = 40.0
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """One row a galaxy; what is not given is a question that got no such answer."""
    rows = {column: np.array([galaxy.get(name, 0.0) for galaxy in galaxies]) for name, column in VOTES.items()}
    return rows if votes is None else {**rows, TOTALS[0]: np.full(len(galaxies), votes)}


def test_clear_votes_give_their_class() -> None:
    assert classes_of_votes(table(*CLEAR.values())).tolist() == [CLASSES.index(name) for name in CLEAR]


@pytest.mark.parametrize(
    ("name", "question", "cut"),
    [
        ("round", "smooth", 0.469), ("round", "round", 0.5), ("edge_on", "featured", 0.430),
        ("edge_on", "edge_on", 0.602), ("spiral", "not_edge_on", 0.715), ("spiral", "spiral", 0.619),
        ("merger", "merger", 0.6),
    ],
)  # fmt: skip
def test_a_share_at_its_cut_passes_and_one_below_does_not(name: str, question: str, cut: float) -> None:
    at, below = ({**CLEAR[name], question: share} for share in (cut, cut - 1e-6))
    assert classes_of_votes(table(at, below)).tolist() == [CLASSES.index(name), NO_CLASS]


def test_what_may_be_a_merger_or_an_artefact_is_nothing_else() -> None:
    doubtful = [
        {**CLEAR["round"], "merger": 0.3},
        {**CLEAR["spiral"], "artifact": 0.3},
        {**CLEAR["merger"], "artifact": 0.5},
    ]
    assert classes_of_votes(table(*doubtful)).tolist() == [NO_CLASS] * 3


def test_few_votes_give_no_class_where_they_are_counted() -> None:
    assert classes_of_votes(table(CLEAR["round"], votes=19.0)).tolist() == [NO_CLASS]
    assert classes_of_votes(table(CLEAR["round"], votes=None)).tolist() == [0]


def test_a_question_that_nobody_was_asked_gives_no_class() -> None:
    asked = table({**CLEAR["edge_on"], "edge_on": np.nan}, {**CLEAR["round"], "edge_on": np.nan})
    assert classes_of_votes(asked).tolist() == [NO_CLASS, 0]


def test_the_order_of_classes_decides_where_two_pass() -> None:
    loose = Cuts(roundness=0.4, edge_on=0.4, not_edge_on=0.4)
    two = [
        {"smooth": 0.9, "round": 0.45, "in_between": 0.45},
        {**CLEAR["spiral"], "edge_on": 0.5, "not_edge_on": 0.5},
    ]
    assert [CLASSES[k] for k in classes_of_votes(table(*two), loose)] == ["in_between", "edge_on"]


def test_cuts_can_be_changed_and_counted() -> None:
    rows = table(CLEAR["round"], CLEAR["round"], {**CLEAR["spiral"], "spiral": 0.5})
    assert counts_of_votes(rows) == {**dict.fromkeys(CLASSES, 0), "round": 2, "none": 1}
    assert counts_of_votes(rows, Cuts(spiral=0.5))["spiral"] == 1
    with pytest.raises(ValueError, match="from 0 to 1"):
        Cuts(spiral=50.0)


def test_a_table_that_lacks_votes_is_refused_by_name() -> None:
    rows = table(CLEAR["round"])
    del rows[VOTES["merger"]]
    with pytest.raises(JobError, match="merging_merger_fraction"):
        classes_of_votes(rows)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_votes_labels_the_images_of_a_recipe(tmp_path: Path, ending: str) -> None:
    votes = table(CLEAR["spiral"], CLEAR["round"], {"smooth": 0.4})
    named = pa.table({"iauname": ["J1", "J2", "J3"], **votes})
    write = csv.write_csv if ending == "csv" else parquet.write_table
    write(named, tmp_path / f"votes.{ending}")
    images = {"id": ["J2", "J1", "J3", "J4"], "class6": ["merger"] * 4, "image": [png(k, k) for k in range(4)]}
    parquet.write_table(pa.table(images), tmp_path / "images.parquet")
    data = {**plain(recipe().data), "images": ["images.parquet"], "votes": {"table": f"votes.{ending}"}}
    data["columns"] = {}
    found = read_examples(recipe(data=data).data, tmp_path, 3, {})
    assert {str(i): CLASSES[k] for i, k in zip(found.ids, found.labels, strict=True)} == {"J1": "spiral", "J2": "round"}
    data["votes"] = {"table": f"votes.{ending}", "cuts": {"smooth": 0.3, "roundness": 0.0}}
    assert set(read_examples(recipe(data=data).data, tmp_path, 3, {}).ids) == {"J1", "J2", "J3"}


def test_votes_that_name_no_galaxies_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"name": ["J1"], **table(CLEAR["round"])}), tmp_path / "votes.parquet")
    with pytest.raises(JobError, match="lacks the column iauname"):
        read_votes(tmp_path / "votes.parquet", "iauname")
    with pytest.raises(JobError, match="cannot read the votes"):
        read_votes(tmp_path / "none.csv", "iauname")
