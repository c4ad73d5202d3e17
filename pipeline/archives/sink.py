"""Where the bytes of an answer go, so that what has come is not asked for again."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import IO


class Sink:
    """Bytes in order, in memory or in a file, and the SHA-256 of what is there."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] = io.BytesIO() if path is None else path.open("wb+")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def finish(self) -> str:
        """The SHA-256 of all, once it is where it belongs."""
        self._file.flush()
        return self._hash.hexdigest()

    @property
    def data(self) -> bytes | None:
        """All bytes, where they are in memory."""
        return self._file.getvalue() if isinstance(self._file, io.BytesIO) else None

    def close(self) -> None:
        self._file.close()
