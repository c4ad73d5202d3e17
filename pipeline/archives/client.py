"""The only code that asks an archive for bytes, and the only place where anything is asked for again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.archives import buckets, web
from pipeline.archives.answers import Answer, Body, Fault, Invalid, Moved, NotTheFile
from pipeline.archives.gate import Gate, LocalGate
from pipeline.archives.leave import Leaves, TooLong, Use
from pipeline.archives.limiter import Outcome
from pipeline.archives.policy import ArchivesSection, HostPolicy, host_of
from pipeline.archives.sink import Sink
from pipeline.archives.web import Request
from pipeline.errors import ArchiveChanged, ArchiveError, ArchiveRefused, BadImage, RenderingFailed
from pipeline.storage import without_credentials

if TYPE_CHECKING:
    import httpx

REDIRECTS = 5
SLOWEST = 1000.0  # bytes / s over a whole timeout: a body that trickles slower counts as silent

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
    given_etag: str | None
    rendered: bool
    sink: Sink
    place: str = field(init=False)  # the URL, or where the archive says that it is now
    use: Use = field(default_factory=Use)  # of the request under way
    hops: int = 0
    etag: str | None = None  # of the version that has begun to come
    deadline: float | None = None  # once the first attempt is under way
    requests: int = 0
    failed_renderings: int = 0
    total: int | None = None
    modified: str | None = None
    wrong: set[str] = field(default_factory=set)  # sha256 of answers that were no good

    def __post_init__(self) -> None:
        self.etag, self.place = self.given_etag, self.url

    @property
    def host(self) -> str:
        return host_of(self.place)

    @property
    def shown(self) -> str:
        return without_credentials(self.url)


class Client:
    """Files of archives, or byte ranges of them, over http(s) or from object stores.

    Thread-safe; one a process, as a context manager.

    Every request has the leave of `gate`. What may go better is tried again (`settings.retry`): a body cut short from
    the byte where it broke, as long as the file is the same. Every method raises FileNotFoundError where the archive
    has no such file, ArchiveRefused where it or the job says no, ArchiveChanged where it is not the version `etag`,
    BadImage where it gives the same wrong bytes twice, and ArchiveError when all attempts have failed.
    """

    def __init__(
        self, settings: ArchivesSection, hosts: Iterable[str] = (), gate: Gate | None = None, timing: Timing = Timing()
    ) -> None:
        """`hosts` may be asked, as `host_of` names them, besides `settings.allowed_hosts`."""
        self.settings, self._timing = settings, timing
        self._allowed = (*hosts, *settings.allowed_hosts)
        self._leaves = Leaves(gate or LocalGate(settings), timing.sleep)
        self._stores: dict[str, Any] = {}  # file systems, by "scheme://bucket"
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

    def names(self, url: str) -> list[str]:
        """The names in a folder of an object store."""
        self._allow(url)
        store, shown = self._store(url, self.settings.policy(host_of(url))), without_credentials(url)
        try:
            with buckets.faults(shown):
                return sorted(path.rpartition("/")[2] for path in store.ls(url, detail=False))
        except Fault as fault:
            raise ArchiveError(f"{shown}: {fault}") from None

    @contextmanager
    def leave(self, url: str) -> Iterator[None]:
        """The time of the `with` block is one request of another library's: a `Fault` raised in it counts as one.

        Raises ArchiveRefused for a host that the job does not allow, ArchiveError for one that rests for too long.
        """
        self._allow(url)
        try:
            with self._leaves.leave(host_of(url), lambda: self.settings.retry.deadline):
                yield
        except TooLong as error:
            raise ArchiveError(f"{without_credentials(url)}: {host_of(url)} {error}") from None

    @property
    def user_agent(self) -> str:
        """Who we say we are."""
        contact = f" (+{self.settings.contact})" if self.settings.contact else ""
        return f"galaxy-pipeline/{version('galaxy-pipeline')}{contact}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaves.close()
        if "_session" in self.__dict__:
            self._session.close()

    def _fetch(self, call: _Call, check: Check | None, path: Path | None) -> Answer:
        with closing(call.sink):
            self._allow(call.url)
            for attempt in range(self.settings.retry.attempts):
                answer = self._tried(call, check, path)
                if isinstance(answer, Answer):
                    return answer
                self._give_up_or_pause(call, attempt, answer)
        raise ArchiveError(f"{call.shown}: no attempts are allowed")

    def _tried(self, call: _Call, check: Check | None, path: Path | None) -> Answer | Fault | Invalid:
        try:
            with self._leaves.leave(call.host, lambda: self._left(call)) as call.use:
                answer = self._attempt(call, path)
        except TooLong as error:
            raise ArchiveError(f"{call.shown}: {call.host} {error}") from None
        except Fault as fault:
            return fault
        return self._checked(call, check, answer)

    def _give_up_or_pause(self, call: _Call, attempt: int, fault: Fault | Invalid) -> None:
        """Raises ArchiveRefused or ArchiveError where another attempt is not worth it, or would come too late."""
        retry = self.settings.retry
        if isinstance(fault, Moved):
            call.place, call.hops = fault.url, call.hops + 1
            self._allow(call.place)
            if call.hops > REDIRECTS:
                raise ArchiveRefused(f"{call.shown}: more than {REDIRECTS} redirects")
            return
        call.failed_renderings += call.rendered and isinstance(fault, Fault) and fault.status == 500
        if call.failed_renderings == 2:
            raise RenderingFailed(f"{call.shown}: HTTP 500 twice")
        pause = self._timing.uniform(0, min(retry.longest, retry.first * 2**attempt))
        if attempt + 1 == retry.attempts or pause > self._left(call):
            raise ArchiveError(f"{call.shown}: {fault} ({call.requests} requests)")
        self._timing.sleep(pause)

    def _attempt(self, call: _Call, path: Path | None) -> Answer:
        call.requests += 1
        if call.deadline is None:
            call.deadline = self._timing.now() + self.settings.retry.deadline
        policy = self.settings.policy(call.host)
        if not call.etag:
            call.sink.restart()  # nothing says that the rest would be of the same version
        wanted = Request(call.place, call.start + call.sink.size, call.stop, call.etag, policy.timeout)
        try:
            with self._opened(wanted, policy) as body:
                self._receive(call, body, policy.timeout)
        except ArchiveChanged:
            if call.given_etag is not None:
                raise
            call.sink.restart()  # what has come is of another version
            call.etag = None
            raise Fault("another version in the middle", Outcome.GOOD) from None
        return Answer(
            url=call.shown,
            size=call.sink.size,
            sha256=call.sink.finish(),
            etag=call.etag,
            modified=call.modified,
            total=call.total,
            data=call.sink.data,
            path=path,
            requests=call.requests,
        )

    def _receive(self, call: _Call, body: Body, timeout: float) -> None:
        """Add a body to what has come. Raises Fault where it breaks off, trickles, or is not the part asked for."""
        if body.offset != call.start + call.sink.size:
            call.sink.restart()
            if body.offset != call.start:
                raise ArchiveRefused(f"{call.shown}: bytes from {body.offset}, not {call.start}: it gives no ranges")
        call.etag, call.modified, call.total = body.etag, body.modified, body.total
        began, came = self._timing.now(), 0
        for chunk in body.chunks:
            call.sink.write(chunk)
            came += len(chunk)
            call.use.bytes = came
            took = self._timing.now() - began
            if took > timeout and came < SLOWEST * took:
                raise Fault(f"{came} bytes in {took:.0f} s", Outcome.BUSY)
        if body.length is not None and came != body.length:
            raise Fault(f"cut short: {came} of {body.length} bytes", Outcome.FAILED)
        wanted = call.stop if call.stop is None or body.total is None else min(call.stop, body.total)
        if wanted is not None and call.sink.size != wanted - call.start:
            raise Fault(f"{call.sink.size} of {wanted - call.start} bytes", Outcome.FAILED)

    def _checked(self, call: _Call, check: Check | None, answer: Answer) -> Answer | Invalid:
        """The answer, or what is wrong with it. Raises BadImage for bytes that have come and been wrong before."""
        try:
            if check is not None:
                check(answer)
        except Invalid as error:
            call.sink.restart()
            call.etag = call.given_etag
            if answer.sha256 in call.wrong and not isinstance(error, NotTheFile):
                raise BadImage(f"{answer.url}: {error}") from None
            call.wrong.add(answer.sha256)
            return error
        return answer

    def _opened(self, wanted: Request, policy: HostPolicy) -> AbstractContextManager[Body]:
        if "://" not in host_of(wanted.url):
            return web.opened(self._session, wanted)
        return buckets.opened(self._store(wanted.url, policy), wanted)

    def _store(self, url: str, policy: HostPolicy) -> Any:
        host = host_of(url)
        with self._lock:
            if host not in self._stores:
                self._stores[host] = buckets.store_of(url, policy)
            return self._stores[host]

    def _left(self, call: _Call) -> float:
        """Seconds until the call's deadline."""
        retry = self.settings.retry
        return retry.deadline if call.deadline is None else call.deadline - self._timing.now()

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
        """Made by the first request: a run whose files lie on this disk imports no client for http."""
        import httpx

        most = max((policy.in_flight for policy in (self.settings.default, *self.settings.hosts.values())), default=1)
        return httpx.Client(
            headers={"User-Agent": self.user_agent, "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=most),
        )
