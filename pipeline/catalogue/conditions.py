"""Conditions on rows, in the words of SQL, and whole queries: what they name is checked, and nothing else can they do.

DuckDB parses and evaluates both. It is loaded when it is first asked.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import CatalogueError

if TYPE_CHECKING:
    import duckdb

# Nobody's SQL reads or writes a file, not even DuckDB's own when memory runs out, nor reads a variable of Python.
_LOCKED: dict[str, Any] = {
    "enable_external_access": False,
    "temp_directory": "",
    "lock_configuration": True,
}
_ROW = "__row"  # the number of a row, beside the columns of a condition


def condition_columns(condition: str, known: tuple[str, ...]) -> list[str]:
    """The columns that a condition names, as the catalogue writes them.

    Raises CatalogueError for one that cannot be parsed, is more than a condition, or names a column that is not there.
    """
    tree = _parsed(f"SELECT 1 FROM catalogue WHERE (\n{condition}\n)")
    if tree.get("error"):
        raise CatalogueError(f"the condition {condition!r}: {tree['error_message']}")
    node = tree["statements"][0]["node"]
    if len(tree["statements"]) != 1 or node["type"] != "SELECT_NODE" or node["modifiers"] or node["group_expressions"]:
        raise CatalogueError(f"{condition!r} is more than a condition on the rows")
    if any(part.get("class") == "SUBQUERY" for part in _parts(node["where_clause"])):
        raise CatalogueError(f"the condition {condition!r} holds a query of its own: ask by SQL")
    named = [part["column_names"] for part in _parts(node["where_clause"]) if part.get("class") == "COLUMN_REF"]
    return list(dict.fromkeys(known_column(names[-1], known) for names in named))


def known_column(name: str, known: tuple[str, ...]) -> str:
    """The column of that name in any case. Raises CatalogueError, with the nearest names, where there is none."""
    exact = _by_lower_case(known)
    if name.lower() not in exact:
        near = difflib.get_close_matches(name.lower(), exact, 2)
        hint = f"; did you mean {' or '.join(exact[each] for each in near)}?" if near else ""
        raise CatalogueError(f"no column {name} in the catalogue{hint}")
    return exact[name.lower()]


@lru_cache(maxsize=8)
def _by_lower_case(known: tuple[str, ...]) -> dict[str, str]:
    return {column.lower(): column for column in known}


def rows_where(condition: str, rows: pa.Table) -> NDArray[np.int64]:
    """The numbers of the rows that fulfil a condition, ascending; a condition that is null is not fulfilled."""
    import duckdb

    numbered = rows.append_column(_ROW, pa.array(np.arange(rows.num_rows)))
    with _connection().cursor() as cursor:
        try:
            cursor.register("catalogue", numbered)
            found = cursor.sql(f"SELECT {_ROW} FROM catalogue WHERE (\n{condition}\n)").to_arrow_table()
        except duckdb.Error as error:
            raise CatalogueError(f"the condition {condition!r}: {error}") from error
    return np.sort(found[_ROW].to_numpy())


def answer(query: str, catalogue: Any, columns: Sequence[str]) -> pa.Table:
    """The answer to one query of the view `catalogue`, an Arrow table or dataset.

    The query may be anybody's: it cannot reach files, the network, Python's variables or DuckDB's settings.
    Raises CatalogueError for one that fails, or that is no single SELECT.
    """
    import duckdb

    with duckdb.connect(config=_LOCKED) as connection:
        try:
            _check_statements(query, [each.type.name for each in connection.extract_statements(query)])
            connection.register("catalogue", catalogue)
            return connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise CatalogueError(f"the query failed: {error}{_hint(str(error), columns)}") from error


def _check_statements(query: str, kinds: Sequence[str]) -> None:
    """Raises CatalogueError unless there is one statement, and it only reads."""
    if not kinds:
        raise CatalogueError(f"there is no query in {query!r}")
    for kind in kinds:
        if kind not in ("SELECT", "EXPLAIN"):
            raise CatalogueError(f"a catalogue is only read: {kind} is refused, ask by SELECT")
    if len(kinds) > 1:
        raise CatalogueError(f"one query at a time, got {len(kinds)}")


def _hint(message: str, columns: Sequence[str]) -> str:
    """The nearest columns to the one that DuckDB did not find."""
    missing = re.search(r'column "?([^"\s]+)"? not found', message)
    if missing is None:
        return ""
    near = difflib.get_close_matches(missing[1].lower(), columns, 2)
    return f"\ndid you mean {' or '.join(near)}?" if near else ""


@lru_cache(maxsize=64)
def _parsed(query: str) -> dict[str, Any]:
    with _connection().cursor() as cursor:
        row = cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()
    return dict(json.loads(row[0])) if row else {"error": True, "error_message": "no statement"}


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a parsed expression."""
    if isinstance(tree, dict):
        yield tree
        for below in tree.values():
            yield from _parts(below)
    elif isinstance(tree, list):
        for below in tree:
            yield from _parts(below)


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(config=_LOCKED)
