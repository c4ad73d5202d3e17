"""Rows that are no sources: refused with their numbers before anything runs, or set aside and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InvalidSources, JobError
from pipeline.planner.planning import open_plan
from pipeline.storage import Storage
from tests.plans import broken, everything, planned, sky

BROKEN = [
    ("ra", float("nan"), "no position"),
    ("dec", float("inf"), "no position"),
    ("dec", None, "no position"),
    ("ra", -0.001, "ra outside [0, 360]"),
    ("ra", 360.001, "ra outside [0, 360]"),
    ("dec", 90.001, "dec outside [-90, 90]"),
    ("object_id", None, "no object_id"),
]


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_rows_that_are_no_sources_are_refused_with_their_numbers(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    rows = list(range(90, 490, 8))
    with pytest.raises(InvalidSources) as raised:
        planned(broken(sky(), column, rows, value), tmp_path)
    assert f"50 of 500 rows are no sources (rows count from 0): {reason}: 50 (row 90, 98, 106," in str(raised.value)
    assert str(raised.value).count(",") < 20, "ten examples are enough"
    assert open_plan(Storage(str(tmp_path))) is None


@pytest.mark.parametrize(("column", "value", "reason"), BROKEN)
def test_rows_that_are_no_sources_can_be_set_aside(tmp_path: Path, column: str, value: object, reason: str) -> None:
    table = broken(sky(), column, [3, 300], value)
    made = planned(table, tmp_path, skip_invalid=True)
    assert made.summary.invalid == {reason: 2}
    assert made.summary.sources == 498
    assert made.summary.rows_in == 500
    aside = pq.read_table(tmp_path / "unplaced.parquet")
    assert aside["row"].to_pylist() == [3, 300]
    assert aside["status"].to_pylist() == ["invalid", "invalid"]
    assert aside["reason"].to_pylist() == [reason, reason]
    expected = [None if i is None else str(i) for i in table["object_id"].take([3, 300]).to_pylist()]
    assert aside["object_id"].to_pylist() == expected


def test_the_same_id_twice_is_refused_and_with_skip_invalid_the_first_stays(tmp_path: Path) -> None:
    table = sky()
    twice = pa.concat_tables([table, table.slice(7, 2), table.slice(7, 1)])
    with pytest.raises(InvalidSources, match=r"object_id seen before: 3 \(row 500, 501, 502\)"):
        planned(twice, tmp_path)
    made = planned(twice, tmp_path, skip_invalid=True)
    assert made.summary.invalid == {"object_id seen before": 3}
    assert list(made.units()) == list(planned(table, tmp_path / "once").units())


def test_row_numbers_of_the_table_survive_a_filter_before_the_plan(tmp_path: Path) -> None:
    numbered = broken(sky(), "ra", [20], float("nan")).append_column("source_row", pa.array(np.arange(500) * 10))
    with pytest.raises(InvalidSources, match=r"\(row 200\)"):
        planned(numbered, tmp_path)


def test_an_empty_text_is_no_id(tmp_path: Path) -> None:
    table = pa.table({"object_id": ["a", "", "c"], "ra": [1.0, 2.0, 3.0], "dec": [1.0, 1.0, 1.0]})
    made = planned(table, tmp_path, skip_invalid=True)
    assert made.summary.id_type == "string"
    assert sorted(everything(made)["object_id"].to_pylist()) == ["a", "c"]


def test_nothing_to_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no sources"):
        planned(sky().slice(0, 0), tmp_path)
    with pytest.raises(JobError, match="none of 5 rows is a source: no position"):
        planned(broken(sky(5), "ra", list(range(5)), None), tmp_path, skip_invalid=True)
