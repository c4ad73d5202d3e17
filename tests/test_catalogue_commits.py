"""Commits of units: once, whole, and consistent through every crash and every race."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.catalogue.commits import (
    Manifest,
    commit_unit,
    committed_attempts,
    committed_table,
    failure_causes,
    latest_manifests,
    manifest_name,
    manifests,
    parquet_name,
    read_manifest,
)
from pipeline.catalogue.parquet import table_bytes
from pipeline.catalogue.rows import quarantined_table
from pipeline.errors import CatalogueError, UnitError
from pipeline.storage import Storage
from tests.catalogue_faults import Crash, CrashingStorage, Turns, TurnStorage, flip_byte
from tests.catalogue_rows import FACTS, NETWORK, commit, plan_rows, provenance, table_of, unit_of

UNIT = "ab12"
ROWS = plan_rows(50)
TABLE = table_of(ROWS)
NOISY = table_of(ROWS, seed=1)  # the same sources and statuses, other floats
QUARANTINED = quarantined_table(ROWS, "died", provenance())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def file_of(storage: Storage, attempt: int = 1) -> Path:
    assert storage.local is not None
    return storage.local / parquet_name(UNIT, attempt)


def assert_consistent(storage: Storage) -> None:
    """Every manifest describes its file, and the unit's latest attempt has every source once."""
    found = list(manifests(storage))
    assert found
    for manifest in found:
        data = storage.read(manifest.parquet)
        rows = pq.read_table(pa.BufferReader(data))
        assert (manifest.sha256, manifest.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert manifest.rows == rows.num_rows == sum(manifest.statuses.values()) == sum(manifest.pixels.values())
        assert manifest.statuses == {
            status: rows["status"].to_pylist().count(status) for status in set(rows["status"].to_pylist())
        }
    latest = latest_manifests(storage)[UNIT]
    rows = committed_table(storage, UNIT, latest.attempt)
    assert sorted(rows["object_id"].to_pylist()) == sorted(ROWS["object_id"].to_pylist())


def test_a_commit_is_a_file_and_then_its_manifest(storage: Storage) -> None:
    manifest = commit(storage, TABLE, UNIT)
    assert storage.list("units") == ["units/ab/ab12/0001.json", "units/ab/ab12/0001.parquet"]
    assert manifest == read_manifest(storage, manifest_name(UNIT, 1))
    assert manifest.checkpoints["net"].sha256 == NETWORK.checkpoint
    assert_consistent(storage)
    with_names = CrashingStorage(str(storage.local) + "-2", at=99)
    commit(with_names, TABLE, UNIT)
    assert with_names.writes == [parquet_name(UNIT, 1), manifest_name(UNIT, 1)]


def test_what_was_committed_comes_back_with_its_units_and_meanings(storage: Storage) -> None:
    commit(storage, TABLE, UNIT)
    found = committed_table(storage, UNIT, 1)
    assert found.equals(TABLE)
    assert found.schema.equals(TABLE.schema, check_metadata=True)
    assert committed_table(storage, UNIT, 1, columns=("object_id", "status")).column_names == ["object_id", "status"]


@pytest.mark.parametrize("second", [TABLE, NOISY, QUARANTINED], ids=["same", "noisy", "quarantined"])
def test_a_second_commit_of_an_attempt_changes_nothing(storage: Storage, second: pa.Table) -> None:
    first = commit(storage, TABLE, UNIT)
    before = {name: storage.read(name) for name in storage.list("")}
    assert commit(storage, second, UNIT) == first
    assert {name: storage.read(name) for name in storage.list("")} == before


def test_the_same_rows_give_the_same_bytes_and_no_clock_is_in_them(storage: Storage) -> None:
    assert table_bytes(TABLE) == table_bytes(table_of(plan_rows(50)))
    metadata = pq.read_metadata(pa.BufferReader(table_bytes(TABLE)))
    assert metadata.created_by.startswith("parquet-cpp-arrow version")
    assert set(metadata.metadata) == {b"ARROW:schema"}


def test_the_writer_settings_are_those_of_the_design() -> None:
    metadata = pq.read_metadata(pa.BufferReader(table_bytes(TABLE)))
    group = metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(metadata.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["net_p_round"].encodings
    assert "RLE_DICTIONARY" in columns["net_label"].encodings
    assert "RLE_DICTIONARY" not in columns["object_id"].encodings
    assert all(column.has_offset_index for column in columns.values())
    assert columns["_healpix_29"].is_stats_set and not columns["net_att_map"].is_stats_set
    assert [column.column_index for column in group.sorting_columns] == [0]


def test_a_writer_that_died_before_its_manifest_is_finished_by_the_next(storage: Storage) -> None:
    crashing = CrashingStorage(storage.url, at=1)
    with pytest.raises(Crash):
        commit(crashing, NOISY, UNIT)
    assert latest_manifests(storage) == {}
    manifest = commit(storage, TABLE, UNIT)
    assert manifest.attempt == 1
    assert committed_table(storage, UNIT, 1).equals(NOISY)
    assert_consistent(storage)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "quarantined", "checkpoint", "rows"])
def test_a_file_that_is_not_as_good_is_left_and_the_next_number_taken(storage: Storage, damage: str) -> None:
    left = {
        "quarantined": QUARANTINED,
        "checkpoint": table_of(ROWS, network=replace(NETWORK, checkpoint="d" * 64)),
        "rows": table_of(plan_rows(50, first_id=1)),
    }.get(damage, TABLE)
    storage.create(parquet_name(UNIT, 1), table_bytes(left))
    if damage == "truncated":
        file_of(storage).write_bytes(file_of(storage).read_bytes()[:-100])
    elif damage == "empty":
        file_of(storage).write_bytes(b"")
    elif damage == "flipped":
        flip_byte(file_of(storage), 200)
    manifest = commit(storage, TABLE, UNIT)
    assert manifest.attempt == 2
    assert committed_attempts(storage) == {UNIT: 2}
    assert committed_table(storage, UNIT, 2).equals(TABLE)
    assert commit(storage, NOISY, UNIT) == manifest
    assert_consistent(storage)


def test_what_was_committed_while_a_writer_looked_at_its_file_stands(storage: Storage) -> None:
    class Slow(Storage):
        def read(self, name: str) -> bytes:
            if name == parquet_name(UNIT, 1):
                commit(storage, QUARANTINED, UNIT)
            return super().read(name)

    storage.create(parquet_name(UNIT, 1), table_bytes(QUARANTINED))
    commit(Slow(storage.url), TABLE, UNIT)
    assert [manifest.attempt for manifest in manifests(storage)] == [1]


@pytest.mark.parametrize("order", sorted(set(permutations((0, 0, 1, 1)))))
@pytest.mark.parametrize("other", [TABLE, NOISY, QUARANTINED], ids=["same", "noisy", "quarantined"])
def test_two_writers_of_one_attempt_are_consistent_in_every_order(
    tmp_path: Path, order: tuple[int, ...], other: pa.Table
) -> None:
    turns = Turns(order)

    def write(writer: int, table: pa.Table) -> Manifest:
        manifest = commit(TurnStorage(str(tmp_path), turns=turns, writer=writer), table, UNIT, seconds=writer)
        turns.leave(writer)
        return manifest

    with ThreadPoolExecutor(2) as pool:
        returned = list(pool.map(write, (0, 1), (TABLE, other)))
    storage = Storage(str(tmp_path))
    assert_consistent(storage)
    stored = list(manifests(storage))
    assert all(manifest in stored for manifest in returned)
    if other is not QUARANTINED:
        assert [manifest.attempt for manifest in stored] == [1]


def test_of_many_writers_at_once_all_return_the_one_manifest(tmp_path: Path) -> None:
    tables = [table_of(ROWS, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        returned = list(pool.map(lambda table: commit(Storage(str(tmp_path)), table, UNIT), tables))
    assert len({manifest.model_dump_json() for manifest in returned}) == 1
    assert_consistent(Storage(str(tmp_path)))


def test_the_latest_attempt_is_the_highest_that_has_a_manifest(storage: Storage) -> None:
    commit(storage, QUARANTINED, UNIT)
    retried = commit(storage, TABLE, UNIT, attempt=2)
    storage.create(parquet_name(UNIT, 3), b"left by a crash")
    commit(storage, table_of(plan_rows(5, first_id=100)), "cd34")
    assert committed_attempts(storage) == {UNIT: 2, "cd34": 1}
    assert latest_manifests(storage)[UNIT] == retried
    assert [(found.unit_id, found.attempt) for found in manifests(storage)] == [(UNIT, 1), (UNIT, 2), ("cd34", 1)]


def test_a_table_of_another_number_of_rows_is_refused(storage: Storage) -> None:
    unit = replace(unit_of(TABLE, UNIT), stop=51, chunks=(51,))
    with pytest.raises(UnitError, match="unit ab12: expected 51 rows, got 50"):
        commit_unit(storage, unit, TABLE, FACTS, (NETWORK,))
    assert storage.list("units") == []


def test_a_committed_file_that_changed_is_an_error(storage: Storage) -> None:
    commit(storage, TABLE, UNIT)
    flip_byte(file_of(storage), 100)
    with pytest.raises(CatalogueError, match=r"units/ab/ab12/0001.parquet: expected sha256 .*, got "):
        committed_table(storage, UNIT, 1)


def test_a_committed_file_that_is_gone_is_an_error(storage: Storage) -> None:
    commit(storage, TABLE, UNIT)
    file_of(storage).unlink()
    with pytest.raises(CatalogueError, match=r"0001.parquet is committed but is not there"):
        committed_table(storage, UNIT, 1)
    with pytest.raises(CatalogueError, match="unit ab12 has no committed attempt 2"):
        committed_table(storage, UNIT, 2)


@pytest.mark.parametrize("text", ['{"unit_id": "ab12"', '{"unit_id": "ab12"}'])
def test_a_damaged_manifest_is_named(storage: Storage, text: str) -> None:
    storage.create(manifest_name(UNIT, 1), text.encode())
    with pytest.raises(CatalogueError, match=r"units/ab/ab12/0001.json is no manifest"):
        latest_manifests(storage)


def test_a_manifest_with_a_word_too_many_or_of_another_unit_is_refused(storage: Storage) -> None:
    content = commit(storage, TABLE, UNIT).model_dump(mode="json")
    storage.create(manifest_name(UNIT, 2), json.dumps(content | {"extra": 1}).encode())
    with pytest.raises(CatalogueError, match=r"0002.json is no manifest: it has the key"):
        read_manifest(storage, manifest_name(UNIT, 2))
    storage.create(manifest_name("cd34", 1), json.dumps(content).encode())
    with pytest.raises(CatalogueError, match="describes unit ab12, attempt 1"):
        read_manifest(storage, manifest_name("cd34", 1))


def test_commits_go_to_an_object_store_too() -> None:
    storage = Storage("memory://commits")
    manifest = commit(storage, TABLE, UNIT)
    assert commit(storage, NOISY, UNIT) == manifest
    assert pc.sum(committed_table(storage, UNIT, 1)["object_id"]).as_py() == sum(range(50))


def test_a_manifest_keeps_the_commonest_causes_alone() -> None:
    reasons = [word for number, word in enumerate("abcdefg") for _ in range(number + 1)]
    rows = pa.table({"status": ["archive_error"] * len(reasons) + ["ok"], "reason": [*reasons, "fine"]})
    kept = {f"archive_error: {word}": number + 1 for number, word in enumerate("abcdefg") if number > 1}
    assert failure_causes(rows) == kept
    assert len(kept) == 5
