"""The cache: bytes come once, whole and checked, whoever asks, and the oldest make room."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.archives.cache import DAY, Cache, Facts, Held
from pipeline.archives.policy import CacheSection
from pipeline.storage import Storage

KEY = "https://archive.example/a.fits"


def bringing(data: bytes, calls: list[Path], seconds: float = 0.0) -> Callable[[Path], Facts]:
    def fetch(target: Path) -> Facts:
        calls.append(target)
        time.sleep(seconds)
        target.write_bytes(data)
        return Facts(KEY, sha256=hashlib.sha256(data).hexdigest(), size=len(data), checked=True, etag='"1"')

    return fetch


def never(target: Path) -> Facts:
    raise AssertionError("asked the archive")


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder, or an object store."""
    if request.param == "disk":
        return str(tmp_path / "cache")
    fsspec.filesystem("memory").store.clear()
    return "memory://cache"


def cache(place: str, **changes: Any) -> Cache:
    clock = changes.pop("clock", time.time)
    return Cache(CacheSection(url=place, **changes), clock)


def test_bytes_are_fetched_once_and_come_back_with_their_story(place: str, tmp_path: Path) -> None:
    calls: list[Path] = []
    first = cache(place).file(KEY, tmp_path, bringing(b"pixels", calls))
    again = cache(place).file(KEY, tmp_path, never)
    assert (first.fetched, again.fetched, len(calls)) == (True, False, 1)
    assert first.path.read_bytes() == again.path.read_bytes() == b"pixels"
    assert again.facts == first.facts
    assert (again.facts.url, again.facts.etag, again.facts.checked) == (KEY, '"1"', True)


def test_the_sidecar_says_where_the_bytes_came_from(place: str, tmp_path: Path) -> None:
    cache(place).file(KEY, tmp_path, bringing(b"pixels", []))
    storage = Storage(place)
    (name,) = storage.list("names")
    told = json.loads(storage.read(name))
    assert (told["url"], told["size"], told["etag"], told["checked"]) == (KEY, 6, '"1"', True)
    assert storage.read(f"objects/{told['sha256'][:2]}/{told['sha256']}") == b"pixels"
    assert abs(told["fetched"] - time.time()) < 600


def test_what_fails_its_check_is_not_published(place: str, tmp_path: Path) -> None:
    def fetch(target: Path) -> Facts:
        target.write_bytes(b"half of the pix")
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        cache(place).file(KEY, tmp_path, fetch)
    assert Storage(place).list("objects") == Storage(place).list("names") == []
    assert cache(place).file(KEY, tmp_path, bringing(b"pixels", [])).path.read_bytes() == b"pixels"


def test_what_the_disk_changes_is_fetched_anew(place: str, tmp_path: Path) -> None:
    cache(place).file(KEY, tmp_path, bringing(b"pixels", []))
    storage = Storage(place)
    (name,) = storage.list("objects")
    storage.replace(name, b"pixelz")
    calls: list[Path] = []
    again = cache(place).file(KEY, tmp_path, bringing(b"pixels", calls))
    assert (again.path.read_bytes(), len(calls)) == (b"pixels", 1)
    assert storage.read(name) == b"pixels"


def test_what_is_not_acceptable_is_fetched_anew(place: str, tmp_path: Path) -> None:
    cache(place).file(KEY, tmp_path, bringing(b"old", []))
    new = cache(place).file(KEY, tmp_path, bringing(b"new", []), lambda facts: facts.size == 4)
    assert new.path.read_bytes() == b"new"


def test_a_missing_file_is_believed_for_a_while(place: str, tmp_path: Path) -> None:
    now = 0.0

    def missing(target: Path) -> Facts:
        raise FileNotFoundError("a.fits: the archive has no such file")

    made = cache(place, believed_days=1, clock=lambda: now)
    with pytest.raises(FileNotFoundError, match="no such file"):
        made.file(KEY, tmp_path, missing)
    now = DAY - 1
    with pytest.raises(FileNotFoundError, match=r"a\.fits: the archive has no such file"):
        made.file(KEY, tmp_path, never)
    now = DAY + 1
    assert made.file(KEY, tmp_path, bringing(b"pixels", [])).path.read_bytes() == b"pixels"


def test_many_threads_fetch_once(place: str, tmp_path: Path) -> None:
    calls: list[Path] = []
    held: list[Held] = []

    def want() -> None:
        held.append(cache(place).file(KEY, tmp_path, bringing(b"pixels", calls, 0.2)))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert {one.path.read_bytes() for one in held} == {b"pixels"} and len({one.path for one in held}) == 8


def _want_in_a_process(place: str, folder: Path) -> None:
    def fetch(target: Path) -> Facts:
        with (folder / "calls").open("a") as file:
            file.write("x")
        time.sleep(0.3)
        target.write_bytes(b"pixels")
        return Facts(KEY, sha256=hashlib.sha256(b"pixels").hexdigest(), size=6)

    cache(place).file(KEY, folder, fetch)


def test_many_processes_fetch_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_want_in_a_process, args=(str(tmp_path / "c"), tmp_path)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "calls").read_text() == "x"


def test_one_who_dies_while_fetching_blocks_nobody(tmp_path: Path) -> None:
    place = str(tmp_path / "cache")
    context = multiprocessing.get_context("fork")
    started = context.Event()

    def fetch_and_hang() -> None:
        def fetch(target: Path) -> Facts:
            target.write_bytes(b"half")
            started.set()
            time.sleep(60)
            raise AssertionError

        cache(place).file(KEY, tmp_path, fetch)

    process = context.Process(target=fetch_and_hang)
    process.start()
    assert started.wait(30)
    process.kill()
    process.join()
    assert cache(place).file(KEY, tmp_path, bringing(b"pixels", [])).path.read_bytes() == b"pixels"


def test_what_was_used_longest_ago_makes_room(place: str, tmp_path: Path) -> None:
    now = time.time()
    made = cache(place, gigabytes=4000e-9, clock=lambda: now)
    for number in range(4):
        now += 10_000
        made.file(f"{KEY}{number}", tmp_path, bringing(bytes([number]) * 1000, []))
    now += 10_000
    made.file(f"{KEY}0", tmp_path, never)
    made.file(f"{KEY}4", tmp_path, bringing(b"4" * 1000, []))
    assert [_holds(made, f"{KEY}{number}", tmp_path) for number in range(5)] == [True, False, False, True, True]
    assert sum(size for size, _ in Storage(place).details("objects").values()) <= 0.9 * 4000


def _holds(made: Cache, key: str, folder: Path) -> bool:
    try:
        made.file(key, folder, never)
    except AssertionError:
        return False
    return True


def test_a_file_in_use_survives_its_eviction(tmp_path: Path) -> None:
    made = cache(str(tmp_path / "cache"), gigabytes=1500e-9)
    held = made.file(KEY, tmp_path, bringing(b"1" * 1000, []))
    made.file(f"{KEY}2", tmp_path, bringing(b"2" * 1000, []))
    assert held.path.read_bytes() == b"1" * 1000
    assert not _holds(made, KEY, tmp_path)


def test_a_clock_that_is_a_day_wrong_takes_no_file_from_those_who_read_it(tmp_path: Path) -> None:
    place = str(tmp_path / "cache")
    held = cache(place).file(KEY, tmp_path, bringing(b"1" * 1000, []))
    ahead = cache(place, gigabytes=1500e-9, clock=lambda: time.time() + 30 * 3600)
    ahead.file(f"{KEY}2", tmp_path, bringing(b"2" * 1000, []))
    assert held.path.read_bytes() == b"1" * 1000


@pytest.mark.parametrize("step", ["details", "exists"])
def test_two_that_make_room_at_once_do_not_say_that_the_archive_has_no_such_file(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`details`: a file goes while the folder is walked; `exists`: between being looked for and being removed."""
    made = cache(str(tmp_path / "cache"), gigabytes=1500e-9)
    made.file(KEY, tmp_path, bringing(b"1" * 1000, []))

    def gone(storage: Storage, name: str) -> bool:
        if step == "details":
            raise FileNotFoundError(name)
        return True

    monkeypatch.setattr(Storage, step, gone)
    if step == "exists":
        Storage(str(tmp_path)).delete("nothing")
    assert made.file(f"{KEY}2", tmp_path, bringing(b"2" * 1000, [])).path.read_bytes() == b"2" * 1000


def test_who_makes_room_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    """To a clock that is ahead, which marks names as used later than that file is written, it looks like the oldest."""
    place = tmp_path / "cache"
    made = cache(str(place), gigabytes=1500e-9)
    made.file(KEY, tmp_path, bringing(b"1" * 1000, []))
    (name,) = Storage(str(place)).list("names")
    writing = place / f"{name}.1234.tmp"
    writing.write_bytes(b"{}")
    os.utime(writing, (0, 0))
    made.file(f"{KEY}2", tmp_path, bringing(b"2" * 1000, []))
    assert writing.exists()
    assert not _holds(made, KEY, tmp_path)


def test_a_sidecar_that_is_taken_away_as_it_is_written_is_no_word_of_the_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive gave the file: a row that was said to have no data in a band for this would be wrong in silence."""

    def gone(storage: Storage, name: str, data: bytes) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(Storage, "replace", gone)
    held = cache(str(tmp_path / "cache")).file(KEY, tmp_path, bringing(b"pixels", []))
    assert held.path.read_bytes() == b"pixels"
