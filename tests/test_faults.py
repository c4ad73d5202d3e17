"""Archives that fail: what goes by is not seen in the catalogue, and what stays is said by the rows that it hits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.data import Status, Way
from pipeline.executors.runner import run
from tests.faults import KINDS, SAID, SETTINGS, FaultyArchive, column, differing, faulty_archive, healthy, wrong_pixels
from tests.runs import assert_equal_catalogues, committed_rows, mock_job
from tests.standins.faults import WRONG, Fault, first, permanent, transient
from tests.standins.nginx import nginx

IMAGE = "1501p022-image-r"


@pytest.fixture(scope="module")
def archive(mock_tree: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyArchive]:
    with faulty_archive(mock_tree, checkpoint, tmp_path_factory.mktemp("faulty")) as made:
        yield made


@pytest.mark.parametrize("kind", [kind for kind in Fault if kind not in WRONG])
def test_a_fault_of_every_file_s_first_answer_changes_nothing(archive: FaultyArchive, kind: Fault) -> None:
    assert differing(archive.loaded("file", first(kind)), archive.planned("file").truth) == []
    assert sum(logged.fault is kind for logged in archive.proxy.log) >= 15  # the images, at least


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_cutout_is_asked_for_again(archive: FaultyArchive, kind: Fault) -> None:
    assert differing(archive.loaded("cutout", first(kind)), archive.planned("cutout").truth) == []
    assert sum(logged.fault is kind for logged in archive.proxy.log) >= 15


@pytest.mark.parametrize("way", ["ranges", "cutout"])
def test_parts_and_cutouts_get_through_faults_of_every_kind(archive: FaultyArchive, way: Way) -> None:
    faulty = archive.loaded(way, transient(seed=1, share=0.3, kinds=KINDS[way]))
    assert differing(faulty, archive.planned(way).truth) == []
    assert len({logged.fault for logged in archive.proxy.log}) > 3


def test_a_whole_run_through_faults_gives_the_catalogue_of_a_healthy_archive(
    archive: FaultyArchive, whole: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """15 % of all requests, tables of bricks and sources included."""
    archive.proxy.reset(transient(seed=2))
    job = mock_job(Path(), checkpoint, f"mirror={archive.proxy.url}", "ways.use=[file]")
    summary = run(job.model_copy(update={"archives": SETTINGS}), str(tmp_path))
    faults = [logged.fault for logged in archive.proxy.log if logged.fault is not None]
    assert summary.exit_code == 0
    assert 0.1 < len(faults) / len(archive.proxy.log) < 0.25 and len(set(faults)) >= 8
    assert_equal_catalogues(committed_rows(tmp_path), committed_rows(whole))


@pytest.mark.parametrize(("fault", "status", "message"), SAID["file"])
def test_a_file_that_always_fails_is_said_by_exactly_the_rows_that_need_it(
    archive: FaultyArchive, fault: Fault | int, status: Status, message: str
) -> None:
    _assert_said(archive, "file", fault, IMAGE, (status, rf"{IMAGE}\.fits\.fz{message}"))


@pytest.mark.parametrize(("fault", "status", "message"), SAID["cutout"][3:])
def test_a_cutout_that_is_always_wrong_is_said_by_its_own_row(
    archive: FaultyArchive, fault: Fault | int, status: Status, message: str
) -> None:
    archive.loaded("cutout", healthy)
    (named, *_) = sorted(logged.path for logged in archive.proxy.log)
    _assert_said(archive, "cutout", fault, named, (status, rf"/viewer/fits-cutout{message}"))


def _assert_said(archive: FaultyArchive, way: Way, fault: Fault | int, named: str, said: tuple[Status, str]) -> None:
    planned = archive.planned(way)
    hit = planned.needs(archive.tree, named)
    spoilt = archive.loaded(way, permanent(fault, named))
    assert 0 < len(hit) < sum(chunk.rows for chunk in spoilt)
    statuses, reasons = column(spoilt, "status"), column(spoilt, "reason")
    assert {number for number, status in enumerate(statuses) if status == said[0]} == hit
    assert set(differing(spoilt, planned.truth)) == hit
    for number in hit:
        assert re.search(said[1], reasons[number]), reasons[number]
    assert wrong_pixels(spoilt, planned.truth) == 0


def test_a_second_run_asks_the_archive_for_nothing(mock_tree: Path, checkpoint: Path, tmp_path: Path) -> None:
    """By the server's own log; the tables of bricks and sources are cached too."""
    (tmp_path / "nginx").mkdir()
    with nginx(mock_tree, tmp_path / "nginx") as server:
        cached = SETTINGS.model_copy(
            update={"cache": SETTINGS.cache.model_copy(update={"url": str(tmp_path / "cache")})}
        )
        job = mock_job(Path(), checkpoint, f"mirror={server.url}").model_copy(update={"archives": cached})
        first_run = run(job, str(tmp_path / "one"))
        asked = len(server.log())
        second_run = run(job, str(tmp_path / "two"))
        again = [logged.path for logged in server.log()[asked:]]
    assert asked > 20 and first_run.bytes_read > 10**6
    assert second_run.exit_code == 0
    assert again == []
    assert_equal_catalogues(committed_rows(tmp_path / "two"), committed_rows(tmp_path / "one"))
