"""What an executor tells while it works, and how it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from pipeline.executors.telemetry import Telemetry


class Watch(Protocol):
    """An executor calls these as it works; none of them may block."""

    @property
    def telemetry(self) -> Telemetry:
        """Where readings and events go."""
        ...

    def stop(self) -> bool:
        """Whether to open no further unit and finish the open ones."""
        ...

    def classified(self, rows: int) -> None:
        """So many rows more went through the networks; they are not committed yet."""
        ...

    def log(self, message: str) -> None:
        """One line worth keeping: a choice made, an actor replaced, a unit tried again."""
        ...


@dataclass
class StopRequest:
    """Why a run should stop: a signal, or its time is over. The first reason stays."""

    max_seconds: float | None = None
    started: float = field(default_factory=time.monotonic)
    signal_number: int | None = None
    reason: str = ""

    def __call__(self) -> bool:
        late = self.max_seconds is not None and time.monotonic() - self.started > self.max_seconds
        if late and not self.reason:
            self.reason = f"the {self.max_seconds:.0f} s of --max-time are over"
        return bool(self.reason)

    def request(self, reason: str) -> None:
        self.reason = self.reason or reason

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM and the first Ctrl-C ask for a clean stop; the second Ctrl-C interrupts at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
        self.request(signal.Signals(number).name)


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    sources: int  # in the plan
    committed: int  # sources, earlier runs included
    committed_before: int  # sources, by earlier runs
    classified: int  # by this run, committed or not
    seconds: float  # since this run's first unit was opened
    statuses: dict[str, int]  # of what this run committed
    units: int  # in the plan
    units_committed: int  # earlier runs included

    @property
    def images_per_second(self) -> float:
        return self.classified / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        rate = self.images_per_second
        return (self.sources - self.committed) / rate if rate > 0 else None


OnProgress = Callable[[Progress], None]
OnLog = Callable[[str], None]
