"""Files that were fetched, kept for the next task and the next run: on a disk or in an object store.

    <root>/names/<ab>/<key>.json       what is known of a request: where its bytes came from, their SHA-256
    <root>/objects/<ab>/<sha256>       the bytes, published whole and checked

A name is written after its object; its time of change is that of its last use. What was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from pipeline.archives.flight import single_flight
from pipeline.archives.policy import CacheSection
from pipeline.archives.validation import sha256_of
from pipeline.storage import Storage

KEEP = 0.9  # of the limit, once it is exceeded: else every file that comes would make room for itself alone
COUNT = 0.01  # of the limit, that this process adds before it counts the whole cache again
TOUCH = 3600.0  # s between two marks of use, where a mark is a request
DAY = 86_400.0  # s


Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # names an object, so nothing else may stand there


@dataclass(frozen=True, slots=True)
class Facts:
    """Where the bytes of one request came from. `missing`: in what words the archive said that there are none."""

    url: str  # without credentials
    part: str = ""  # "start-stop" of a range
    sha256: Digest = ""
    size: int = 0  # bytes
    checked: bool = False  # a checksum published with the bytes vouches for them
    etag: str | None = None
    modified: str | None = None
    total: int | None = None  # bytes of the whole file
    fetched: float = 0.0  # s, Unix
    missing: str = ""


_FACTS = TypeAdapter(Facts)


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the cache at `path`, which is the caller's own name for it: to be removed after use."""

    path: Path
    facts: Facts
    fetched: bool  # just now, by this call


class Cache:
    """Safe for threads, tasks and processes that share it; single-flight: what many want at once is fetched once."""

    def __init__(self, section: CacheSection, clock: Callable[[], float] = time.time) -> None:
        """`section.url` names the place. Raises ValueError where it names none."""
        if section.url is None:
            raise ValueError("a cache needs a place")
        self._section, self._clock = section, clock
        self._storage = Storage(section.url)
        self._uncounted = float("inf")  # bytes added since the cache was counted
        self._marked: dict[str, float] = {}

    def file(
        self,
        key: str,
        folder: Path,
        fetch: Callable[[Path], Facts],
        accept: Callable[[Facts], bool] = lambda facts: True,
    ) -> Held:
        """The file of a request, as a new name in `folder` (a cache on a disk gives a link on that disk instead).

        `fetch` brings it, checked, where the cache has it not, or not one to `accept`. Its FileNotFoundError is
        remembered for a while.
        """
        name = _name(key)
        while True:
            held = self._found(name, folder, accept)
            if held is not None:
                return held
            with single_flight(self._storage, name.removeprefix("names/")) as mine:
                if not mine:
                    continue
                return self._found(name, folder, accept) or self._fetched(name, folder, fetch)

    def is_recent(self, facts: Facts) -> bool:
        """Whether what an archive may change at any time is still believed."""
        return facts.fetched + self._section.believed_days * DAY > self._clock()

    def _found(self, name: str, folder: Path, accept: Callable[[Facts], bool]) -> Held | None:
        """Raises FileNotFoundError where the archive is known to have no such file."""
        facts = self._facts(name)
        if facts is None or (facts.missing and not self.is_recent(facts)):
            return None
        if facts.missing:
            raise FileNotFoundError(facts.missing)
        if not accept(facts):
            return None
        path = self._taken(facts.sha256, folder)
        if path is None:
            return None
        if path.stat().st_size != facts.size or sha256_of(path) != facts.sha256:
            path.unlink()
            self._storage.delete(_object(facts.sha256))  # the disk has changed it: fetch it anew
            return None
        self._mark(name, facts)
        return Held(path, facts, fetched=False)

    def _fetched(self, name: str, folder: Path, fetch: Callable[[Path], Facts]) -> Held:
        path = self._own_name(folder)
        try:
            facts = replace(fetch(path), fetched=self._clock())
        except FileNotFoundError as error:
            if self._section.believed_days:
                self._remember(name, Facts(url="", missing=str(error), fetched=self._clock()))
            raise
        # What others take away as they make room is no word of the archive's, which this error would be taken for.
        with suppress(FileNotFoundError):
            self._publish(path, facts)
            self._remember(name, facts)
            self._make_room(facts.size)
        return Held(path, facts, fetched=True)

    def _publish(self, path: Path, facts: Facts) -> None:
        if self._storage.local is None:
            self._storage.create(_object(facts.sha256), path.read_bytes())
            return
        target = self._storage.local / _object(facts.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(path, target)

    def _taken(self, sha256: str, folder: Path) -> Path | None:
        """The object under a name of the caller's own, so that nobody can take it away while it is read."""
        path = self._own_name(folder)
        try:
            if self._storage.local is not None:
                os.link(self._storage.local / _object(sha256), path)
            else:
                path.write_bytes(self._storage.read(_object(sha256)))
        except FileNotFoundError:
            return None
        return path

    def _own_name(self, folder: Path) -> Path:
        """A new name: on the cache's own disk, where links are possible."""
        if self._storage.local is not None:
            folder = self._storage.local / "held"
            folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def _facts(self, name: str) -> Facts | None:
        """None for a sidecar that is damaged or of another version: what it speaks of is fetched anew."""
        try:
            facts = _FACTS.validate_json(self._storage.read(name), strict=True)
        except (FileNotFoundError, ValueError):
            return None
        return facts if facts.sha256 or facts.missing else None

    def _remember(self, name: str, facts: Facts) -> None:
        self._storage.replace(name, json.dumps(asdict(facts)).encode())

    def _mark(self, name: str, facts: Facts) -> None:
        """Note that the name is in use."""
        now = self._clock()
        if self._storage.local is not None:
            with suppress(FileNotFoundError):
                os.utime(self._storage.local / name, (now, now))
        elif now - self._marked.get(name, facts.fetched) > TOUCH:
            self._remember(name, facts)
            self._marked[name] = now

    def _make_room(self, added: int) -> None:
        """Remove what was used longest ago, once the limit is exceeded; now and then, as counting takes time."""
        limit = self._section.gigabytes * 1e9
        self._uncounted += added
        if self._uncounted < COUNT * limit:
            return
        self._uncounted = 0.0
        objects = self._storage.details("objects")
        total = sum(size for size, _ in objects.values())
        self._clear_held()
        if total <= limit:
            return
        for name, _ in sorted(self._storage.details("names").items(), key=lambda item: item[1][1]):
            if total <= KEEP * limit:
                break
            facts = self._facts(name)
            self._storage.delete(name)
            if facts is not None and _object(facts.sha256) in objects:
                self._storage.delete(_object(facts.sha256))
                total -= objects.pop(_object(facts.sha256))[0]

    def _clear_held(self) -> None:
        """Remove names of tasks that died a day ago.

        By the disk's own clock: that of a machine which is a day wrong would take away what others read.
        """
        if self._storage.local is None:
            return
        probe = self._own_name(Path())
        probe.touch()
        now = probe.stat().st_ctime
        probe.unlink()
        for path in probe.parent.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_ctime < now - DAY:  # a link's own age: it shares the time of its object
                    path.unlink()


def _name(key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"names/{digest[:2]}/{digest}.json"


def _object(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}"
