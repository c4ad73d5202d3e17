"""Verification finds what was changed, lost, added or forgotten, and says which file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.catalogue.commits import latest_manifests, parquet_name
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.verify import verify
from pipeline.storage import Storage
from tests.catalogue_faults import flip_byte
from tests.catalogue_rows import commit, commit_sky, plan_rows, table_of

UNITS = ["00unit", "01unit", "02unit"]
FILE = "units/01/01unit/0001.parquet"
MANIFEST = "units/01/01unit/0001.json"
PIXEL = "catalogue/dataset/Norder=1/Dir=0/Npix=16.parquet"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sound") / "out"
    commit_sky(Storage(str(folder)), units=3)
    finalise(Storage(str(folder)), name="demo", max_rows=150)
    yield folder


@pytest.fixture
def output(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound output, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "out", symlinks=True))


def problems(output: Path) -> tuple[str, ...]:
    return verify(Storage(str(output)), UNITS).problems


def test_a_sound_output_has_no_problems(sound: Path) -> None:
    report = verify(Storage(str(sound)), UNITS)
    assert (report.units, report.rows, report.snapshot) == (3, 300, "snapshots/0001")
    assert (report.problems, report.leftovers) == ((), ())
    assert report.verdict == "3 units, 300 rows, snapshot snapshots/0001: all sound"


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    flip_byte(path, path.stat().st_size // 2)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "name", "sentence"),
    [
        (flip, FILE, f"{FILE}: expected sha256 "),
        (truncate, FILE, f"{FILE}: expected sha256 "),
        (remove, FILE, f"{FILE} is committed but is not there"),
        (remove, MANIFEST, "unit 01unit is planned but not committed"),
        (truncate, MANIFEST, f"{MANIFEST} is no manifest"),
        (flip, f"snapshots/0001/{PIXEL}", f"snapshots/0001/{PIXEL}: expected sha256 "),
        (remove, f"snapshots/0001/{PIXEL}", f"snapshots/0001/{PIXEL} is not there"),
        (flip, "snapshots/0001/catalogue/hats.properties", "snapshots/0001/catalogue/hats.properties: expected"),
        (remove, "snapshots/0001/catalogue/partition_info.csv", "snapshots/0001 cannot be read"),
        (remove, "snapshots/0001/SHA256SUMS", "snapshots/0001/SHA256SUMS is not there"),
        (flip, "snapshots/0001/SHA256SUMS", "snapshots/0001/SHA256SUMS is not the one that was published"),
        (flip, "snapshots/0001/collection.properties", "snapshots/0001/collection.properties is damaged"),
        (remove, "latest", "latest leads to None, not to snapshots/0001"),
    ],
)  # fmt: skip
def test_damage_is_found_and_named(output: Path, damage: Callable[[Path], None], name: str, sentence: str) -> None:
    damage(output / name)
    assert any(problem.startswith(sentence) for problem in problems(output)), problems(output)


def test_files_that_do_not_belong_are_named(output: Path) -> None:
    (output / "units/01/01unit/notes.txt").write_text("mine")
    (output / "snapshots/0001/catalogue/dataset/extra.parquet").write_bytes(b"x")
    assert problems(output) == (
        "units/01/01unit/notes.txt belongs to no commit",
        "snapshots/0001/catalogue/dataset/extra.parquet is no part of the snapshot",
    )


def test_what_a_crash_left_is_no_problem_but_is_told(output: Path) -> None:
    left = parquet_name("01unit", 2)
    Storage(str(output)).create(left, b"half")
    report = verify(Storage(str(output)), UNITS)
    assert (report.problems, report.leftovers) == ((), (left,))
    assert report.verdict.endswith("all sound, 1 files left by crashes")


def test_units_that_nobody_planned_are_named(output: Path) -> None:
    report = verify(Storage(str(output)), UNITS[:2])
    assert report.problems == ("unit 02unit is committed but not planned",)
    assert verify(Storage(str(output))).problems == ()


def test_commits_after_the_snapshot_are_told(output: Path) -> None:
    commit(Storage(str(output)), table_of(plan_rows(5, first_id=900)), "03unit")
    report = verify(Storage(str(output)), [*UNITS, "03unit"])
    assert report.problems == ("snapshots/0001 was published before the latest commits: publish again",)


def test_an_identifier_in_two_units_is_named(output: Path) -> None:
    commit(Storage(str(output)), table_of(plan_rows(2, first_id=7)), "03unit")
    found = verify(Storage(str(output)), [*UNITS, "03unit"]).problems
    assert found[:2] == ("object_id 7 is there more than once", "object_id 8 is there more than once")


def test_an_attempt_that_a_later_one_replaced_does_not_count_twice(output: Path) -> None:
    storage = Storage(str(output))
    commit(storage, table_of(plan_rows(100, first_id=100)), "01unit", attempt=2)
    finalise(storage, name="demo")
    report = verify(storage, UNITS)
    assert (report.problems, report.rows) == ((), 300)


def test_a_manifest_that_lies_about_its_rows_is_found(output: Path) -> None:
    storage = Storage(str(output))
    manifest = latest_manifests(storage)["01unit"]
    lying = manifest.model_copy(update={"statuses": {"ok": 100}})
    storage.replace(MANIFEST, lying.model_dump_json().encode())
    assert problems(output)[0].startswith(f"{FILE}: it has 100 rows, {{'archive_error': ")
    assert problems(output)[0].endswith("its manifest says 100 rows, {'ok': 100}")


def test_an_output_without_a_snapshot_is_checked_all_the_same(output: Path) -> None:
    shutil.rmtree(output / "snapshots")
    report = verify(Storage(str(output)), UNITS)
    assert (report.problems, report.snapshot) == ((), None)
