"""The way to a limiter: the same questions, whether it lives in this process or in an actor of the cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.archives.limiter import Lease, Limiter, Outcome, Wait
from pipeline.archives.policy import ArchivesSection


class Gate(Protocol):
    """Leave to ask a host, from whoever counts for the whole run. Thread-safe."""

    def ask(self, host: str, holder: str) -> Lease | Wait: ...

    def renew(self, host: str, lease: Lease) -> None: ...

    def done(
        self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None, received: int = 0
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class HostState:
    """What was asked of a host so far, and what it bears now."""

    requests: Mapping[str, int]  # outcome -> requests that ended
    bytes: int
    in_flight: int
    share: float  # of the rate that its policy allows
    pause: float  # s for which it is still left alone


class LocalGate:
    """A `Gate` for one process: a limiter a host, on this process's clock."""

    def __init__(self, settings: ArchivesSection, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._limiters: dict[str, Limiter] = {}
        self._ended: dict[str, Counter[str]] = {}  # host -> outcome -> requests
        self._bytes: Counter[str] = Counter()

    def announce(self, settings: ArchivesSection) -> None:
        """Follow these policies from now on; what is in flight, and what a host asked for, still counts."""
        with self._lock:
            self._settings = settings
            for host, limiter in self._limiters.items():
                limiter.policy = settings.policy(host)

    def ask(self, host: str, holder: str) -> Lease | Wait:
        with self._lock:
            return self._limiter(host).ask(self._clock(), holder)

    def renew(self, host: str, lease: Lease) -> None:
        with self._lock:
            self._limiter(host).renew(self._clock(), lease)

    def done(
        self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None, received: int = 0
    ) -> None:
        with self._lock:
            self._limiter(host).done(self._clock(), lease, outcome, retry_after)
            self._ended.setdefault(host, Counter())[outcome.name.lower()] += 1
            self._bytes[host] += received

    def hosts(self) -> Mapping[str, HostState]:
        """Every host that was asked."""
        with self._lock:
            return {
                host: HostState(
                    requests=dict(self._ended.get(host, {})),
                    bytes=self._bytes[host],
                    in_flight=limiter.flying,
                    share=limiter.share,
                    pause=limiter.pause(self._clock()),
                )
                for host, limiter in self._limiters.items()
            }

    def _limiter(self, host: str) -> Limiter:
        if host not in self._limiters:
            self._limiters[host] = Limiter(self._settings.policy(host), first=time.time_ns())
        return self._limiters[host]
