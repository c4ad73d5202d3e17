"""What a run finds in its output when it is given again, or with other words, or a retry instead."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from pipeline.errors import CatalogueError, InvalidSources, JobError
from pipeline.executors.prepare import prepare
from pipeline.executors.runner import run
from pipeline.executors.session import Reporter
from pipeline.executors.state import describe_run
from pipeline.executors.summary import ExitCode
from pipeline.executors.watch import Progress, StopRequest
from pipeline.job import Job
from pipeline.stages import load
from pipeline.storage import Storage
from tests.runs import committed_rows, mock_job
from tests.standins.fast import FAST_JOB
from tests.test_retry import archive


def table_with_a_repeated_row(whole: Path, folder: Path) -> Path:
    rows = committed_rows(whole).select(["object_id", "ra", "dec"])
    path = folder / "sources.csv"
    pyarrow.csv.write_csv(pa.concat_tables([rows, rows.slice(0, 1)]), path)
    return path


def test_a_job_whose_sources_were_wrong_may_be_mended_in_the_same_output(
    tmp_path: Path, whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    table = table_with_a_repeated_row(whole, tmp_path)
    output = str(tmp_path / "out")
    with pytest.raises(InvalidSources, match="object_id seen before"):
        run(mock_job(mock_tree, checkpoint, f"sources.table={table}"), output)
    mended = mock_job(mock_tree, checkpoint, f"sources.table={table}", "sources.skip_invalid=true")
    summary = run(mended, output, publish=False)
    assert (summary.committed, summary.unplaced) == (committed_rows(whole).num_rows, 1)
    assert describe_run(Storage(output))["job"] == mended.public()
    with pytest.raises(JobError, match=r"sources\.skip_invalid was True, is False"):
        run(mock_job(mock_tree, checkpoint, f"sources.table={table}"), output)


def test_a_retry_before_the_end_of_the_run_is_refused(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    job = mock_job(mock_tree, checkpoint)
    run(job, str(tmp_path), stop=StopRequest(max_seconds=0.0))
    with pytest.raises(JobError, match="sources are not committed yet"):
        run(job, str(tmp_path), task="retry")


def failed_run(tree: Path, checkpoint: Path, output: Path) -> Job:
    """A run during which the archive gave no image at all."""
    with archive(tree) as server:
        server.broken = "-image-"
        url = f"http://127.0.0.1:{server.server_address[1]}"
        run(
            mock_job(tree, checkpoint, f"mirror={url}", "engine.failure_fraction=1", *FAST_JOB),
            str(output),
            publish=False,
        )
    return mock_job(tree, checkpoint, "engine.failure_fraction=1")


def test_a_retry_that_is_stopped_says_so_and_the_next_tries_the_rest_and_nothing_else(
    tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    job, stop = failed_run(mock_tree, checkpoint, tmp_path), StopRequest()

    def look(progress: Progress) -> None:
        if progress.statuses:
            stop.request("the test says so")

    stopped = run(job, str(tmp_path), stop=stop, reporter=Reporter(on_progress=look), task="retry", publish=False)
    assert (stopped.exit_code, stopped.units_this_run) == (ExitCode.STOPPED, 1)
    assert stopped.statuses["archive_error"] and stopped.statuses["ok"]
    rest = run(job, str(tmp_path), task="retry", publish=False)
    assert (rest.exit_code, rest.units_this_run) == (0, rest.units - 1)
    assert "archive_error" not in rest.statuses


def test_a_worker_opens_the_plan_anew_for_every_run(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    prepared = prepare(mock_job(mock_tree, checkpoint), str(tmp_path / "out"), "first", lambda line: None)
    unit = next(prepared.plan.units())
    assert load(prepared.work, unit, 0).rows == unit.chunks[0]
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(CatalogueError, match="holds no plan"):
        load(replace(prepared.work, run_id="second"), unit, 0)
