"""One writer an output."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, OutputLocked
from pipeline.executors import lock
from pipeline.executors.lock import PUBLISHING, OutputLock, newest
from pipeline.storage import Storage


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    with OutputLock(Storage(str(tmp_path)), "first"), pytest.raises(OutputLocked, match="by run first"):
        OutputLock(Storage(str(tmp_path)), "second").__enter__()


def test_a_released_output_is_free(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with OutputLock(storage, "first"):
        pass
    assert newest(storage)[1] is None
    with OutputLock(storage, "second"):
        holder = newest(storage)[1]
    assert holder is not None and holder.run_id == "second"


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pipeline.executors.lock import OutputLock; from pipeline.storage import Storage\n"
        "OutputLock(Storage(sys.argv[1]), 'killed').__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    storage = Storage(str(tmp_path))
    assert newest(storage)[1] is not None
    with OutputLock(storage, "next"):
        assert newest(storage)[0] == 2


@pytest.mark.parametrize(("silent", "refused"), [(10.0, True), (lock.STALE + 1, False)])
def test_a_holder_on_another_host_is_believed_until_it_is_silent(tmp_path: Path, silent: float, refused: bool) -> None:
    storage = Storage(str(tmp_path))
    holder = {
        "run_id": "far",
        "host": "elsewhere",
        "pid": 1,
        "process_start": "5",
        "since": time.time() - silent,
    }
    storage.create("lock/000001.json", json.dumps(holder).encode())
    mine = OutputLock(storage, "mine")
    if refused:
        with pytest.raises(OutputLocked, match="may be taken over after 120 s"):
            mine.__enter__()
    else:
        with mine:
            assert newest(storage)[0] == 2


def test_a_holder_that_was_taken_over_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    storage = Storage(str(tmp_path))
    with OutputLock(storage, "old") as old:
        storage.create("lock/000002.json", storage.read("lock/000001.json"))
        assert old.lost.wait(5)


def test_a_full_disk_neither_ends_the_signs_of_life_nor_hides_how_the_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Storage):
        def create(self, name: str, data: bytes) -> bool:
            if full.is_set():
                raise DiskFull(name)
            return super().create(name, data)

        def replace(self, name: str, data: bytes) -> None:
            if full.is_set():
                refused.release()
                raise DiskFull(name)
            super().replace(name, data)

    full, refused = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    with pytest.raises(KeyError, match="how the run ended"), OutputLock(Full(str(tmp_path)), "first"):
        full.set()
        assert refused.acquire(timeout=5) and refused.acquire(timeout=5)
        raise KeyError("how the run ended")


def test_a_run_and_a_publisher_do_not_exclude_each_other(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with OutputLock(storage, "run"), OutputLock(storage, "publisher", PUBLISHING):
        holders = newest(storage)[1], newest(storage, PUBLISHING)[1]
    assert [holder and holder.run_id for holder in holders] == ["run", "publisher"]
