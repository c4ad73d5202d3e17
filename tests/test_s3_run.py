"""A whole run into an object store: stopped, gone on with, refused to a second writer, read, checked, tried again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from pipeline import open_catalogue
from pipeline.catalogue.commits import each_latest, unit_rows
from pipeline.errors import OutputLocked
from pipeline.executors.journal import logged_runs, read_events
from pipeline.executors.lock import OutputLock
from pipeline.executors.publishing import publish_snapshot
from pipeline.executors.runner import Task, run
from pipeline.executors.session import Reporter
from pipeline.executors.state import check, run_state
from pipeline.executors.watch import Progress, StopRequest
from pipeline.storage import Storage
from tests.runs import assert_equal_catalogues, committed_rows, mock_job
from tests.test_storage import s3_credentials


@contextmanager
def bucket(name: str) -> Iterator[ThreadedMotoServer]:
    """A loopback server with one empty bucket; names are for the whole process, whichever server made them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with s3_credentials(f"http://{host}:{port}"):
        Storage(f"s3://{name}").filesystem.mkdir(name)
        yield server
    server.stop()


@pytest.fixture
def inputs(mock_tree: Path, checkpoint: Path) -> Iterator[str]:
    """URL of a bucket that holds the survey's tree and the checkpoint."""
    url = "s3://surveys"
    with bucket("surveys"):
        filesystem = Storage(url).filesystem
        filesystem.put(str(mock_tree), f"{url}/sky", recursive=True)
        filesystem.put(str(checkpoint), f"{url}/tiny.safetensors")
        yield url


def after_one_unit(stop: StopRequest) -> Reporter:
    def look(progress: Progress) -> None:
        if progress.units_committed:
            stop.request("the test says so")

    return Reporter(on_progress=look)


def test_a_run_from_a_bucket_into_a_bucket(inputs: str, whole: Path) -> None:
    job = mock_job(Path(), Path(), f"mirror={inputs}/sky", f"networks.dmagnet.checkpoint={inputs}/tiny.safetensors")
    output, stop = f"{inputs}/run", StopRequest()
    storage = Storage(output)
    stopped = run(job, output, stop=stop, reporter=after_one_unit(stop))
    assert (stopped.exit_code, stopped.units_committed, stopped.snapshot) == (75, 1, None)
    with OutputLock(storage, "another"), pytest.raises(OutputLocked, match="by run another"):
        run(job, output)
    ended = run(job, output)
    assert (ended.exit_code, ended.units_this_run, ended.snapshot) == (0, ended.units - 1, f"{output}/snapshots/0001")
    rows = pa.concat_tables([unit_rows(storage, manifest) for manifest in each_latest(storage)])
    assert_equal_catalogues(rows.sort_by("object_id"), committed_rows(whole))
    before = {name: storage.read(name) for name in storage.list("units")}
    assert [run(job, output, task=task).units_this_run for task in get_args(Task)] == [0, 0, 0]
    assert {name: storage.read(name) for name in storage.list("units")} == before
    assert publish_snapshot(storage, job.name).number == 1
    assert check(storage).problems == ()
    state = run_state(storage)
    assert (state.committed, state.writer) == (rows.num_rows, None)
    assert state.live is not None and state.live.run_id == state.run_id == logged_runs(storage)[-1]
    assert {event["kind"] for event in read_events(storage, logged_runs(storage)[0])} >= {"run", "commit"}
    counted = open_catalogue(output).sql("SELECT count(DISTINCT object_id) AS ids, count(*) AS n FROM catalogue")
    assert counted.to_pylist() == [{"ids": rows.num_rows, "n": rows.num_rows}]


def test_a_store_that_falls_silent_while_a_file_is_read_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with bucket("silent") as server:
        storage = Storage("s3://silent/run")
        storage.create("plan", b"rows")
        with pytest.raises(OSError, match="the store of silent/run does not answer"), storage.open("plan") as file:
            server.stop()
            file.read()
