"""Requests to one host in virtual time, under the limiter: who asks, how long it takes, how it ends."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from pipeline.archives.limiter import LEASE, Lease, Limiter, Outcome, Wait


@dataclass(frozen=True)
class Wanted:
    """One request: its holder asks from `at` on, whenever it is told to."""

    at: float  # s
    seconds: float  # that it takes
    outcome: Outcome = Outcome.GOOD
    retry_after: float | None = None
    dies: bool = False  # in the middle: nobody says that it is done


@dataclass
class World:
    """What happened."""

    limiter: Limiter
    sent: list[float] = field(default_factory=list)  # when
    order: list[int] = field(default_factory=list)  # who
    in_flight: list[int] = field(default_factory=list)  # after each request was sent, what is not over yet
    waits: list[tuple[float, Wait]] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _number: count[int] = field(default_factory=count)
    _open: set[int] = field(default_factory=set)

    def run(self, wanted: Iterable[Wanted], steps: int = 50_000) -> World:
        for number, request in enumerate(wanted):
            self._at(request.at, self._asking(number, request))
        while self._events and (steps := steps - 1):
            now, _, act = heapq.heappop(self._events)
            act(now)
        return self

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), act))

    def _asking(self, number: int, request: Wanted) -> Callable[[float], None]:
        def ask(now: float) -> None:
            answer = self.limiter.ask(now, str(number))
            if isinstance(answer, Wait):
                self.waits.append((now, answer))
                self._at(now + answer.seconds, ask)
                return
            self.sent.append(now)
            self.order.append(number)
            self._open.add(number)
            self.in_flight.append(len(self._open))
            self._at(now + (LEASE if request.dies else request.seconds), self._ending(number, request, answer))
            if not request.dies:
                self._renewing(now, answer, number)

        return ask

    def _ending(self, number: int, request: Wanted, lease: Lease) -> Callable[[float], None]:
        def end(now: float) -> None:
            self._open.discard(number)
            if not request.dies:
                self.limiter.done(now, lease, request.outcome, request.retry_after)

        return end

    def _renewing(self, now: float, lease: Lease, number: int) -> None:
        def renew(now: float) -> None:
            if number in self._open:
                self.limiter.renew(now, lease)
                self._at(now + LEASE / 4, renew)

        self._at(now + LEASE / 4, renew)
