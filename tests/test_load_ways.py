"""Loading by every way that a plan may have chosen: the same pixels, in the requests that were planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.catalogue.commits import each_latest
from pipeline.data import Chunk, Integrity, RowFlag, Status, WorkUnit
from pipeline.executors.prepare import prepare
from pipeline.executors.runner import run
from pipeline.job import Job
from pipeline.planner.plan import Plan
from pipeline.stages import Work, load
from pipeline.storage import Storage
from tests.runs import assert_equal_catalogues, committed_rows, mock_job
from tests.standins.fast import FAST
from tests.standins.legacy_archive import LegacyArchive, legacy_archive


@pytest.fixture
def archive(mock_tree: Path) -> Iterator[LegacyArchive]:
    with legacy_archive(mock_tree) as made:
        yield made


def _job(root: str, checkpoint: Path, way: str, service: str = "null") -> Job:
    settings = [f"mirror={root}", f"ways.use=[{way}]", f"survey.cutout_service={service}"]
    job = mock_job(Path(), checkpoint, *settings, "units.sources=64", "units.chunk=64")
    return job.model_copy(update={"archives": FAST})


def _loaded(job: Job, output: Path) -> tuple[Work, Plan, list[Chunk]]:
    prepared = prepare(job, str(output), "run", lambda message: None)
    units = list(prepared.plan.units())
    chunks = [load(prepared.work, unit, chunk) for unit in units for chunk in range(len(unit.chunks))]
    return prepared.work, prepared.plan, chunks


def _assert_same(ours: list[Chunk], theirs: list[Chunk]) -> None:
    for got, want in zip(ours, theirs, strict=True):
        assert got.status.tolist() == want.status.tolist()
        assert got.reason.tolist() == want.reason.tolist()
        assert got.flags.tolist() == want.flags.tolist()
        assert got.images.tobytes() == want.images.tobytes()
        np.testing.assert_array_equal(got.masked_fraction, want.masked_fraction)


def test_ranges_give_the_pixels_of_whole_files(
    archive: LegacyArchive, mock_tree: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Bit for bit, with strips from neighbours, masks, a missing band and an empty corner."""
    _, _, whole = _loaded(_job(str(mock_tree), checkpoint, "file"), tmp_path / "whole")
    _, plan, ranged = _loaded(_job(archive.url, checkpoint, "ranges"), tmp_path / "ranged")
    assert {way for unit in plan.units() for way, _ in unit.ways} == {"ranges"}
    _assert_same(ranged, whole)
    flags = np.bitwise_or.reduce(np.concatenate([chunk.flags for chunk in ranged]))
    for flag in (RowFlag.EDGE, RowFlag.MASKED, RowFlag.MISSING_BAND):
        assert flags & flag
    read = [path for path in archive.images() if "image" in path or "maskbits" in path]
    assert max(Counter(read).values()) > 1  # more than the head of some files
    assert not any("sha256sum" in path for path in archive.asked)
    came = {integrity for chunk in ranged for integrity in chunk.integrity}
    assert came == {Integrity.UNCHECKED}


def test_whole_files_are_sent_for_ahead_and_asked_for_once(mock_tree: Path, checkpoint: Path, tmp_path: Path) -> None:
    _, _, whole = _loaded(_job(str(mock_tree), checkpoint, "file"), tmp_path / "whole")
    with legacy_archive(mock_tree, latency=0.2) as archive:
        _, _, fetched = _loaded(_job(archive.url, checkpoint, "file"), tmp_path / "fetched")
    _assert_same(fetched, whole)
    assert max(Counter(archive.asked).values()) == 1
    assert 2 < archive.at_once <= FAST.default.in_flight


def test_the_cutout_service_is_asked_once_a_source(
    archive: LegacyArchive, noiseless_tree: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Against the bricks of a noiseless sky: the service resamples, so nearly the same picture."""
    _, _, whole = _loaded(_job(str(noiseless_tree), checkpoint, "file"), tmp_path / "whole")
    archive.tree = noiseless_tree
    job = _job(archive.url, checkpoint, "cutout", archive.service)
    _, plan, served = _loaded(job, tmp_path / "served")
    asked = [path for path in archive.asked if path.startswith("/viewer")]
    assert len(set(asked)) == len(asked) == plan.summary.sources - plan.summary.outside
    assert not any("coadd" in path for path in archive.asked)
    compared = 0
    for got, want in zip(served, whole, strict=True):
        assert (got.flags & RowFlag.RESAMPLED).all()
        assert np.isnan(got.masked_fraction).all()
        both = np.isin(got.status, ["ok"]) & np.isin(want.status, ["ok"])
        ours = got.images[both[got.with_image]].astype(int)
        theirs = want.images[both[want.with_image]].astype(int)
        assert np.abs(ours - theirs).mean() < 0.5
        compared += int(both.sum())
    assert compared > 12


def test_each_tile_comes_by_its_own_way(archive: LegacyArchive, checkpoint: Path, tmp_path: Path) -> None:
    """Rows keep their order, whichever way they came by, and no tile is asked for by another way."""
    job = _job(archive.url, checkpoint, "cutout, ranges, file", archive.service)
    prepared = prepare(job, str(tmp_path), "run", lambda message: None)
    unit = next(iter(prepared.plan.units()))
    tiles = prepared.plan.rows(unit)["tile"].to_pylist()
    names = list(dict.fromkeys(tiles))
    assert len(names) >= 3
    ways = dict(zip(names, ("cutout", "ranges", "file", "cutout"), strict=False))
    mixed = replace(unit, ways=tuple((ways[name], tiles.count(name)) for name in names))
    archive.asked.clear()
    chunk = load(prepared.work, mixed, 0)
    resampled = (chunk.flags & RowFlag.RESAMPLED).astype(bool).tolist()
    assert resampled == [ways[tile] == "cutout" for tile in tiles]
    assert sum("/viewer" in path for path in archive.asked) == sum(resampled)
    assert len(chunk.with_image.nonzero()[0]) == len(chunk.images)


def test_a_source_that_the_service_lacks_is_one_row_and_no_more(
    archive: LegacyArchive, checkpoint: Path, tmp_path: Path
) -> None:
    archive.missing = {"/viewer/fits-cutout"}
    _, _, chunks = _loaded(_job(archive.url, checkpoint, "cutout", archive.service), tmp_path)
    assert {status for chunk in chunks for status in chunk.status} == {Status.NO_COVERAGE.value}


def test_a_brick_whose_ranges_fail_is_its_own_rows_error(
    archive: LegacyArchive, mock_tree: Path, checkpoint: Path, tmp_path: Path
) -> None:
    _, plan, whole = _loaded(_job(str(mock_tree), checkpoint, "file"), tmp_path / "whole")
    brick = next(path.parent.name for path in sorted(mock_tree.rglob("*image-g.fits.fz")))
    archive.missing = {f"/{path.relative_to(mock_tree)}" for path in mock_tree.rglob(f"*{brick}-image-*.fz")}
    _, _, chunks = _loaded(_job(archive.url, checkpoint, "ranges"), tmp_path / "ranged")
    tiles = [tile for unit in plan.units() for tile in plan.rows(unit)["tile"].to_pylist()]
    status = [status for chunk in chunks for status in chunk.status]
    failed = {tile for tile, one in zip(tiles, status, strict=True) if one == Status.ARCHIVE_ERROR}
    assert failed == {f"south/{brick}"}
    assert sum(len(chunk.status) for chunk in whole) == len(status)


def test_a_run_by_ranges_publishes_the_catalogue_of_a_run_by_files(
    archive: LegacyArchive, whole: Path, checkpoint: Path, tmp_path: Path
) -> None:
    job = _job(archive.url, checkpoint, "ranges").model_copy(update={"units": mock_job(Path(), checkpoint).units})
    summary = run(job, str(tmp_path / "out"))
    assert summary.exit_code == 0
    got, want = committed_rows(tmp_path / "out"), committed_rows(whole)
    assert_equal_catalogues(got.drop_columns(["integrity"]), want.drop_columns(["integrity"]))
    assert sum(manifest.rows for manifest in each_latest(Storage(str(tmp_path / "out")))) == got.num_rows


def test_a_unit_says_the_way_of_each_of_its_rows() -> None:
    unit = WorkUnit("a", "part", 100, 110, (4, 6), ways=(("file", 3), ("ranges", 5), ("cutout", 2)))
    assert unit.chunk_ways(0) == ["file"] * 3 + ["ranges"]
    assert unit.chunk_ways(1) == ["ranges"] * 4 + ["cutout"] * 2
    assert WorkUnit("a", "part", 0, 3, (3,)).chunk_ways(0) == ["file"] * 3
    with pytest.raises(ValueError, match="ways of rows"):
        WorkUnit("a", "part", 0, 3, (3,), ways=(("file", 2),))
