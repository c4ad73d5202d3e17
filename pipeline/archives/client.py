"""The only code that asks an archive for bytes, and the only place where anything is asked for again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx

from pipeline.archives.answers import Answer, Body, Fault, Invalid
from pipeline.archives.gate import Gate, LocalGate
from pipeline.archives.limiter import Outcome, Wait
from pipeline.archives.policy import ArchivesSection, host_of
from pipeline.archives.sink import Sink
from pipeline.archives.web import Request, opened
from pipeline.errors import ArchiveChanged, ArchiveError, ArchiveRefused, BadImage
from pipeline.storage import without_credentials

SLOWEST = 1000.0  # bytes / s over a whole timeout: a body that trickles slower counts as silent
RENEW = 10.0  # s of a body after which its lease is renewed

Check = Callable[[Answer], None]
"""Looks at a whole answer. Raises Invalid, saying what is wrong with it."""


@dataclass(frozen=True)
class Timing:
    """Time and chance, as tests replace them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform


@dataclass
class _Call:
    """One thing that is wanted, over all its attempts."""

    url: str
    start: int
    stop: int | None
    etag: str | None
    rendered: bool
    sink: Sink
    deadline: float | None = None  # once the first attempt is under way
    requests: int = 0
    failed_renderings: int = 0
    total: int | None = None
    modified: str | None = None
    wrong: set[str] = field(default_factory=set)  # sha256 of answers that were no good

    @property
    def shown(self) -> str:
        return without_credentials(self.url)


class Client:
    """Files of archives, or byte ranges of them, over http(s). Thread-safe; one a process, as a context manager.

    Every request has the leave of `gate`. What may go better is tried again (`settings.retry`): a body cut short from
    the byte where it broke, as long as the file is the same. Every method raises FileNotFoundError where the archive
    has no such file, ArchiveRefused where it or the job says no, ArchiveChanged where it is not the version `etag`,
    BadImage where it gives the same wrong bytes twice, and ArchiveError when all attempts have failed.
    """

    def __init__(
        self, settings: ArchivesSection, hosts: Iterable[str] = (), gate: Gate | None = None, timing: Timing = Timing()
    ) -> None:
        """`hosts` may be asked, as `host_of` names them, besides `settings.allowed_hosts`."""
        self._settings, self._timing = settings, timing
        self._allowed = (*hosts, *settings.allowed_hosts)
        self._gate = gate or LocalGate(settings)
        self._name, self._numbers = uuid4().hex[:8], count()
        self._lock = threading.Lock()

    def read(
        self,
        url: str,
        start: int | None = None,
        stop: int | None = None,
        *,
        etag: str | None = None,
        rendered: bool = False,
        check: Check | None = None,
    ) -> Answer:
        """The bytes [start, stop) of `url` in memory, all without them.

        `etag`: of that version only. `rendered`: the server makes the answer on demand, a second 500 is its word.
        """
        return self._fetch(_Call(url, start or 0, stop, etag, rendered, Sink(None)), check, None)

    def download(self, url: str, target: Path, *, rendered: bool = False, check: Check | None = None) -> Answer:
        """The whole of `url` as the file `target`. What is there when anything is raised is not the file."""
        return self._fetch(_Call(url, 0, None, None, rendered, Sink(target)), check, target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def _fetch(self, call: _Call, check: Check | None, path: Path | None) -> Answer:
        with closing(call.sink):
            self._allow(call.url)
            for attempt in range(self._settings.retry.attempts):
                answer = self._tried(call, check, path)
                if isinstance(answer, Answer):
                    return answer
                self._give_up_or_pause(call, attempt, answer)
        raise ArchiveError(f"{call.shown}: no attempts are allowed")

    def _tried(self, call: _Call, check: Check | None, path: Path | None) -> Answer | Fault | Invalid:
        try:
            with self._leave(call) as renew:
                return self._attempt(call, check, path, renew)
        except (Fault, Invalid) as fault:
            return fault

    def _give_up_or_pause(self, call: _Call, attempt: int, fault: Fault | Invalid) -> None:
        """Raises ArchiveRefused or ArchiveError where another attempt is not worth it, or would come too late."""
        retry = self._settings.retry
        call.failed_renderings += call.rendered and isinstance(fault, Fault) and fault.status == 500
        if call.failed_renderings == 2:
            raise ArchiveRefused(f"{call.shown}: HTTP 500 twice")
        pause = self._timing.uniform(0, min(retry.longest, retry.first * 2**attempt))
        if attempt + 1 == retry.attempts or self._late(call, pause):
            raise ArchiveError(f"{call.shown}: {fault} ({call.requests} requests)")
        self._timing.sleep(pause)

    def _attempt(self, call: _Call, check: Check | None, path: Path | None, renew: Callable[[], None]) -> Answer:
        call.requests += 1
        span = (call.start + call.sink.size, call.stop)
        try:
            timeout = self._settings.policy(host_of(call.url)).timeout
            with opened(self._session, Request(call.url, *span, call.etag, timeout), self._allow) as body:
                self._receive(call, body, renew)
        except ArchiveChanged:
            if not call.sink.size:
                raise
            call.sink.restart()  # what has come is of another version
            call.etag = None
            raise Fault("another version in the middle", Outcome.GOOD) from None
        sha256 = call.sink.finish()
        answer = Answer(
            url=call.shown,
            size=call.sink.size,
            sha256=sha256,
            etag=call.etag,
            modified=call.modified,
            total=call.total,
            data=call.sink.data,
            path=path,
            requests=call.requests,
        )
        if check is not None:
            self._check(call, check, answer)
        return answer

    def _receive(self, call: _Call, body: Body, renew: Callable[[], None]) -> None:
        """Add a body to what has come. Raises Fault where it breaks off, trickles, or is not the part asked for."""
        if body.offset != call.start + call.sink.size:
            call.sink.restart()
            if body.offset != call.start:
                raise Fault(f"bytes from {body.offset}, not from {call.start}", Outcome.FAILED)
        call.etag, call.modified, call.total = body.etag, body.modified, body.total
        began = renewed = self._timing.now()
        came = 0
        timeout = self._settings.policy(host_of(call.url)).timeout
        for chunk in body.chunks:
            call.sink.write(chunk)
            came += len(chunk)
            now = self._timing.now()
            if now - began > timeout and came < SLOWEST * (now - began):
                raise Fault(f"{came} bytes in {now - began:.0f} s", Outcome.BUSY)
            if now - renewed > RENEW:
                renew()
                renewed = now
        if body.length is not None and came != body.length:
            raise Fault(f"cut short: {came} of {body.length} bytes", Outcome.FAILED)

    def _check(self, call: _Call, check: Check, answer: Answer) -> None:
        """Raises Invalid, or BadImage for bytes that have come and been wrong before."""
        try:
            check(answer)
        except Invalid as error:
            call.sink.restart()
            if answer.sha256 in call.wrong:
                raise BadImage(f"{answer.url}: {error}") from None
            call.wrong.add(answer.sha256)
            raise

    @contextmanager
    def _leave(self, call: _Call) -> Iterator[Callable[[], None]]:
        """Wait for leave to ask, and tell the gate how it went. Raises Fault where it would take too long."""
        host, holder = host_of(call.url), f"{self._name}-{next(self._numbers)}"
        answer = self._gate.ask(host, holder)
        while isinstance(answer, Wait):
            if answer.paused and self._late(call, answer.seconds):
                raise ArchiveError(f"{call.shown}: {host} wants to be left alone for {answer.seconds:.0f} s")
            self._timing.sleep(answer.seconds)
            answer = self._gate.ask(host, holder)
        lease, outcome, retry_after = answer, Outcome.UNKNOWN, None
        if call.deadline is None:
            call.deadline = self._timing.now() + self._settings.retry.deadline
        try:
            yield lambda: self._gate.renew(host, lease)
            outcome = Outcome.GOOD
        except Fault as fault:
            outcome, retry_after = fault.outcome, fault.retry_after
            raise
        except (Invalid, FileNotFoundError, ArchiveError, BadImage):
            outcome = Outcome.GOOD
            raise
        finally:
            self._gate.done(host, lease, outcome, retry_after)

    def _late(self, call: _Call, seconds: float) -> bool:
        deadline = self._timing.now() + self._settings.retry.deadline if call.deadline is None else call.deadline
        return self._timing.now() + seconds > deadline

    def _allow(self, url: str) -> None:
        """Raises ArchiveRefused for a host that the job does not name: a table or a redirect may say anything."""
        host = host_of(url)
        names = {host, host.partition(":")[0] if "://" not in host else host}
        if not any(fnmatchcase(name, pattern) for name in names for pattern in self._allowed):
            raise ArchiveRefused(
                f"{without_credentials(url)}: the job does not allow {host} (--set archives.allowed_hosts=[{host}])"
            )

    @cached_property
    def _session(self) -> httpx.Client:
        contact = f" (+{self._settings.contact})" if self._settings.contact else ""
        most = max((policy.in_flight for policy in (self._settings.default, *self._settings.hosts.values())), default=1)
        return httpx.Client(
            headers={
                "User-Agent": f"galaxy-pipeline/{version('galaxy-pipeline')}{contact}",
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(self._settings.default.timeout, connect=20.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=most),
        )
