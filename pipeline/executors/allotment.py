"""Which driver of a run has which units: handed out as there is room, taken back from a driver that died. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pipeline.data import WorkUnit


class Allotment:
    """A unit is with one driver at a time until it is committed; its commit is told once, whoever tells it again."""

    def __init__(self, units: Iterator[WorkUnit], room: Sequence[int]) -> None:
        self._units = units
        self._room = tuple(room)  # chunks that each driver may hold
        self._returned: deque[WorkUnit] = deque()
        self._held: list[dict[str, WorkUnit]] = [{} for _ in room]
        self._exhausted = False

    @property
    def complete(self) -> bool:
        """Whether every unit of the plan is committed; known only once somebody has asked for more than there is."""
        return self._exhausted and not self._returned and not any(self._held)

    def take(self, driver: int) -> tuple[WorkUnit, ...]:
        """The units that the driver gets now: until its room is full, and at least one where it holds none."""
        held, taken = self._held[driver], []
        chunks = sum(len(unit.chunks) for unit in held.values())
        while chunks < self._room[driver] and (unit := self._next()) is not None:
            held[unit.unit_id] = unit
            chunks += len(unit.chunks)
            taken.append(unit)
        return tuple(taken)

    def committed(self, driver: int, unit_id: str) -> bool:
        """Strike out a unit that the driver committed; whether it was the driver's to commit."""
        return self._held[driver].pop(unit_id, None) is not None

    def lost(self, driver: int) -> int:
        """The driver died: what it had is the next to be handed out. The number of these units."""
        units = list(self._held[driver].values())
        self._returned.extendleft(reversed(units))
        self._held[driver] = {}
        return len(units)

    def _next(self) -> WorkUnit | None:
        if self._returned:
            return self._returned.popleft()
        unit = next(self._units, None)
        self._exhausted |= unit is None
        return unit
