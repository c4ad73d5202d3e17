"""A scheduled rerun: what is new in the sources is classified, what failed transiently is tried again, nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import open_catalogue
from pipeline.errors import InvalidSources, JobError
from pipeline.executors.runner import run
from pipeline.executors.state import check, run_state
from pipeline.job import Job
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage
from tests.runs import assert_equal_catalogues, committed_rows, mock_job


def sources_of(whole: Path) -> pa.Table:
    return committed_rows(whole).select(["object_id", "ra", "dec", "radius"])


def broken(tree: Path, copy: Path) -> Path:
    """A copy of a tree without the images of one brick that its table promises: an archive at fault for a while."""
    shutil.copytree(tree, copy, copy_function=os.link)
    for file in sorted(copy.glob("dr10/south/coadd/*/*"))[0].glob("*-image-*"):
        file.unlink()
    return copy


def job_of(table: Path, tree: Path, checkpoint: Path, *more: str) -> Job:
    columns = "sources.columns.radius=radius"
    return mock_job(tree, checkpoint, f"sources.table={table}", columns, "engine.failure_fraction=1", *more)


def begun(rows: pa.Table, table: Path, job: Job, output: Path) -> Job:
    """The job, after a run over the first four of the rows, which are now its table."""
    pq.write_table(rows.slice(0, 4), table)
    run(job, str(output), publish=False)
    return job


def test_an_update_classifies_what_is_new_and_tries_again_what_failed_and_nothing_else(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    rows, table, output = sources_of(whole), tmp_path / "sources.parquet", tmp_path / "out"
    pq.write_table(rows.slice(0, 14), table)
    first = run(job_of(table, broken(mock_tree, tmp_path / "broken"), checkpoint), str(output))
    failed = first.statuses["archive_error"]
    old = committed_rows(output)
    reader = open_catalogue(str(output))
    pq.write_table(rows.slice(2), table)  # two have gone, ten are new
    job = job_of(table, mock_tree, checkpoint)
    with pytest.raises(JobError, match="classify what is new in them with --update"):
        run(job, str(output))
    second = run(job, str(output), task="update")
    now = committed_rows(output)
    computed = now.filter(pc.equal(now["run_id"], second.run_id))["object_id"].to_pylist()
    expected = old.filter(pc.equal(old["status"], "archive_error"))["object_id"].to_pylist()
    assert 0 < failed == len(expected)
    assert sorted(computed) == sorted([*expected, *rows["object_id"].to_pylist()[14:]])
    assert (first.sources, second.sources, second.committed) == (14, 24, 24)
    assert_equal_catalogues(now, committed_rows(whole).select(now.column_names))
    assert reader.count() == reader.to_table().num_rows == 14
    assert (open_catalogue(str(output)).rows, second.snapshot) == (24, str(output / "snapshots/0002"))
    assert check(Storage(str(output))).problems == ()
    assert run_state(Storage(str(output))).sources == 24
    third = run(job, str(output), task="update")
    assert (third.units_this_run, third.bytes_read, third.snapshot) == (0, 0, second.snapshot)
    plan = open_plan(Storage(str(output)))
    assert plan is not None and plan.updates == 1
    assert run(job, str(output)).units_this_run == 0  # the sources that were planned last are those of the plan now


def test_an_update_of_other_columns_is_refused_by_name(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    table, output = tmp_path / "sources.parquet", tmp_path / "out"
    rows = sources_of(whole)
    job = begun(rows, table, job_of(table, mock_tree, checkpoint), output)
    pq.write_table(rows.append_column("colour", pa.array([0.5] * rows.num_rows)), table)
    with pytest.raises(JobError, match=r"are not those of the plan: colour \(double\)"):
        run(job, str(output), task="update")
    repeated = pa.concat_tables([rows, rows.slice(20, 1), rows.slice(0, 1)])
    pq.write_table(repeated, table)
    with pytest.raises(InvalidSources, match="object_id seen before: 1"):
        run(job, str(output), task="update")
    plan = open_plan(Storage(str(output)))
    assert plan is not None and (plan.updates, plan.summary.sources) == (0, 4)


def test_an_update_that_a_crash_cut_short_is_planned_anew(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    table, output = tmp_path / "sources.parquet", tmp_path / "out"
    rows = sources_of(whole)
    job = begun(rows, table, job_of(table, mock_tree, checkpoint), output)
    shutil.copytree(output / "plan", output / "plan-0002")
    (output / "plan-0002/plan.json").unlink()
    pq.write_table(rows.slice(0, 6), table)
    done = run(job, str(output), task="update", publish=False)
    assert (done.sources, done.units_this_run) == (6, 1)
