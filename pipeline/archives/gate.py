"""The way to a limiter: the same three questions, whether it lives in this process or in an actor of the cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from pipeline.archives.limiter import Lease, Limiter, Outcome, Wait
from pipeline.archives.policy import ArchivesSection


class Gate(Protocol):
    """Leave to ask a host, from whoever counts for the whole run. Thread-safe."""

    def ask(self, host: str, holder: str) -> Lease | Wait: ...

    def renew(self, host: str, lease: Lease) -> None: ...

    def done(self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None) -> None: ...


class LocalGate:
    """A `Gate` for one process: a limiter a host, on this process's clock."""

    def __init__(self, settings: ArchivesSection, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._limiters: dict[str, Limiter] = {}

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

    def done(self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None) -> None:
        with self._lock:
            self._limiter(host).done(self._clock(), lease, outcome, retry_after)

    def _limiter(self, host: str) -> Limiter:
        if host not in self._limiters:
            self._limiters[host] = Limiter(self._settings.policy(host), first=time.time_ns())
        return self._limiters[host]
