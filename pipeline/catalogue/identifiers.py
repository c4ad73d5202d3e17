"""Whether an object_id is there twice, for more identifiers than fit in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa

from pipeline.data import ObjectId

_MEMORY = "1GB"  # of identifiers held at once; the rest is on the local disk
_EXAMPLES = 5


class IdentifierCheck:
    """A context in which identifiers are collected, to be asked which of them repeat. Nothing of it stays."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="identifiers-")
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": self._folder.name,
        }
        self._database = duckdb.connect(str(Path(self._folder.name) / "ids.duckdb"), config=settings)
        self._empty = True

    def __enter__(self) -> IdentifierCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, ids: pa.ChunkedArray) -> None:
        """Collect a column of identifiers; all columns have one type."""
        self._database.register("part", pa.table({"object_id": ids}))
        statement = "CREATE TABLE ids AS" if self._empty else "INSERT INTO ids"
        self._database.execute(f"{statement} SELECT object_id FROM part")
        self._empty = False

    def repeated(self) -> list[ObjectId]:
        """Up to five identifiers that were collected more than once, in ascending order."""
        if self._empty:
            return []
        query = "SELECT object_id FROM ids GROUP BY object_id HAVING count(*) > 1 ORDER BY object_id LIMIT ?"
        return [row[0] for row in self._database.execute(query, [_EXAMPLES]).fetchall()]
