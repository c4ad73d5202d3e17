"""What a run tells while it works: its readings, its log, and what `pipeline status` and `explain` make of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from typer.testing import CliRunner

from pipeline import metrics
from pipeline.archives.gate import HostState, LocalGate
from pipeline.archives.limiter import Lease, Outcome
from pipeline.archives.policy import ArchivesSection, HostPolicy
from pipeline.catalogue.commits import cause_of, latest_manifests
from pipeline.cli import app
from pipeline.errors import CatalogueError, JobError
from pipeline.executors.explaining import explain
from pipeline.executors.journal import Journal, logged_runs, read_events, read_live
from pipeline.executors.runner import run
from pipeline.executors.session import Reporter
from pipeline.executors.state import RunState, run_state
from pipeline.executors.telemetry import LateUnit, LogEvent, Telemetry
from pipeline.executors.watch import Progress, StopRequest
from pipeline.metrics import METRICS, Readings
from pipeline.storage import Storage
from pipeline.tail import TileTime, slowest
from tests.runs import committed_rows, mock_job


def shown(*arguments: str) -> str:
    """What `pipeline ARGUMENTS` says, in this process."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


def test_a_reading_needs_a_value_for_each_label_of_its_metric() -> None:
    readings = Readings()
    readings.add(metrics.SOURCES, 2, "ok")
    readings.add(metrics.SOURCES, 3, "ok")
    assert readings.as_list() == [{"metric": "galaxy_sources_total", "status": "ok", "value": 5}]
    with pytest.raises(ValueError, match="status"):
        readings.add(metrics.SOURCES, 1)


def test_names_of_metrics_say_what_they_are_and_labels_stay_few() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert set(metric.labels) <= {"status", "stage", "host", "outcome"}


def test_a_gate_counts_requests_and_bytes_of_each_host_and_tells_what_it_bears() -> None:
    now = 0.0
    gate = LocalGate(ArchivesSection(default=HostPolicy(failures=1, pause=30.0)), clock=lambda: now)
    for outcome, received in ((Outcome.GOOD, 100), (Outcome.GOOD, 50), (Outcome.BUSY, 7)):
        lease = gate.ask("host", "me")
        assert isinstance(lease, Lease)
        gate.done("host", lease, outcome, received=received)
    assert gate.hosts() == {"host": HostState({"good": 2, "busy": 1}, 157, in_flight=0, share=0.5, pause=30.0)}


def test_hosts_beyond_the_first_few_are_counted_as_one() -> None:
    telemetry = Telemetry()
    telemetry.hosts({f"h{n}": HostState({"good": 1}, 10, 0, 1.0, 0.0) for n in range(metrics.MOST_HOSTS + 5)})
    counted = {labels[0]: value for metric, labels, value in telemetry.readings if metric is metrics.BYTES}
    assert (len(counted), counted[metrics.OTHER_HOSTS]) == (metrics.MOST_HOSTS + 1, 50)


def test_the_log_can_be_read_while_the_run_goes_on_and_goes_over_several_files(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Journal(storage, "20261122T000000Z-aaaaaa", every=0.01) as journal:
        journal.telemetry.tell(LogEvent("load", "done", unit="u1", chunk=3, seconds=1.5))
        while read_live(storage, "20261122T000000Z-aaaaaa") is None or not list(read_events(storage, journal.run_id)):
            time.sleep(0.01)
        for number in range(15):
            journal.telemetry.tell(LogEvent("log", "x" * 200_000, chunk=number))
    events = list(read_events(storage, journal.run_id))
    assert events[0] | {"time": ""} == {
        "time": "",
        "run": journal.run_id,
        "kind": "load",
        "message": "done",
        "unit": "u1",
        "chunk": 3,
        "seconds": 1.5,
    }
    assert [event["chunk"] for event in events[1:]] == list(range(15))
    assert len([name for name in storage.list("log") if name.endswith(".jsonl")]) == 3


def test_an_output_that_takes_no_log_stops_no_run_and_an_error_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    with Journal(Storage(str(tmp_path)), "20261122T000000Z-aaaaaa", every=0.01):
        time.sleep(0.05)
    storage = Storage(str(tmp_path / "other"))
    with pytest.raises(ZeroDivisionError), Journal(storage, "20261122T000000Z-aaaaaa"):
        raise ZeroDivisionError("division by zero")
    (event,) = read_events(storage, "20261122T000000Z-aaaaaa")
    assert event["message"] == "ended by ZeroDivisionError: division by zero"


def test_only_the_logs_of_the_last_month_of_nights_stay(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for day in range(40):
        storage.replace(f"log/202601{day:02d}T000000Z-aaaaaa/live.json", b"{}")
    with Journal(storage, "20261122T000000Z-aaaaaa"):
        pass
    runs = logged_runs(storage)
    assert (len(runs), runs[0], runs[-1]) == (30, "20260111T000000Z-aaaaaa", "20261122T000000Z-aaaaaa")


def test_the_slowest_tiles_are_named_with_what_most_of_their_time_went_into() -> None:
    times = [TileTime("a", 1, 0.5, 0.1), TileTime("b", 2, 0.1, 0.9, failed=1), TileTime("a", 1, 0.9, 0.1)]
    first, second = slowest(times)
    assert (first.tile, first.sources) == ("a", 2)
    assert first.seconds == pytest.approx(1.6)
    assert first.why == "1.4 of 1.6 s waiting for its files; 2 sources"
    assert second.why == "0.9 of 1.0 s reading, cutting and drawing; 2 sources, 1 of them without an image"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("https://a.org/b/c.fits: HTTP 503 (7 requests)", "... HTTP # (# requests)"),
        ("/data/x.fits: no such file", "... no such file"),
        ("", "no reason given"),
        ("x" * 1_000_000, "x" * 120),  # by the square of the length it would take hours
    ],
)
def test_equal_causes_count_as_one_whatever_file_and_number_they_name(reason: str, cause: str) -> None:
    assert cause_of(reason) == cause


@pytest.fixture(scope="module")
def looked_at(
    tmp_path_factory: pytest.TempPathFactory, mock_tree: Path, checkpoint: Path
) -> tuple[Path, RunState, list[Mapping[str, Any]]]:
    """A run of two nights, its state as another process would see it in the middle of the first, and its log."""
    output = tmp_path_factory.mktemp("watched") / "out"
    stop = StopRequest()
    seen: list[RunState] = []

    def look(progress: Progress) -> None:
        if progress.units_committed and not seen:
            time.sleep(0.1)  # two beats of the journal
            seen.append(run_state(Storage(str(output))))
            stop.request("the test says so")

    job = mock_job(mock_tree, checkpoint)
    run(job, str(output), stop=stop, reporter=Reporter(on_progress=look, log_every=0.02))
    run(job, str(output))
    storage = Storage(str(output))
    return output, seen[0], [event for run_id in logged_runs(storage) for event in read_events(storage, run_id)]


def test_the_state_of_a_run_that_goes_on_is_in_its_output(looked_at: tuple[Path, RunState, Any]) -> None:
    _, state, _ = looked_at
    assert (state.units_committed, state.writer is not None) == (1, True)
    assert state.images_per_second and state.sources_per_second and state.seconds_left
    assert state.live is not None
    assert state.live.value(metrics.SOURCES.name) == state.committed
    assert state.live.value(metrics.SOURCES_LEFT.name) == state.sources - state.committed
    assert state.last_commit_age is not None and state.last_commit_age < 60
    assert state.slow and state.slow[0].seconds > 0 and "sources" in state.slow[0].why


def test_nothing_is_going_on_once_the_run_has_ended(looked_at: tuple[Path, RunState, Any]) -> None:
    output, _, _ = looked_at
    state = run_state(Storage(str(output)))
    assert (state.writer, state.images_per_second, state.seconds_left) == (None, None, None)
    assert state.causes == {"no_coverage: no data in any of g, r, z": 1}
    screen = shown("status", str(output))
    assert "slow tile 1" in screen and "cause 1" in screen
    assert json.loads(shown("status", str(output), "--json"))["committed"] == state.sources
    line = shown("status", str(output), "--line")
    assert line.count("\n") == 1 and "exit code 0; 24 of 24 sources committed (1 no_coverage)" in line


def test_every_unit_is_in_the_log_with_its_chunks_and_tiles(looked_at: tuple[Path, RunState, Any]) -> None:
    output, _, events = looked_at
    for unit_id, manifest in latest_manifests(Storage(str(output))).items():
        kinds = [event["kind"] for event in events if event.get("unit") == unit_id]
        assert {"load", "predict", "commit", "tile"} == set(kinds)
        assert kinds.count("tile") == len(manifest.slow)


def test_one_source_is_followed_from_the_plan_to_its_published_file(looked_at: tuple[Path, RunState, Any]) -> None:
    output, _, _ = looked_at
    row = committed_rows(output).slice(11, 1).to_pylist()[0]
    steps = explain(Storage(str(output)), str(row["object_id"]))
    assert [step.what for step in steps] == ["plan", "load", "predict", "commit", "tile", "row", "catalogue"]
    assert row["tile"] in steps[0].message and row["tile"] in steps[4].message
    assert f": {row['status']}" in steps[5].message
    published = pa.parquet.read_table(output / steps[-1].message, partitioning=None)
    assert row["object_id"] in published["object_id"].to_pylist()
    lines = shown("explain", str(output), "--id", str(row["object_id"]), "--json").splitlines()
    assert [json.loads(line)["what"] for line in lines] == [step.what for step in steps]


def test_what_is_no_source_of_the_run_is_said_to_be_none(
    looked_at: tuple[Path, RunState, Any], tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    output, _, _ = looked_at
    with pytest.raises(CatalogueError, match="no source -5 was planned"):
        explain(Storage(str(output)), "-5")
    with pytest.raises(JobError, match="integers"):
        explain(Storage(str(output)), "M31")
    rows = committed_rows(output).select(["object_id", "ra", "dec"]).slice(0, 3)
    table = pa.concat_tables([rows, pa.table({"object_id": [77], "ra": [400.0], "dec": [0.0]}, rows.schema)])
    pyarrow.csv.write_csv(table, tmp_path / "sources.csv")
    job = mock_job(mock_tree, checkpoint, f"sources.table={tmp_path / 'sources.csv'}", "sources.skip_invalid=true")
    run(job, str(tmp_path / "out"), stop=StopRequest(max_seconds=0.0))
    (step,) = explain(Storage(str(tmp_path / "out")), "77")
    assert "invalid" in step.message and "row 3" in step.message
    waiting = explain(Storage(str(tmp_path / "out")), str(rows["object_id"][0]))
    assert [step.what for step in waiting] == ["plan", "row"]


def test_a_unit_past_its_deadline_is_named() -> None:
    events: list[LogEvent] = []
    telemetry = Telemetry(events.append)
    telemetry.exceeded(LateUnit("u1", 2, ("10.0.0.7",), "load of chunk 3"), 60.0)
    assert events[0].fields() == {
        "kind": "deadline",
        "message": "longer than 60 s, waiting for load of chunk 3: tried again elsewhere",
        "unit": "u1",
        "attempt": 2,
        "nodes": ("10.0.0.7",),
    }
    assert telemetry.readings.value(metrics.DEADLINES) == 1
