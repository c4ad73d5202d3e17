"""The slots of the actor pool: who is up, in which generation, with which tasks. Part of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Slot:
    generation: int = 0
    up: bool = False
    closed: bool = False
    failed_starts: int = 0  # in a row
    timeouts: int = 0  # unit deadlines since the last prediction
    tasks: dict[int, None] = field(default_factory=dict)  # in the order in which the actor gets them


class ActorSlots:
    """A fixed number of slots; each holds one actor at a time, numbered by its generation."""

    def __init__(self, slots: int, capacity: int) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._capacity = capacity  # tasks in flight an actor
        self._by_load: list[dict[int, None]] = [{} for _ in range(capacity)]  # slots that are up, by tasks
        self.up = 0
        self.open = slots

    def is_current(self, slot: int, generation: int) -> bool:
        """Whether this generation is the slot's latest; the news of any other are old."""
        return not self._slots[slot].closed and self._slots[slot].generation == generation

    def is_up(self, slot: int) -> bool:
        return self._slots[slot].up

    def generation(self, slot: int) -> int:
        return self._slots[slot].generation

    def came_up(self, slot: int) -> None:
        actor = self._slots[slot]
        if not actor.up:
            actor.up, actor.failed_starts, actor.timeouts = True, 0, 0
            self.up += 1
            self._by_load[0][slot] = None

    def least_loaded(self) -> int | None:
        """The slot with the fewest tasks of those that can take one more."""
        for slots in self._by_load:
            if slots:
                return next(iter(slots))
        return None

    def assign(self, slot: int, task: int) -> None:
        tasks = self._slots[slot].tasks
        del self._by_load[len(tasks)][slot]
        tasks[task] = None
        if len(tasks) < self._capacity:
            self._by_load[len(tasks)][slot] = None

    def release(self, slot: int, task: int, *, predicted: bool = False) -> None:
        actor = self._slots[slot]
        if len(actor.tasks) < self._capacity:
            del self._by_load[len(actor.tasks)][slot]
        del actor.tasks[task]
        self._by_load[len(actor.tasks)][slot] = None
        if predicted:
            actor.timeouts = 0

    def timed_out(self, slot: int) -> int:
        """Count one more unit that waited for this actor in vain; the number in a row."""
        self._slots[slot].timeouts += 1
        return self._slots[slot].timeouts

    def failed_start(self, slot: int) -> int:
        """Count one more actor of this slot that never came up; the number in a row."""
        self._slots[slot].failed_starts += 1
        return self._slots[slot].failed_starts

    def close(self, slot: int) -> None:
        """No more actors in this slot."""
        self._slots[slot].closed = True
        self.open -= 1

    def replace(self, slot: int) -> tuple[int, ...]:
        """Begin the slot's next generation. Gives the tasks of the last one, the oldest first."""
        actor = self._slots[slot]
        tasks = tuple(actor.tasks)
        if actor.up:
            self.up -= 1
            if len(tasks) < self._capacity:
                del self._by_load[len(tasks)][slot]
        actor.up = False
        actor.generation += 1
        actor.tasks.clear()
        return tasks
