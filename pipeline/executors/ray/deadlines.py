"""The unit deadlines that run: the wall clock that the scheduler does not have."""

from __future__ import annotations

from pipeline.executors.events import DeadlinePassed


class Deadlines:
    """At most one a unit. Times are seconds of any one clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[str, tuple[float, int]] = {}  # unit id -> when, attempt

    def start(self, unit_id: str, attempt: int, now: float) -> None:
        """Start the unit's deadline; an earlier one is forgotten."""
        self._due[unit_id] = (now + self._seconds, attempt)

    def forget(self, unit_id: str) -> None:
        self._due.pop(unit_id, None)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """The deadlines that have passed; each is told once."""
        over = [(unit_id, attempt) for unit_id, (when, attempt) in self._due.items() if when <= now]
        for unit_id, _ in over:
            del self._due[unit_id]
        return [DeadlinePassed(unit_id, attempt) for unit_id, attempt in over]

    def next(self, now: float) -> float | None:
        """Seconds until the next one passes."""
        return min((when - now for when, _ in self._due.values()), default=None)
