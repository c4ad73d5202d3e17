"""What changed between two catalogues, row by row: by identifier, whatever the files."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.catalogue.query import Catalogue
from pipeline.errors import CatalogueError

_MEMORY = "1GB"  # of the join; the rest is on the local disk
_OF_A_NETWORK = ("label", "checkpoint")


@dataclass(frozen=True)
class Difference:
    """Two catalogues compared, by counting rows."""

    before: int  # rows
    after: int
    added: int
    removed: int
    computed: int  # rows of both that another run computed
    changed: Mapping[str, Mapping[tuple[str | None, str | None], int]]  # column -> (before, after) -> rows of both
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the same rows say the same."""
        return not (self.added or self.removed or any(self.changed.values()))

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        changed = {
            name: [{"before": old, "after": new, "rows": rows} for (old, new), rows in sorted(pairs.items(), key=str)]
            for name, pairs in self.changed.items()
        }
        return {**vars(self), "changed": changed}


def difference(before: Catalogue, after: Catalogue) -> Difference:
    """Compare two catalogues. Raises CatalogueError where their identifiers are of different types."""
    names = _compared(before, after)
    kept = ", ".join(f'o."{name}" AS old_{number}, n."{name}" AS new_{number}' for number, name in enumerate(names))
    query = f"""
        SELECT o.object_id IS NULL AS added, n.object_id IS NULL AS removed,
            o.run_id IS DISTINCT FROM n.run_id AS computed, {kept}, count(*) AS rows
        FROM old AS o FULL JOIN new AS n ON o.object_id = n.object_id GROUP BY ALL
    """
    counted: Counter[str] = Counter()
    changed: dict[str, Counter[tuple[str | None, str | None]]] = {name: Counter() for name in names}
    with _both(before, after, names) as connection:
        groups = connection.execute(query).fetchall()
    for added, removed, computed, *values, rows in groups:
        kind = "added" if added else "removed" if removed else "computed" if computed else "same"
        counted[kind] += rows
        for name, old, new in zip(names, values[::2], values[1::2], strict=True):
            changed[name][old, new] += 0 if added or removed or old == new else rows
    return Difference(
        before=before.rows,
        after=after.rows,
        added=counted["added"],
        removed=counted["removed"],
        computed=counted["computed"],
        changed={name: dict(+pairs) for name, pairs in changed.items()},
        columns_added=tuple(name for name in after.columns if name not in before.columns),
        columns_removed=tuple(name for name in before.columns if name not in after.columns),
    )


def changed_rows(before: Catalogue, after: Catalogue) -> pa.Table:
    """The rows that are added, removed or changed: object_id, `change`, and each compared column before and after."""
    names = _compared(before, after)
    kept = ", ".join(f'o."{name}" AS "{name}_before", n."{name}" AS "{name}_after"' for name in names)
    differs = " OR ".join(f'o."{name}" IS DISTINCT FROM n."{name}"' for name in names)
    query = f"""
        SELECT coalesce(n.object_id, o.object_id) AS object_id,
            CASE WHEN o.object_id IS NULL THEN 'added' WHEN n.object_id IS NULL THEN 'removed' ELSE 'changed' END
            AS change, {kept}
        FROM old AS o FULL JOIN new AS n ON o.object_id = n.object_id
        WHERE o.object_id IS NULL OR n.object_id IS NULL OR {differs} ORDER BY 1
    """
    with _both(before, after, names) as connection:
        return connection.sql(query).to_arrow_table()


def _compared(before: Catalogue, after: Catalogue) -> list[str]:
    """The columns that both have and that say what a row is: its status, and each network's label and checkpoint."""
    kinds = [catalogue.schema.field("object_id").type for catalogue in (before, after)]
    if kinds[0] != kinds[1]:
        raise CatalogueError(
            f"object_id is {kinds[0]} in {before.name}, {kinds[1]} in {after.name}: nothing to compare"
        )
    endings = tuple(f"_{part}" for part in _OF_A_NETWORK)
    networks = [name.removesuffix("_checkpoint") for name in after.columns if name.endswith("_checkpoint")]
    wanted = {"status", *(f"{network}{ending}" for network in networks for ending in endings)}
    return [name for name in after.columns if name in wanted and name in before.columns]


@contextmanager
def _both(before: Catalogue, after: Catalogue, names: list[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables `old` and `new` in a database that may use the local disk."""
    with tempfile.TemporaryDirectory(prefix="diff-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {"memory_limit": _MEMORY, "temp_directory": folder}
        with duckdb.connect(config=settings) as connection:
            columns = ", ".join(f'"{name}"' for name in ("object_id", "run_id", *names))
            for table, catalogue in (("old", before), ("new", after)):
                connection.register(f"{table}_rows", catalogue.table.dataset())
                connection.execute(f"CREATE VIEW {table} AS SELECT {columns} FROM {table}_rows")
            yield connection
