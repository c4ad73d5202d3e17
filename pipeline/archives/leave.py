"""Leave to send a request: asked of the gate, kept alive while the request goes on, given back at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

from pipeline.archives.answers import Fault
from pipeline.archives.gate import Gate
from pipeline.archives.limiter import LEASE, Lease, Outcome, Wait
from pipeline.errors import PipelineError

BEAT = LEASE / 4  # s between two signs of life


class TooLong(Exception):
    """The host wants to be left alone for longer than the caller can wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wants to be left alone for {seconds:.0f} s")


@dataclass
class Use:
    """What came of one request."""

    bytes: int = 0


class Leaves:
    """The leases of one process. A thread renews those in use, so that only the dead lose theirs."""

    def __init__(self, gate: Gate, sleep: Callable[[float], None] = time.sleep, beat: float = BEAT) -> None:
        self._gate, self._sleep, self._every = gate, sleep, beat
        self._name, self._numbers = uuid4().hex, count()
        self._used: dict[tuple[str, Lease], None] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    @contextmanager
    def leave(self, host: str, patience: Callable[[], float]) -> Iterator[Use]:
        """The time of the `with` block is one request. Raises TooLong where a pause exceeds `patience` (s, now)."""
        lease = self._granted(host, patience)
        outcome, retry_after, use = Outcome.UNKNOWN, None, Use()
        self._keep(host, lease)
        try:
            yield use
            outcome = Outcome.GOOD
        except Fault as fault:
            outcome, retry_after = fault.outcome, fault.retry_after
            raise
        except (PipelineError, FileNotFoundError):  # an answer, if not the one hoped for
            outcome = Outcome.GOOD
            raise
        finally:
            with self._lock:
                del self._used[host, lease]
            self._gate.done(host, lease, outcome, retry_after, use.bytes)

    def close(self) -> None:
        self._over.set()
        if self._beating is not None:
            self._beating.join()

    def _granted(self, host: str, patience: Callable[[], float]) -> Lease:
        holder = f"{self._name}-{next(self._numbers)}"
        answer = self._gate.ask(host, holder)
        while isinstance(answer, Wait):
            if answer.paused and answer.seconds > patience():
                raise TooLong(answer.seconds)
            self._sleep(answer.seconds)
            answer = self._gate.ask(host, holder)
        return answer

    def _keep(self, host: str, lease: Lease) -> None:
        with self._lock:
            self._used[host, lease] = None
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat, daemon=True, name="leases")
                self._beating.start()

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            with self._lock:
                used = list(self._used)
            for host, lease in used:
                self._gate.renew(host, lease)
