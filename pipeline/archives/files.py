"""Files of an archive as files on this disk: in place where the root is a folder, else fetched whole.

Nothing is tried again here, and nothing outlives the run of the `with` block.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import fsspec
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ArchiveError, BadImage
from pipeline.storage import without_credentials

_BLOCK = 2880  # bytes: every FITS file is a whole number of these (FITS standard 4.0, sec. 3.1)
_FITS = b"SIMPLE  ="
_PACKED = (b"\x1f\x8b", b"BZh")  # gzip, bzip2


class ArchiveFiles:
    """Paths on this disk for the files below `root`: a folder, an fsspec URL, or None for names as they stand.

    A context manager: what was fetched is removed at its end, and on any error.
    """

    def __init__(self, root: str | None) -> None:
        self._root = root
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._fetched: set[Path] = set()
        self.bytes_fetched = 0
        self.requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._fetched.clear()

    def path(self, name: str) -> Path:
        """The file `name` on this disk.

        Raises FileNotFoundError where the archive has no such file, ArchiveError where it gives no answer or
        no FITS file, BadImage for a name that leads out of the root.
        """
        self.requests += 1
        url = self._url(name)
        filesystem, place = _filesystem(url)
        if not isinstance(filesystem, LocalFileSystem):
            return self._fetch(filesystem, place, without_credentials(url))
        path = Path(place)
        if path.is_file():
            return path
        if self._root is not None and not Path(_filesystem(self._root)[1]).is_dir():
            raise ArchiveError(f"{self._root}: no such folder")  # a disk that went away is not a missing file
        raise FileNotFoundError(f"{path}: no such file")

    def release(self, path: Path) -> None:
        """Give back the disk of a file that is no longer wanted; files in place stay."""
        if path in self._fetched:
            self._fetched.remove(path)
            path.unlink()

    def _url(self, name: str) -> str:
        if self._root is None:
            return name
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "://" in name or not name:
            raise BadImage(f"{name!r} is not a path below {without_credentials(self._root)}")
        split = urlsplit(self._root)
        if split.scheme in ("http", "https"):  # the query, if any, belongs to the root: a token
            return urlunsplit(split._replace(path=f"{split.path.rstrip('/')}/{quote(name)}"))
        return f"{self._root.rstrip('/')}/{name}"

    def _fetch(self, filesystem: Any, place: str, shown: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pipeline-")
        path = Path(self._folder.name) / str(self.requests)
        try:
            filesystem.get_file(place, str(path))
        except FileNotFoundError:
            raise FileNotFoundError(f"{shown}: the archive has no such file") from None
        except (OSError, ClientError, BotoCoreError, ValueError) as error:
            path.unlink(missing_ok=True)
            # Not the error's own words, nor the error itself: they repeat the URL with its secrets.
            raise ArchiveError(f"{shown}: {_kind(error)}") from None
        _check_fits(path, shown)
        self._fetched.add(path)
        self.bytes_fetched += path.stat().st_size
        return path


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        filesystem, place = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ArchiveError(f"{without_credentials(url)}: {_kind(error)}: no way to read such a URL") from None
    return filesystem, place


def _kind(error: Exception) -> str:
    status = getattr(error, "status", None) or getattr(error, "errno", None)
    return f"{type(error).__name__} {status}" if status else type(error).__name__


def _check_fits(path: Path, shown: str) -> None:
    """Raises ArchiveError where the body is no FITS file: servers answer 200 with a page of HTML, or cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_FITS))
    if start.startswith(_PACKED):
        return
    if start == _FITS and size % _BLOCK == 0:
        return
    path.unlink()
    if start == _FITS:
        raise ArchiveError(f"{shown}: {size} bytes are no whole number of FITS blocks: cut short")
    raise ArchiveError(f"{shown}: the answer is no FITS file, it starts with {start!r}")
