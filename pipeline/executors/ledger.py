"""What is open: units, their tasks, and the bytes that these hold. Part of the scheduler."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from pipeline.data import WorkUnit


class Kind(Enum):
    LOAD = "load"
    PREDICT = "predict"
    COMMIT = "commit"


@dataclass(slots=True, eq=False)
class OpenUnit:
    """A unit between its opening and its last commit."""

    unit: WorkUnit
    ticket: int = 0  # the attempt's place in the queue; a new attempt takes a new one
    attempt: int = 0
    begun: bool = False  # the attempt's deadline is set
    committing: bool = False
    quarantine: str = ""  # the reason, once nothing else helps
    quarantine_failures: int = 0
    deaths: int = 0  # of actors, blamed on it
    reloads: int = 0  # in this attempt
    parts: dict[int, int] = field(default_factory=dict)  # chunk -> predict task whose result is held
    tasks: dict[int, None] = field(default_factory=dict)  # running, or done with their results held

    def next_attempt(self, ticket: int) -> None:
        self.ticket = ticket
        self.attempt += 1
        self.begun = self.committing = False
        self.reloads = 0
        self.parts.clear()


@dataclass(slots=True, eq=False)
class Task:
    """One load, predict or commit of the current attempt of an open unit."""

    kind: Kind
    of: OpenUnit
    chunk: int = -1
    bytes: int = 0  # of a load: reserved, then actual
    slot: int = -1  # of a predict
    load: int = -1  # of a predict: the task whose images it reads
    done: bool = False  # the result is held


class Ledger:
    """The tasks that run or whose results are held. Nothing of a finished unit stays."""

    def __init__(self, bytes_row: float) -> None:
        self.tasks: dict[int, Task] = {}
        self.loads = 0  # under way
        self.bytes = 0  # reserved for loads under way, and held by done ones
        self._bytes_row = bytes_row  # the largest seen
        self._last = 0

    def begin(self, task: Task) -> int:
        """Enter a new task; its number."""
        self._last += 1
        self.tasks[self._last] = task
        task.of.tasks[self._last] = None
        if task.kind is Kind.LOAD:
            self.loads += 1
            self.bytes += task.bytes
        return self._last

    def end(self, number: int) -> Task:
        """Strike out a task together with its bytes."""
        task = self.tasks.pop(number)
        del task.of.tasks[number]
        if task.kind is Kind.LOAD:
            self.bytes -= task.bytes
            self.loads -= not task.done
        return task

    def loaded(self, task: Task, size: int) -> None:
        """The load `task` is done: replace what was reserved by what its images take."""
        task.done = True
        self.loads -= 1
        self.bytes += size - task.bytes
        task.bytes = size
        rows = task.of.unit.chunks[task.chunk]
        self._bytes_row = max(self._bytes_row, size / rows)

    def slots(self, of: OpenUnit) -> list[int]:
        """The actor slots that have predicts of this unit, each once."""
        tasks = (self.tasks[number] for number in of.tasks)
        return sorted({task.slot for task in tasks if task.kind is Kind.PREDICT and not task.done})

    def expected(self, rows: int) -> int:
        """Bytes to reserve for a chunk of so many rows, never 0."""
        return max(1, math.ceil(rows * self._bytes_row))
