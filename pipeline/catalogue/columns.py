"""The contract of the catalogue for people and for programs: a table of its columns, and a JSON Schema of a row.

Both come from schemas/catalogue.yaml; what names a network, a class or a statistic there stands here as a pattern.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from pipeline.catalogue.contract import CatalogueDocument, ColumnDocument, catalogue_document

_SECTIONS = (
    ("Every row", "columns"),
    ("From each network", "network_columns"),
    ("Where the row comes from", "provenance_columns"),
    ("Added when published", "published_columns"),
    ("Attention maps, a table of their own", "map_columns"),
)
_PATTERNS = {"{network}": "[a-z][a-z0-9_]*", "{class}": ".+", "{statistic}": ".+"}
_JSON_TYPES: dict[str, Any] = {
    "id": ["integer", "string"],
    "bool": "boolean",
    "int16": "integer",
    "int32": "integer",
    "int64": "integer",
    "float32": "number",
    "float64": "number",
    "string": "string",
}


def columns_markdown() -> str:
    """schemas/COLUMNS.md: every column, statistic, status and flag of the contract."""
    document = catalogue_document()
    parts = [
        "# Columns of the catalogue",
        "Made by `pipeline schema columns` from schemas/catalogue.yaml. Braces stand for a network's name in the job,\n"
        "one of its classes and one of its attention statistics. The source table's own columns follow as they are.",
    ]
    for title, section in _SECTIONS:
        parts += [f"## {title}", _table(_column_rows(getattr(document, section)))]
    named = [(name, each.unit or "", each.meaning) for name, each in document.statistics.items()]
    parts += ["## Attention statistics", _table([("statistic", "unit", "meaning"), *named])]
    parts += ["## Statuses", _table([("status", "meaning"), *document.statuses.items()])]
    bits = [(name, str(1 << flag.bit), flag.meaning) for name, flag in document.flags.items()]
    parts += ["## Bits of `flags`", _table([("flag", "value", "meaning"), *bits])]
    return "\n\n".join(parts) + "\n"


def schema_markdown(schema: pa.Schema) -> str:
    """A table of the columns that one catalogue has, pass-through ones included."""
    rows: list[Sequence[str]] = [("column", "type", "unit", "UCD", "meaning")]
    for field in schema:
        known = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        described = (known.get(key, "") for key in ("unit", "ucd", "description"))
        rows.append((f"`{field.name}`", str(field.type), *described))
    return _table(rows)


def row_schema() -> str:
    """schemas/catalogue.schema.json: JSON Schema of one row, as `pipeline query --format json` writes it."""
    document = catalogue_document()
    fixed = [column for column in _row_columns(document) if "{" not in column.name]
    patterns = [column for column in _row_columns(document) if "{" in column.name]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One row of a catalogue of galaxy morphology",
        "description": f"Version {document.version} of the contract; columns of the source table may follow",
        "type": "object",
        "properties": {column.name: _property(column, document) for column in fixed},
        "patternProperties": {_pattern(column.name): _property(column, document) for column in patterns},
        "required": [column.name for column in fixed if column.absent == "never"],
    }
    return json.dumps(schema, indent=2) + "\n"


def _row_columns(document: CatalogueDocument) -> tuple[ColumnDocument, ...]:
    """Those of a row; the maps are another table."""
    return (
        *document.columns,
        *document.network_columns,
        *document.provenance_columns,
        *document.published_columns,
    )


def _column_rows(columns: Iterable[ColumnDocument]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("column", "type", "unit", "UCD", "meaning", "absent", "stage")]
    for each in columns:
        rows.append((f"`{each.name}`", each.type, each.unit or "", each.ucd, each.meaning, each.absent, each.stage))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _property(column: ColumnDocument, document: CatalogueDocument) -> dict[str, Any]:
    kind = _JSON_TYPES[column.type]
    kinds = [kind] if isinstance(kind, str) else kind
    described: dict[str, Any] = {"description": column.meaning, "x-ucd": column.ucd, "x-stage": column.stage}
    if column.unit:
        described["x-unit"] = column.unit
    if column.absent != "never":
        kinds, described["x-absent"] = [*kinds, "null"], column.absent
    if column.name == "status":
        described["enum"] = list(document.statuses)
    return {"type": kinds if len(kinds) > 1 else kinds[0], **described}


def _pattern(name: str) -> str:
    text = re.escape(name)
    for brace, pattern in _PATTERNS.items():
        text = text.replace(re.escape(brace), pattern)
    return f"^{text}$"
