"""How one process gets at archives: one client, one cache, for every file that it reads."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from pipeline.archives.cache import Cache
from pipeline.archives.client import Client
from pipeline.archives.gate import Gate
from pipeline.archives.policy import ArchivesSection


class Access:
    """A context manager. Thread-safe."""

    def __init__(self, settings: ArchivesSection, hosts: Iterable[str] = (), gate: Gate | None = None) -> None:
        """`hosts`, as `host_of` names them, may be asked besides those that the settings allow."""
        self.client = Client(settings, hosts, gate)
        self.cache = Cache(settings.cache) if settings.cache.url is not None else None
        self.published_sums = settings.published_sums

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.__exit__(kind, error, trace)
