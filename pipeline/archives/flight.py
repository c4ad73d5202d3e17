"""One at a time: who fetches what several tasks want at once."""

from __future__ import annotations

import fcntl
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.storage import Storage

CLAIM = 120.0  # s that a claim in an object store holds: a holder that died blocks nobody for longer
LOOK = 0.5  # s between two looks of one who waits for another's claim


@contextmanager
def single_flight(storage: Storage, name: str) -> Iterator[bool]:
    """Whether the caller may go: False after a wait for another, whose result may be there now.

    On a disk a lock of the system's, which ends with its holder (flock(2)); one lock serves a few names. In an object
    store a claim, created once, that lapses; then two may go at the same time, and both bring the same.
    """
    if storage.local is not None:
        with _locked(storage.local / "locks" / f"{name[3:6]}.lock"):
            yield True
        return
    claim = f"claims/{name}"
    mine = storage.create(claim, json.dumps({"by": uuid.uuid4().hex, "until": time.time() + CLAIM}).encode())
    if not mine and not _lapsed(storage, claim):
        time.sleep(LOOK)
        yield False
        return
    try:
        yield True
    finally:
        storage.delete(claim)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file unlocks it


def _lapsed(storage: Storage, claim: str) -> bool:
    try:
        until: float = json.loads(storage.read(claim))["until"]
    except (FileNotFoundError, ValueError):
        return False
    return until < time.time()
