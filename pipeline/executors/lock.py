"""One writer an output. A lock is a numbered object, created once: the highest number holds the output.

A lock whose holder is dead (same host, no such process) or silent for `STALE` seconds is taken over by creating
the next number, which only one taker can. A holder that was taken over notices at its next heartbeat.

lock/          held by a run
publishing/    held while a snapshot is written: what a second publisher finds half written would look like a crash's
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import DiskFull, OutputLocked
from pipeline.storage import Storage

HEARTBEAT = 20.0  # s
STALE = 120.0  # s: six heartbeats missed
RUNNING, PUBLISHING = "lock", "publishing"  # what a lock is for: its folder below the output


@dataclass(frozen=True)
class Holder:
    """Who holds an output."""

    run_id: str
    host: str  # name, boot and process namespace: containers may share a name and not their processes
    pid: int
    process_start: str  # tells a reused process id from the old process
    since: float  # unix s

    @property
    def host_name(self) -> str:
        return self.host.partition("/")[0]

    def alive(self, last_sign: float) -> bool:
        """Whether the holder may still write: by its process on this host, by its last sign elsewhere."""
        if self.host == _host() and self.process_start:
            return _process_start(self.pid) == self.process_start
        return time.time() - last_sign < STALE


class OutputLock:
    """Held from `with` to its end. Raises OutputLocked, naming the holder."""

    def __init__(self, storage: Storage, run_id: str, folder: str = RUNNING) -> None:
        self._storage = storage
        self._folder = folder
        self._holder = Holder(run_id, _host(), os.getpid(), _process_start(os.getpid()), time.time())
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="output-lock", daemon=True)
        self.lost = threading.Event()  # another run took the output over

    def __enter__(self) -> OutputLock:
        number, holder, last_sign = newest(self._storage, self._folder)
        if holder is not None and holder.alive(last_sign):
            raise OutputLocked(_refusal(self._storage.shown, holder, last_sign))
        self._number = number + 1
        if not self._storage.create(self._name("json"), json.dumps(vars(self._holder)).encode()):
            raise OutputLocked(f"{self._storage.shown}: another run took this output at the same moment")
        for old in self._storage.list(self._folder):
            if int(Path(old).stem) < self._number:
                self._storage.delete(old)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        # A full disk or a store that is away must not hide how the run ended; a lock not released is taken over.
        if not self.lost.is_set():
            with suppress(OSError, DiskFull):
                self._storage.create(self._name("released"), b"")

    def _name(self, kind: str) -> str:
        return _name(self._folder, self._number, kind)

    def _beat(self) -> None:
        """Give a sign of life; notice being taken over, or that others must think us dead."""
        last_sign = time.monotonic()
        while not self._stop.wait(HEARTBEAT):
            try:
                taken_over = newest(self._storage, self._folder)[0] != self._number
                if not taken_over:
                    self._storage.replace(self._name("alive"), str(time.time()).encode())
                    last_sign = time.monotonic()
            except (OSError, DiskFull):  # the next beat may get through
                taken_over = time.monotonic() - last_sign > STALE
            if taken_over:
                self.lost.set()
                return


def newest(storage: Storage, folder: str = RUNNING) -> tuple[int, Holder | None, float]:
    """Number of the newest lock (0 where there is none), its holder unless released, and its last sign (unix s)."""
    names = storage.list(folder)
    numbers = sorted(int(Path(name).stem) for name in names if name.endswith(".json"))
    if not numbers:
        return 0, None, 0.0
    number = numbers[-1]
    if _name(folder, number, "released") in names:
        return number, None, 0.0
    facts: dict[str, Any] = json.loads(storage.read(_name(folder, number, "json")))
    holder = Holder(**facts)
    alive = _name(folder, number, "alive")
    return number, holder, float(storage.read(alive)) if alive in names else holder.since


def _name(folder: str, number: int, kind: str) -> str:
    return f"{folder}/{number:06d}.{kind}"


def _refusal(url: str, holder: Holder, last_sign: float) -> str:
    silent = time.time() - last_sign
    where = f"process {holder.pid} on {holder.host_name}"
    hint = "" if holder.host == _host() else f"; it may be taken over after {STALE:.0f} s of silence"
    return f"{url} is being written by run {holder.run_id} ({where}, last sign {silent:.0f} s ago){hint}"


def _host() -> str:
    """This machine as its processes see it: name/boot id/process namespace; the last two where Linux tells."""
    facts = [socket.gethostname()]
    try:
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        pass
    return "/".join(facts)


def _process_start(pid: int) -> str:
    """When the process started, in clock ticks since boot (proc(5), field 22), "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
