"""Files of an archive as files on this disk: in place where the root is a folder, else from the cache or fetched.

Nothing that is fetched is used before it is checked. What no cache keeps does not outlive the `with` block.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.archives.access import Access
from pipeline.archives.answers import Answer, Invalid
from pipeline.archives.cache import Facts, Held
from pipeline.archives.policy import ArchivesSection, host_of
from pipeline.archives.validation import check_expected, check_file, published_sum
from pipeline.data import Expected
from pipeline.errors import ArchiveError, ArchiveRefused, BadImage, DiskFull, RenderingFailed
from pipeline.storage import is_full, without_credentials, without_login

ANYTHING = Expected()
_SUMS = re.compile(r"([0-9a-fA-F]{64} [ *]\S.*\n)+")  # as `sha256sum` writes them (GNU coreutils)
_LINK = re.compile(r"""href=["']?([^"'?#> ]+)""", re.IGNORECASE)


class ArchiveFiles:
    """Paths on this disk for the files below `root`: a folder, an fsspec URL, or None for names as they stand.

    A context manager: what was fetched is removed at its end, and on any error. Thread-safe.
    """

    def __init__(self, root: str | None, access: Access | None = None) -> None:
        """Without `access` the root's own host is asked, politely and without a cache."""
        self.root = root
        self._ending = ExitStack()
        self._given = access
        self._folder: Path | None = None
        self._fetched: set[Path] = set()
        self._numbers = count()
        self._lock = threading.Lock()
        self._vouched: dict[Path, bool] = {}
        self._listings: dict[str, str | None] = {}
        self._asking: dict[str, threading.Lock] = {}
        self.bytes_fetched = 0
        self.requests = 0  # files asked for, wherever they came from

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in list(self._fetched):
            self.release(path)
        self._ending.close()
        self._folder = None

    @property
    def shown(self) -> str:
        """The root as messages show it."""
        return without_credentials(self.root or "")

    def path(self, name: str, expected: Expected = ANYTHING, *, rendered: bool = False) -> Path:
        """The file `name` on this disk, held against what is expected of it and its checksums.

        `rendered`: the name is the whole URL of an answer that a service makes on demand.
        Raises FileNotFoundError where the archive has no such file, ArchiveError where it gives no answer or
        no FITS file, BadImage for a file that contradicts its checksum and a name that leads out of the root.
        """
        with self._lock:
            self.requests += 1
        url = name if rendered else self._url(name)
        place = _local(url)
        if place is not None:
            return self._in_place(place, name, expected)
        published = self._published(name, expected)
        identity = without_login(url) if rendered else without_credentials(url)

        def fetch(target: Path) -> Facts:
            vouched = False

            def check(answer: Answer) -> None:
                nonlocal vouched
                vouched = check_file(target, answer.url, published)
                check_expected(target, answer.url, expected)

            answer = self._access.client.download(url, target, rendered=rendered, check=check)
            return _facts(answer, identity, checked=vouched)

        try:
            held = self._held(identity, fetch, lambda facts: published in (None, facts.sha256))
        except RenderingFailed as error:
            if expected.covered is False:
                raise FileNotFoundError(f"{error}: outside the survey's footprint") from None
            raise
        self._vouched[held.path] = held.facts.checked or published is not None
        return held.path

    def in_place(self, name: str) -> bool:
        """Whether the file `name` is on this disk already, if it is anywhere."""
        return _local(self._url(name)) is not None

    def new_path(self) -> Path:
        """A name for a file of the caller's own, which goes with all others."""
        path = self._temporary / str(next(self._numbers))
        self._fetched.add(path)
        return path

    def read(self, name: str, start: int, stop: int, *, etag: str | None = None, fresh: bool = False) -> Answer:
        """The bytes [start, stop) of the file `name`, of the version `etag` where that is known; `fresh`: from the
        archive itself.

        Raises like `path`, and ArchiveChanged where the archive has another version by now. No checksum vouches for
        a part of a file.
        """
        url = self._url(name)

        def fetch(target: Path) -> Facts:
            answer = self._access.client.read(url, start, stop, etag=etag)
            target.write_bytes(answer.data or b"")
            return _facts(answer, without_credentials(url), part=f"{start}-{stop}")

        with self._lock:
            self.requests += 1
        accept = (lambda facts: False) if fresh else (lambda facts: etag in (None, facts.etag))
        held = self._held(f"{without_credentials(url)} {start}-{stop}", fetch, accept)
        data = held.path.read_bytes()
        self.release(held.path)
        facts = held.facts
        return Answer(facts.url, facts.size, facts.sha256, facts.etag, facts.modified, facts.total, data)

    def names(self, folder: str) -> list[str]:
        """File names in a folder; of a web server, what its index page links to. Raises like `path`."""
        url = self._url(folder)
        place = _local(url)
        if place is not None:
            return sorted(path.name for path in place.iterdir())
        if url.startswith(("http://", "https://")):
            page = self._page(url)
            return sorted({unquote(link.split("/")[-1]) for link in _LINK.findall(page)})
        return self._access.client.names(url)

    def vouched(self, path: Path) -> bool:
        """Whether a checksum was published for the bytes of a file that `path` gave, and holds."""
        return self._vouched.get(path, False)

    def release(self, path: Path) -> None:
        """Give back the disk of a file that is no longer wanted; files in place stay."""
        if path in self._fetched:
            self._fetched.remove(path)
            path.unlink(missing_ok=True)

    def _in_place(self, path: Path, name: str, expected: Expected) -> Path:
        if not path.is_file():
            root = None if self.root is None else _local(self.root)
            if root is not None and not root.is_dir():
                raise ArchiveError(f"{self.root}: no such folder")  # a disk that went away is not a missing file
            raise FileNotFoundError(f"{path}: no such file")
        try:
            self._vouched[path] = check_file(path, name, self._published(name, expected))
        except (Invalid, ArchiveRefused) as error:
            raise BadImage(f"{path}: {error}") from None
        return path

    def _held(self, key: str, fetch: Callable[[Path], Facts], accept: Callable[[Facts], bool]) -> Held:
        cache = self._access.cache
        try:
            if cache is not None:
                held = cache.file(key, self._temporary, fetch, accept)
            else:
                path = self._temporary / str(next(self._numbers))
                held = Held(path, fetch(path), fetched=True)
        except OSError as error:
            if is_full(error):
                raise DiskFull(f"no room to fetch {key}: {error.strerror}") from error
            raise
        self._fetched.add(held.path)
        if held.fetched:
            with self._lock:
                self.bytes_fetched += held.facts.size
        return held

    def _published(self, name: str, expected: Expected) -> str | None:
        """The SHA-256 that the survey publishes for the file, if it does."""
        if expected.sums is None or not self._access.published_sums:
            return None
        with self._lock:
            alone = self._asking.setdefault(expected.sums, threading.Lock())
        with alone:
            if expected.sums not in self._listings:
                self._listings[expected.sums] = self._listing(expected.sums)
        listing = self._listings[expected.sums]
        return None if listing is None else published_sum(listing, name)

    def _listing(self, name: str) -> str | None:
        """A list of SHA-256 sums, None where the archive has none or gives none out."""
        url = self._url(name)
        place = _local(url)
        if place is not None:
            return place.read_text() if place.is_file() else None

        def fetch(target: Path) -> Facts:
            answer = self._access.client.download(url, target, check=lambda answer: _check_listing(target))
            return _facts(answer, without_credentials(url))

        try:
            held = self._held(without_credentials(url), fetch, lambda facts: True)
        except (FileNotFoundError, ArchiveRefused, BadImage):
            return None  # the archive has none, or one that is none: cards may vouch
        return held.path.read_text()

    def _page(self, url: str) -> str:
        """The index page of a folder, as recent as the cache believes it."""
        parts = urlsplit(url)

        def fetch(target: Path) -> Facts:
            answer = self._access.client.download(urlunsplit(parts._replace(path=f"{parts.path}/")), target)
            return _facts(answer, f"{without_credentials(url)}/")

        cache = self._access.cache
        held = self._held(f"{without_credentials(url)}/", fetch, cache.is_recent if cache else lambda facts: True)
        return held.path.read_text(errors="replace")

    def _url(self, name: str) -> str:
        if self.root is None:
            return name
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "://" in name or not name:
            raise BadImage(f"{name!r} is not a path below {without_credentials(self.root)}")
        split = urlsplit(self.root)
        if split.scheme in ("http", "https"):  # the query, if any, belongs to the root: a token
            return urlunsplit(split._replace(path=f"{split.path.rstrip('/')}/{quote(name)}"))
        return f"{self.root.rstrip('/')}/{name}"

    @property
    def _access(self) -> Access:
        with self._lock:
            if self._given is None:
                hosts = [host_of(self.root)] if self.root is not None else []
                self._given = self._ending.enter_context(Access(ArchivesSection(), hosts))
            return self._given

    @property
    def _temporary(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-")))
            return self._folder


def _local(url: str) -> Path | None:
    """The path on this machine's disk, None for anything else. Raises ArchiveError for a URL that nothing reads."""
    try:
        filesystem: Any = fsspec.get_filesystem_class(fsspec.utils.get_protocol(url))
    except (ValueError, ImportError) as error:
        message = f"{without_credentials(url)}: {type(error).__name__}: no way to read such a URL"
        raise ArchiveError(message) from None
    return Path(filesystem._strip_protocol(url)) if issubclass(filesystem, LocalFileSystem) else None


def _facts(answer: Answer, url: str, *, part: str = "", checked: bool = False) -> Facts:
    return Facts(
        url=url,
        part=part,
        sha256=answer.sha256,
        size=answer.size,
        checked=checked,
        etag=answer.etag,
        modified=answer.modified,
        total=answer.total,
    )


def _check_listing(path: Path) -> None:
    """Raises Invalid where a file is no whole list of SHA-256 sums: text has no other sign that it was cut short."""
    text = path.read_text(errors="replace")
    if not _SUMS.fullmatch(text):
        raise Invalid(f"the answer is no list of SHA-256 sums, it starts with {text[:20]!r}")
