"""Storages that go wrong on purpose, for the tests of commits and publishing."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalogue.layout import CHECKSUMS, COLLECTION
from pipeline.storage import Storage


class Crash(BaseException):
    """The writer dies: nothing may catch this."""


@dataclass(frozen=True)
class CrashingStorage(Storage):
    """Dies instead of doing write number `at`, counted from 0; or just after it was done."""

    at: int = 0
    after: bool = False
    writes: list[str] = field(default_factory=list)

    def create(self, name: str, data: bytes) -> bool:
        with self._write(name):
            return super().create(name, data)

    def adopt(self, name: str, file: Path) -> bool:
        with self._write(name):
            return super().adopt(name, file)

    def point(self, name: str, target: str) -> None:
        with self._write(name):
            super().point(name, target)

    @contextmanager
    def _write(self, name: str) -> Iterator[None]:
        dies = len(self.writes) == self.at
        self.writes.append(name)
        if dies and not self.after:
            raise Crash(name)
        yield
        if dies:
            raise Crash(name)


class Turns:
    """Lets writers pass in a given order, one step each; free for all once the order is used up."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = list(order)
        self._changed = threading.Condition()
        self._gone: set[int] = set()

    def step(self, writer: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting() or self._waiting()[0] == writer, timeout=10)
            if self._order:
                self._order = self._waiting()[1:]
            self._changed.notify_all()

    def leave(self, writer: int) -> None:
        """The writer is done: nobody waits for it any more."""
        with self._changed:
            self._gone.add(writer)
            self._changed.notify_all()

    def _waiting(self) -> list[int]:
        return [writer for writer in self._order if writer not in self._gone]


@dataclass(frozen=True)
class TurnStorage(Storage):
    """Creates when it is this writer's turn."""

    turns: Turns = field(default_factory=lambda: Turns(()))
    writer: int = 0

    def create(self, name: str, data: bytes) -> bool:
        self.turns.step(self.writer)
        return super().create(name, data)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put other rows, or other columns, into a Parquet file."""
    pq.write_table(change(pq.read_table(path)), path)


def edit(path: Path, old: str, new: str) -> None:
    """Replace some text of a file, which has to be there."""
    text = path.read_text()
    if old not in text:
        raise ValueError(f"{path} has no {old!r}")
    path.write_text(text.replace(old, new))


def reseal(snapshot: Path) -> None:
    """Make the checksums of a snapshot those of its files, so that only their content can tell what was changed."""
    sums, collection = snapshot / CHECKSUMS, snapshot / COLLECTION
    files = sorted(path for path in snapshot.rglob("*") if path.is_file() and path not in (sums, collection))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    sums.write_text("".join(f"{d}  {path.relative_to(snapshot)}\n" for d, path in zip(digests, files, strict=True)))
    lines = [line for line in collection.read_text().splitlines() if not line.startswith("pipeline_seal=")]
    said = f"pipeline_checksums={hashlib.sha256(sums.read_bytes()).hexdigest()}"
    body = "".join(f"{said if line.startswith('pipeline_checksums=') else line}\n" for line in lines)
    collection.write_text(f"{body}pipeline_seal={hashlib.sha256(body.encode()).hexdigest()}\n")


def reseal_unit(path: Path) -> None:
    """Make the manifest of a unit's file describe its bytes."""
    manifest = path.with_suffix(".json")
    facts = json.loads(manifest.read_text())
    facts["sha256"], facts["bytes"] = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
    manifest.write_text(json.dumps(facts))


def flip_byte(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
