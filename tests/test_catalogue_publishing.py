"""What refuses to become a snapshot, and what a crash leaves of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.catalogue.hats import finalise
from pipeline.catalogue.query import open_catalogue
from pipeline.catalogue.rows import replace_rows
from pipeline.catalogue.verify import verify
from pipeline.errors import CatalogueError, OutputLocked
from pipeline.executors.publishing import publish_snapshot
from pipeline.storage import Storage
from tests.catalogue_faults import Crash, CrashingStorage, flip_byte
from tests.catalogue_rows import NETWORK, commit, commit_sky, plan_rows, table_of


def assert_nothing_published(storage: Storage) -> None:
    assert not [name for name in storage.list("snapshots") if name.endswith("collection.properties")]
    assert storage.pointed("latest") is None


def test_nothing_committed_is_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="nothing is committed"):
        finalise(Storage(str(tmp_path)), name="demo")


@pytest.mark.parametrize("name", ["", "two words", "a/b", "../up"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CatalogueError, match="cannot name a catalogue"):
        finalise(Storage(str(tmp_path)), name=name)


def test_an_identifier_in_two_units_is_refused_wherever_they_are(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit_sky(storage, units=2)
    far = plan_rows(3, first_id=41).set_column(2, "dec", pa.array([-60.0] * 3))
    commit(storage, table_of(far), "99unit")
    with pytest.raises(CatalogueError, match=r"more than once, among them \[41, 42, 43\]"):
        finalise(storage, name="demo")
    assert_nothing_published(storage)


def test_two_checkpoints_of_one_network_are_refused_and_their_runs_named(tmp_path: Path) -> None:
    storage, other = Storage(str(tmp_path)), replace(NETWORK, checkpoint="d" * 64)
    commit(storage, table_of(plan_rows(5)), "0unit")
    commit(storage, table_of(plan_rows(5, first_id=5), network=other), "1unit", network=other)
    with pytest.raises(CatalogueError, match=r"net had several checkpoints: c{16} in run-1; d{16} in run-1"):
        finalise(storage, name="demo")


def test_two_checkpoints_in_the_rows_of_one_unit_are_refused(tmp_path: Path) -> None:
    storage, rows = Storage(str(tmp_path)), plan_rows(12)
    other = table_of(rows.slice(0, 6), network=replace(NETWORK, checkpoint="d" * 64))
    commit(storage, replace_rows(table_of(rows), other), "0unit")
    with pytest.raises(CatalogueError, match=r"net had several checkpoints, .* in the runs \['run-1'\]"):
        finalise(storage, name="demo")
    assert_nothing_published(storage)


def test_units_with_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit(storage, table_of(plan_rows(5)), "0unit")
    commit(storage, table_of(plan_rows(5, first_id=5).drop_columns(["TYPE"])), "1unit")
    with pytest.raises(CatalogueError, match=r"1unit/0001.parquet: its columns differ .*'TYPE'"):
        finalise(storage, name="demo")


def test_a_committed_file_that_changed_is_not_published(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    manifest = commit_sky(storage, units=2)[1]
    flip_byte(tmp_path / manifest.parquet, 500)
    with pytest.raises(CatalogueError, match=r"01unit/0001.parquet: expected sha256"):
        finalise(storage, name="demo")
    assert_nothing_published(storage)


def test_a_manifest_that_counts_other_rows_than_its_file_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    manifest = commit(storage, table_of(plan_rows(30)), "0unit")
    pixel = next(iter(manifest.pixels))
    lying = manifest.model_copy(update={"pixels": {**manifest.pixels, pixel: manifest.pixels[pixel] + 1}})
    storage.replace(manifest.parquet.replace(".parquet", ".json"), lying.model_dump_json().encode())
    with pytest.raises(CatalogueError, match="by the manifests, got"):
        finalise(storage, name="demo")


def writes_of_a_finalise(folder: Path) -> list[str]:
    storage = CrashingStorage(str(folder), at=-1)
    commit_sky(Storage(str(folder)), units=2)
    finalise(storage, name="demo", max_rows=60)
    return storage.writes


def test_a_crash_at_any_write_publishes_nothing_and_the_next_finalise_succeeds(tmp_path: Path) -> None:
    writes = writes_of_a_finalise(tmp_path / "whole")
    assert writes[-2:] == ["snapshots/0001/collection.properties", "latest"]
    files = [at for at, name in enumerate(writes) if name.endswith(".parquet")]
    for at in (0, files[-1], files[-1] + 1, len(writes) - 3, len(writes) - 2, len(writes) - 1):
        storage = Storage(str(tmp_path / str(at)))
        commit_sky(storage, units=2)
        with pytest.raises(Crash):
            finalise(CrashingStorage(storage.url, at=at), name="demo", max_rows=60)
        if writes[at] != "latest":  # by then it is published, but nothing leads to it
            assert_nothing_published(storage)
        snapshot = finalise(storage, name="demo", max_rows=60)
        debris = [name for name in storage.list("snapshots") if not name.startswith(snapshot.folder)]
        assert (snapshot.rows, debris) == (200, [])
        assert storage.pointed("latest") == snapshot.folder
        assert verify(storage).problems == ()


def test_a_crash_leaves_the_snapshot_before_in_its_place(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit_sky(storage, units=2)
    first = finalise(storage, name="demo")
    commit(storage, table_of(plan_rows(10, first_id=5000)), "99unit")
    with pytest.raises(Crash):
        finalise(CrashingStorage(storage.url, at=2), name="demo")
    assert open_catalogue(str(tmp_path)).rows == first.rows == 200
    assert finalise(storage, name="demo").rows == 210


def test_a_second_publisher_of_the_same_snapshot_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit_sky(storage, units=1)
    storage.create("snapshots/0001/catalogue/hats.properties", b"of someone else, just now")

    class Unseen(Storage):
        """Lists as if the other publisher had not begun."""

        def list(self, folder: str) -> list[str]:
            return [] if folder == "snapshots" else super().list(folder)

    with pytest.raises(CatalogueError, match="someone else is publishing the same snapshot"):
        finalise(Unseen(str(tmp_path)), name="demo")
    assert_nothing_published(storage)


def test_a_second_publisher_does_not_take_half_a_snapshot_for_what_a_crash_left(tmp_path: Path) -> None:
    class Interrupted(Storage):
        def create(self, name: str, data: bytes) -> bool:
            if name.endswith("collection.properties"):
                with pytest.raises(OutputLocked, match="is being written"):
                    publish_snapshot(Storage(self.url), "demo")
            return super().create(name, data)

    storage = Storage(str(tmp_path))
    commit_sky(storage, units=2)
    publish_snapshot(Interrupted(str(tmp_path)), "demo")
    assert verify(storage).problems == ()
    assert publish_snapshot(storage, "demo").number == 1
