"""Objects that are created once and never changed: on a disk, or in an object store.

Local: a temporary file in the same folder, fsync, link; the link fails where the name exists. Object stores:
a conditional put through fsspec (S3: If-None-Match, s3fs mode "create"). Listings are never cached: another writer's
object would not exist for us.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, over the quota, over the limit of a file's size
_LOGIN = re.compile(r"(?<=://)[^/?#]*@")  # user and password; a chain (simplecache::https://...) may hold several
_CONFLICTS = 5  # tries of a conditional put while another is under way (S3: 409 ConditionalRequestConflict)
_TEMPORARY = ".tmp"  # how the name of a file ends that is being written


def without_credentials(url: str) -> str:
    """The URL without user, password, query and fragment, as it may be shown and stored; a plain path as it is."""
    return re.split(r"[?#]", without_login(url), maxsplit=1)[0] if "://" in url else url


def without_login(url: str) -> str:
    """The URL without user and password, with its query: a request whose parameters are no secrets."""
    return _LOGIN.sub("", url) if "://" in url else url


def is_full(error: OSError) -> bool:
    """Whether a disk has no room, rather than a fault."""
    return error.errno in _FULL


@dataclass(frozen=True)
class Storage:
    """A folder, by path or fsspec URL. Names are relative to it, with forward slashes."""

    url: str

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        return filesystem, root.rstrip("/")

    @property
    def shown(self) -> str:
        """The URL for messages and for what is stored: without credentials."""
        return without_credentials(self.url)

    @property
    def filesystem(self) -> Any:
        return self._filesystem[0]

    @property
    def local(self) -> Path | None:
        """The folder on this machine's disk, or None for an object store."""
        return Path(self._filesystem[1]) if isinstance(self.filesystem, LocalFileSystem) else None

    @property
    def protocol(self) -> str:
        """How the storage is reached: "file", "http", "s3" and others."""
        names = self.filesystem.protocol
        first = names if isinstance(names, str) else names[0]
        return "http" if first == "https" else str(first)

    def path(self, name: str) -> str:
        """The name as the file system wants it."""
        return f"{self._filesystem[1]}/{name}" if name else self._filesystem[1]

    def create(self, name: str, data: bytes) -> bool:
        """Publish `data` under `name`; False, and nothing changed, where the name exists.

        Raises DiskFull, and OSError for any other failure to write.
        """
        if self.local is not None:
            return self._create_local(self.local / name, data)
        return self._create_object(self.path(name), data)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on this machine's disk for files that `adopt` publishes; nothing of it stays.

        One at a time and storage: what a crash left of the last one is removed. Raises DiskFull from within.
        """
        if self.local is None:
            with tempfile.TemporaryDirectory(prefix="scratch-") as folder:
                yield Path(folder)
            return
        place = self.local / "scratch.tmp"  # on the same disk, so that publishing is a link
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            with _room_at(place, "what is being written"):
                yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def adopt(self, name: str, file: Path) -> bool:
        """Publish a whole file of `scratch` under `name`, as `create` does bytes."""
        if self.local is None:
            return self._create_object(self.path(name), file.read_bytes())
        target = self.local / name
        with _room_at(target, f"{file.stat().st_size} bytes"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(file)
            try:
                os.link(file, target)
            except FileExistsError:
                return False
        _sync(target.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Publish `data` under `name`, instead of what was there. Readers see the old bytes or the new."""
        if self.local is None:
            with self._answering():
                self.filesystem.pipe_file(self.path(name), data)
            return
        temporary = self._write_temporary(self.local / name, data)
        temporary.replace(self.local / name)

    def point(self, name: str, target: str) -> None:
        """Let `name` lead to the folder `target`: a relative link on a disk, a text object in an object store."""
        if self.local is None:
            self.replace(name, target.encode())
            return
        temporary = self.local / f"{name}.{uuid.uuid4().hex}{_TEMPORARY}"
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(self.local / name)

    def pointed(self, name: str) -> str | None:
        """The folder that `name` leads to, None where there is no such name."""
        if self.local is None:
            return self.read(name).decode() if self.exists(name) else None
        path = self.local / name
        return str(path.readlink()) if path.is_symlink() else None

    def read(self, name: str) -> bytes:
        """All bytes of `name`. Raises FileNotFoundError."""
        with self._answering():
            data: bytes = self.filesystem.cat_file(self.path(name))
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A seekable reader of `name`, for a `with` block: the store is asked as it reads, and may fall silent then."""
        with self._answering(), self.filesystem.open(self.path(name), "rb") as file:
            yield file

    def exists(self, name: str) -> bool:
        with self._answering():
            return bool(self.filesystem.exists(self.path(name)))

    def list(self, folder: str) -> list[str]:
        """Names of the files below `folder`, sorted; [] where there is no such folder."""
        prefix = self._filesystem[1] + "/"
        with self._answering():
            found = self.filesystem.find(self.path(folder))
        return sorted(path.removeprefix(prefix) for path in found if not path.endswith(_TEMPORARY))

    def details(self, folder: str) -> dict[str, tuple[int, float]]:
        """Bytes and time of change (s, Unix) of each file below `folder` that is not being written."""
        prefix = self._filesystem[1] + "/"
        with self._answering():
            found = self.filesystem.find(self.path(folder), detail=True)
        whole = {path.removeprefix(prefix): info for path, info in found.items() if not path.endswith(_TEMPORARY)}
        return {path: (int(info["size"]), _changed(info)) for path, info in whole.items()}

    def delete(self, name: str) -> None:
        """Remove one object; nothing happens where there is none, or another removes it at the same time."""
        if self.exists(name):
            with suppress(FileNotFoundError), self._answering():
                self.filesystem.rm_file(self.path(name))

    def delete_folder(self, folder: str) -> None:
        """Remove everything below a folder; nothing happens where there is none."""
        if self.local is not None:
            shutil.rmtree(self.local / folder, ignore_errors=True)
            return
        for name in self.list(folder):
            self.delete(name)

    def free_bytes(self) -> int | None:
        """Free space of the disk, None for an object store."""
        if self.local is None:
            return None
        folder = self.local
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Let what an object store's client raises of its own come out as OSError: callers try those again."""
        try:
            yield
        except self._client_errors as error:
            raise OSError(f"the store of {self.path('')} does not answer: {error}") from error

    @cached_property
    def _client_errors(self) -> tuple[type[Exception], ...]:
        if "s3" not in self.filesystem.protocol:
            return ()
        from botocore.exceptions import BotoCoreError, ClientError

        return (BotoCoreError, ClientError)

    def _create_local(self, path: Path, data: bytes) -> bool:
        if path.exists():
            return False
        temporary = self._write_temporary(path, data)
        try:
            with _room_at(path, f"{len(data)} bytes"):
                os.link(temporary, path)
        except FileExistsError:
            return temporary.stat().st_nlink > 1  # NFS: our own link, whose answer was lost and that was sent again
        finally:
            temporary.unlink()
        _sync(path.parent)
        return True

    def _create_object(self, path: str, data: bytes) -> bool:
        tries = 0
        while True:
            tries += 1
            try:
                with self._answering():
                    self.filesystem.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                status = _http_status(error)
                if status == 412:  # stores other than AWS do not name the condition: s3fs takes it for an error
                    return False
                if status != 409 or tries == _CONFLICTS:
                    raise
            else:
                return True

    def _write_temporary(self, path: Path, data: bytes) -> Path:
        temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}{_TEMPORARY}"
        with _room_at(path, f"{len(data)} bytes"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        return temporary


@contextmanager
def _room_at(path: Path, what: str) -> Iterator[None]:
    """Turn the errors of a full disk into DiskFull."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFull(f"no room for {what} at {path}: {error.strerror}") from error
        raise


def _changed(info: dict[str, Any]) -> float:
    """When a file changed, by whichever key its file system tells it."""
    when = next((info[key] for key in ("mtime", "LastModified", "created", "updated") if key in info), 0.0)
    return when.timestamp() if isinstance(when, datetime) else float(when)


def _http_status(error: OSError) -> int | None:
    """The status with which an object store refused, where the error carries it (s3fs: as its cause)."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
