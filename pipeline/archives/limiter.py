"""How fast one host may be asked, by everyone together. Pure: the caller says what time it is.

A token bucket and a cap on what is in flight; both halve when the host asks for less or falls silent, and come back
slowly (additive increase, multiplicative decrease: Chiu & Jain 1989). A Retry-After freezes the bucket for everyone.
After failures in a row the circuit breaks: the host rests, then one request probes it. A lease that nobody renews
lapses, so that a holder that died blocks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from pipeline.archives.policy import HostPolicy

LEAST = 1 / 64  # of the policy's rate, however often the host complains
ROUNDING = 1e-9
LEASE = 15.0  # s: a holder that does not renew for so long is dead
POLL = (0.01, 1.0)  # s between two looks of one who waits for a request to end: at least, at most
ABSENT = 5.0  # s after which one who waits and does not ask again is taken for dead


class Outcome(Enum):
    """How a request ended, as far as the host's health is concerned."""

    GOOD = auto()  # any answer that the host meant to give: 404 too
    BUSY = auto()  # 429, 503 or a timeout: less, please
    FAILED = auto()  # reset, 500, 502, 504, a body cut short
    UNKNOWN = auto()  # given up by ourselves: says nothing of the host


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to send one request now."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after `seconds`. `paused`: the host wants, or needs, to be left alone."""

    seconds: float
    paused: bool = False


@dataclass
class _Flight:
    sent: float  # s
    lapses: float  # s
    epoch: int  # halvings and breaks before it was sent


@dataclass
class Limiter:
    """The budget of one host. Times are seconds of any clock that never goes back.

    Whatever the calls: leases that are out never exceed `in_flight`, and those given within any t seconds never
    exceed burst + rate t.
    """

    policy: HostPolicy
    first: int = 1  # number of the first lease: after a restart not one that may still be out
    _tokens: float = field(init=False)
    _counted: float | None = None  # when the tokens were last counted
    _factor: float = 1.0  # of the policy's rate and cap that the host bears now
    _epoch: int = 0
    _seconds: float = 0.1  # that a request takes, about
    _not_before: float = 0.0  # s: a Retry-After or a broken circuit
    _failures: int = 0  # in a row
    _breaks: int = 0  # of the circuit, since it last worked
    _flights: dict[int, _Flight] = field(default_factory=dict)
    _queue: dict[str, float] = field(default_factory=dict)  # who waits, first come first, and when they last asked
    _number: int = field(init=False)

    def __post_init__(self) -> None:
        self._number = self.first
        self._tokens = float(self.policy.burst)

    def ask(self, now: float, holder: str) -> Lease | Wait:
        """Leave for `holder`, any name of one who sends one request at a time; first come, first served."""
        self._pass_time(now)
        self._queue[holder] = max(now, self._queue.get(holder, now))
        ahead = list(self._queue).index(holder)
        if now < self._not_before:
            return self._wait(holder, self._not_before - now + ahead / self.rate, paused=True)
        cap = 1 if self._breaks else self.in_flight  # one request at a time probes whether the host is back
        if ahead + len(self._flights) >= cap:
            soon = (ahead + 1) * self._seconds / cap
            return self._wait(holder, min(max(soon, POLL[0]), POLL[1]))
        if self._tokens < ahead + 1 - ROUNDING:  # one who waited as long as we said is due
            return self._wait(holder, (ahead + 1 - self._tokens) / self.rate)
        del self._queue[holder]
        self._tokens -= 1
        lease = Lease(self._number)
        self._number += 1
        self._flights[lease.number] = _Flight(now, now + LEASE, self._epoch)
        return lease

    def renew(self, now: float, lease: Lease) -> None:
        """The request still goes on, and so does its holder."""
        flight = self._flights.get(lease.number)
        if flight is not None:
            flight.lapses = max(flight.lapses, now + LEASE)

    def done(self, now: float, lease: Lease, outcome: Outcome, retry_after: float | None = None) -> None:
        """The request ended. `retry_after` in seconds, as the host asked for."""
        self._pass_time(now)
        flight = self._flights.pop(lease.number, None)
        if retry_after is not None:
            self._freeze(now + retry_after)
        if flight is None or outcome is Outcome.UNKNOWN:
            return
        self._seconds += 0.1 * (now - flight.sent - self._seconds)
        if outcome is Outcome.GOOD:
            self._failures = self._breaks = 0
            self._factor = min(1.0, self._factor + 1 / (self.policy.in_flight * self.policy.recovery))
        elif flight.epoch == self._epoch:  # what was sent before the last halving or break is no news
            self._failed(now, outcome)

    def leave(self, holder: str) -> None:
        """`holder` does not wait any more."""
        self._queue.pop(holder, None)

    @property
    def flying(self) -> int:
        """Requests under way."""
        return len(self._flights)

    @property
    def share(self) -> float:
        """Of the rate that the policy allows: what the host bears now."""
        return self._factor

    def pause(self, now: float) -> float:
        """Seconds for which the host is still left alone."""
        return max(0.0, self._not_before - now)

    @property
    def rate(self) -> float:
        """Requests / s, now."""
        return self.policy.rate * self._factor

    @property
    def in_flight(self) -> int:
        """Requests at once, now."""
        return max(1, int(self.policy.in_flight * self._factor + ROUNDING))

    def _pass_time(self, now: float) -> None:
        since = now if self._counted is None else max(self._counted, min(now, self._not_before))
        if now > since:
            self._tokens = min(float(self.policy.burst), self._tokens + (now - since) * self.rate)
        self._counted = now if self._counted is None else max(now, self._counted)
        self._flights = {number: flight for number, flight in self._flights.items() if flight.lapses > now}
        self._queue = {holder: due for holder, due in self._queue.items() if now <= due + ABSENT}

    def _failed(self, now: float, outcome: Outcome) -> None:
        if outcome is Outcome.BUSY:
            self._factor = max(LEAST, self._factor / 2)
            self._epoch += 1
        self._failures += 1
        if self._breaks or self._failures >= self.policy.failures:
            self._freeze(now + min(self.policy.longest_pause, self.policy.pause * 2**self._breaks))
            self._breaks, self._failures = min(self._breaks + 1, 32), 0
            self._epoch += 1

    def _freeze(self, until: float) -> None:
        """Nothing before `until`, and then no burst."""
        self._not_before = max(self._not_before, until)
        self._tokens = min(self._tokens, 1.0)

    def _wait(self, holder: str, seconds: float, paused: bool = False) -> Wait:
        self._queue[holder] += seconds
        return Wait(seconds, paused)
