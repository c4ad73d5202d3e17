"""The attempts under way and which of their chunks come next: the oldest first. Part of the scheduler."""

from __future__ import annotations

from heapq import heappop, heappush

from pipeline.executors.ledger import OpenUnit


class Backlog:
    """Chunks that wait for a load or an actor. An attempt has a ticket; once it ends, its chunks are skipped."""

    def __init__(self) -> None:
        self._last_ticket = 0
        self._tickets: dict[int, OpenUnit] = {}
        self._to_load: list[tuple[int, int]] = []  # heap of (ticket, chunk)
        self._ready: list[tuple[int, int, int]] = []  # heap of (ticket, chunk, load task)

    def enter(self, of: OpenUnit) -> None:
        """Begin the unit's next attempt at the end of the queue, with nothing to load yet."""
        self._last_ticket += 1
        of.next_attempt(self._last_ticket)
        self._tickets[of.ticket] = of

    def leave(self, of: OpenUnit) -> None:
        """End the unit's attempt, if it has one."""
        self._tickets.pop(of.ticket, None)

    def wait_for_load(self, of: OpenUnit, chunk: int) -> None:
        heappush(self._to_load, (of.ticket, chunk))

    def wait_for_actor(self, of: OpenUnit, chunk: int, load: int) -> None:
        heappush(self._ready, (of.ticket, chunk, load))

    def first_to_load(self) -> tuple[OpenUnit, int] | None:
        """The unit and chunk to load next; it stays in the queue until `load_started`."""
        while self._to_load:
            ticket, chunk = self._to_load[0]
            if ticket in self._tickets:
                return self._tickets[ticket], chunk
            heappop(self._to_load)
        return None

    def load_started(self) -> None:
        heappop(self._to_load)

    def first_ready(self) -> tuple[OpenUnit, int, int] | None:
        """The unit, chunk and load task to predict next; it stays in the queue until `predict_started`."""
        while self._ready:
            ticket, chunk, load = self._ready[0]
            if ticket in self._tickets:
                return self._tickets[ticket], chunk, load
            heappop(self._ready)
        return None

    def predict_started(self) -> None:
        heappop(self._ready)
