"""True classes beside a report: which tables are taken, and how they meet the catalogue's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.showing import truth_of
from pipeline.errors import JobError
from pipeline.report.numbers import beside_truth
from pipeline.report.traced import NetworkNames, Traced


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"object_id": ["a"], "kind": ["round"]}, "expected columns object_id and class, got object_id, kind"),
        ({"object_id": ["a", "a"], "class": ["round", "cigar"]}, "an object_id is there more than once"),
        ({"object_id": ["a"], "class": [["round"]]}, "expected int64 identifiers and words as classes"),
        ({"object_id": ["a"], "class": ["round"]}, "expected int64 identifiers and words as classes"),
    ],
)
def test_a_truth_table_that_answers_nothing_is_refused(columns: Any, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    kind = pa.int64() if "int64" in message else pa.string()
    with pytest.raises(JobError, match=message):
        truth_of(str(tmp_path / "t.parquet"), kind)


def test_a_truth_table_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("object_id,class\na,round\n")
    with pytest.raises(JobError, match="cannot be read as Parquet"):
        truth_of(str(tmp_path / "t.csv"), pa.string())


def test_a_truth_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=f"--truth {tmp_path}/t.parquet: there is no such file"):
        truth_of(str(tmp_path / "t.parquet"), pa.string())


def test_true_classes_meet_the_rows_whatever_their_integers_are(tmp_path: Path) -> None:
    names = pa.array(["round", "cigar"]).dictionary_encode()
    pq.write_table(pa.table({"targetid": pa.array([2, 7], pa.int32()), "class": names}), tmp_path / "t.parquet")
    truth = truth_of(str(tmp_path / "t.parquet"), pa.int64())
    rows = {"object_id": [2, 7, 9], "net_label": ["round", "round", "cigar"], "net_confidence": [0.9, 0.8, 0.7]}
    _, right, sure, commonest = beside_truth(
        lambda query: Traced(pa.table(rows), query, ""),  # type: ignore[arg-type]
        NetworkNames("net", ("round", "cigar")),
        truth,
    )
    assert sorted(zip(right.tolist(), sure.tolist(), strict=True)) == [(False, 0.8), (True, 0.9)]
    assert commonest == 0.5
