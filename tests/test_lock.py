"""One writer an output."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import OutputLocked
from pipeline.executors import lock
from pipeline.executors.lock import OutputLock, newest
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
