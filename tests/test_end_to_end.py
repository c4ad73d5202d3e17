"""From a survey tree to a published catalogue, with every executor, and through what goes wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import open_catalogue
from pipeline.catalogue.commits import each_latest
from pipeline.errors import ArchiveUnreachable, CheckpointError, DiskFull, JobError, TooManyFailures
from pipeline.executors.explaining import explain
from pipeline.executors.journal import read_events, read_live
from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.runner import run
from pipeline.executors.session import Reporter
from pipeline.executors.summary import ExitCode
from pipeline.executors.watch import Progress, StopRequest
from pipeline.storage import Storage
from tests.runs import assert_equal_catalogues, committed_rows, mock_job, summary_of, undisturbed


def test_every_source_comes_out_once_with_a_status(whole: Path) -> None:
    rows = committed_rows(whole)
    ids = rows["object_id"].to_pylist()
    summary = Storage(str(whole)).read("run_summary.json")
    assert b'"exit_code": 0' in summary
    assert len(ids) == len(set(ids)) > 10
    assert set(rows["status"].to_pylist()) >= {"ok", "partial"}
    assert rows["dmagnet_p_spiral"].null_count == sum(
        status not in ("ok", "partial") for status in rows["status"].to_pylist()
    )


def test_every_manifest_says_how_its_networks_were_run(whole: Path) -> None:
    said = {choice for manifest in each_latest(Storage(str(whole))) for choice in manifest.choices}
    assert len(said) == 1 and said.pop().startswith("cpu: torch sees no CUDA; float32, batches of ")


def test_the_published_catalogue_holds_the_committed_rows(whole: Path) -> None:
    catalogue = open_catalogue(str(whole))
    counted = catalogue.sql("SELECT count(*) AS n, count(DISTINCT object_id) AS ids FROM catalogue").to_pylist()
    rows = committed_rows(whole).num_rows
    assert counted == [{"n": rows, "ids": rows}]


def test_a_second_run_does_nothing(whole: Path, mock_tree: Path, checkpoint: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("units/**/*") if path.is_file()}
    again = undisturbed(mock_tree, checkpoint, whole)
    after = {path: path.stat().st_mtime_ns for path in whole.glob("units/**/*") if path.is_file()}
    assert (again.units_this_run, again.bytes_read, again.exit_code) == (0, 0, 0)
    assert before == after
    assert again.snapshot is not None and again.snapshot.rstrip("/").endswith("0001")


def test_a_run_stopped_midway_finishes_with_the_same_catalogue(
    whole: Path, tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    stop = StopRequest()

    def after_two_units(progress: Progress) -> None:
        if progress.units_committed == 2:
            stop.request("the test says so")

    job = mock_job(mock_tree, checkpoint)
    stopped = run(job, str(tmp_path), stop=stop, reporter=Reporter(on_progress=after_two_units))
    assert stopped.exit_code == ExitCode.STOPPED
    assert stopped.units_committed == 2
    assert stopped.snapshot is None
    resumed = run(job, str(tmp_path))
    assert (resumed.exit_code, resumed.units_this_run) == (0, resumed.units - 2)
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))


def test_the_time_limit_stops_a_run_cleanly(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    summary = run(mock_job(mock_tree, checkpoint), str(tmp_path), stop=StopRequest(max_seconds=0.0))
    assert summary.exit_code == ExitCode.STOPPED
    assert "--max-time" in summary.reason


def test_an_output_of_another_job_is_refused_and_the_difference_named(
    whole: Path, mock_tree: Path, checkpoint: Path
) -> None:
    with pytest.raises(JobError, match=r"units\.chunk was 4, is 5"):
        run(mock_job(mock_tree, checkpoint, "units.chunk=5"), str(whole))


def test_a_run_where_most_of_the_archive_fails_stops_and_says_why_again(
    tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    """Every time it is called, until the job accepts it; the summary says the same."""
    tree, output = tmp_path / "tree", tmp_path / "out"
    shutil.copytree(mock_tree, tree)
    for path in tree.glob("dr10/south/coadd/**/*-image-*.fits.fz"):
        path.write_bytes(path.read_bytes()[:5000])
    for _ in range(2):
        with pytest.raises(TooManyFailures, match=r"bad_image\); engine\.failure_fraction is 0\.5"):
            run(mock_job(tree, checkpoint), str(output))
        facts = summary_of(output)
        assert facts["exit_code"] == ExitCode.INTERNAL
        assert "failure_fraction" in facts["reason"]
    accepted = run(mock_job(tree, checkpoint, "engine.failure_fraction=1"), str(output))
    assert (accepted.exit_code, accepted.committed) == (0, accepted.sources)


def test_a_tree_without_bricks_is_unreachable(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="no such folder"):
        run(mock_job(tmp_path / "nowhere", checkpoint), str(tmp_path / "out"))
    assert summary_of(tmp_path / "out")["exit_code"] == ExitCode.UNREACHABLE


def test_a_checkpoint_of_other_bands_is_refused(tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"made for bands g\+r\+z, the job's survey gives g\+r"):
        run(mock_job(mock_tree, checkpoint, "survey.bands=[g,r]"), str(tmp_path))


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    tmp_path: Path, mock_tree: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "free_bytes", lambda storage: 1000)
    with pytest.raises(DiskFull, match=r"the disk has 0\.0 MB free"):
        run(mock_job(mock_tree, checkpoint), str(tmp_path))
    assert not list(tmp_path.glob("units/**/*.parquet"))


def test_ray_and_local_give_the_same_catalogue(whole: Path, tmp_path: Path, mock_tree: Path, checkpoint: Path) -> None:
    summary = run(mock_job(mock_tree, checkpoint, executor="ray"), str(tmp_path))
    assert (summary.exit_code, summary.committed) == (0, summary.sources)
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))


def test_two_drivers_give_the_catalogue_of_one_and_the_run_is_told_as_one(
    whole: Path, tmp_path: Path, mock_tree: Path, checkpoint: Path
) -> None:
    several = ("engine.drivers=2", "engine.actors=2", "engine.cpus_per_actor=0.5", "engine.loads=2", "units.sources=4")
    with ray_session(None, LocalRay(cpus=6, store_bytes=200_000_000)):
        summary = run(mock_job(mock_tree, checkpoint, *several, executor="ray"), str(tmp_path))
    assert (summary.exit_code, summary.committed) == (0, summary.sources)
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))
    storage = Storage(str(tmp_path))
    live = read_live(storage, summary.run_id)
    assert live is not None and live.value("galaxy_sources_total") == summary.sources
    lines = [event["message"] for event in read_events(storage, summary.run_id) if event["kind"] == "log"]
    assert {line[:9] for line in lines if line.startswith("driver ")} == {"driver 0:", "driver 1:"}
    one = committed_rows(whole)["object_id"][0].as_py()
    assert [step.what for step in explain(storage, str(one))][:4] == ["plan", "load", "predict", "commit"]


def test_the_catalogue_tells_galaxies_apart(whole: Path) -> None:
    """Else two equal catalogues would prove little."""
    rows = committed_rows(whole)
    confidence = rows["dmagnet_confidence"].drop_null().to_pylist()
    assert len(set(confidence)) > 0.9 * len(confidence)


def test_a_catalogue_of_random_weights_says_so(whole: Path) -> None:
    assert "dmagnet" in open_catalogue(str(whole)).untrained
