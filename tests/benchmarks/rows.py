"""One line of the table of `make bench`, and how it is measured: the two sides take turns in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Ours against a peer, a floor or a target, measured in the same run where it is not a target."""

    name: str
    ours: float
    unit: str
    other: float | None = None
    other_name: str = ""
    spread: float = 0.0  # of ours: (most - least) / least over the repeats
    repeats: int = 1

    @property
    def ratio(self) -> float | None:
        """Ours over the other."""
        return self.ours / self.other if self.other else None


def spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / min(values) if min(values) > 0 else 0.0


def cpu_seconds(call: Callable[[], object]) -> float:
    """Processor time of this process: other work on the machine disturbs it least."""
    started = time.process_time()
    call()
    return time.process_time() - started


def in_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """CPU seconds of each call in each round, after one call of each to warm up."""
    for call in calls:
        call()
    taken = [[cpu_seconds(call) for call in calls] for _ in range(rounds)]
    return [list(each) for each in zip(*taken, strict=True)]
