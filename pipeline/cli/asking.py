"""The verbs that ask published catalogues: query, diff."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import screen

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.catalogue.diff import Difference
    from pipeline.catalogue.query import Catalogue

SHOWN_ROWS = 50


def query(
    catalogue: Annotated[
        str, typer.Argument(help="Output of a run, a snapshot, or a HATS collection: folder, http(s) or fsspec URL.")
    ],
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="RA DEC RADIUS", help="Rows in this cone: degrees, degrees, arcsec."),
    ] = None,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="RA1 RA2 DEC1 DEC2", help="Rows in this box, degrees; RA1 > RA2 goes across 0."),
    ] = None,
    moc: Annotated[str | None, typer.Option(help="Rows in this coverage map: a MOC in FITS, JSON or ASCII.")] = None,
    id_: Annotated[list[str] | None, typer.Option("--id", help="Rows with this object_id; may be repeated.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Condition in SQL; several all hold.")] = None,
    match: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Nearest row for each of this table (Parquet, CSV, FITS, ...).")
    ] = None,
    radius: Annotated[float, typer.Option(help="Of --match, arcsec.")] = 1.0,
    sql: Annotated[str | None, typer.Option(help="One SELECT of the view `catalogue`, instead of all others.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Comma-separated; else all, or on a screen the main ones.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="table, csv, parquet, votable, fits or json; table on a screen.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Write here; the ending says the format.")] = None,
) -> None:
    """Ask a published catalogue by place, identifier, condition, SQL or crossmatch."""
    with screen.answers():
        from pipeline.catalogue.query import open_catalogue
        from pipeline.errors import JobError

        kind = _format(format_, to)
        opened = open_catalogue(catalogue)
        if sql is not None:
            if any((cone, box, moc, id_, where, match, columns)):
                raise JobError("--sql says it all: give it alone, or with --limit, --format and --to")
            rows = opened.sql(sql).slice(0, limit)
        else:
            part = _part(opened, cone, box, moc, id_, where)
            rows = _rows(part, columns, limit, _read_table(match) if match else None, radius, kind == "table")
        _give(rows, opened.name, kind, to)


def _part(
    part: Catalogue,
    cone: tuple[float, float, float] | None,
    box: tuple[float, float, float, float] | None,
    moc: str | None,
    identifiers: list[str] | None,
    where: list[str] | None,
) -> Catalogue:
    """The part of the catalogue that the options name; all of them hold."""
    if cone is not None:
        part = part.cone(*cone)
    if box is not None:
        part = part.box(*box)
    if moc is not None:
        part = part.moc(moc)
    if identifiers:
        part = part.ids(*typed_identifiers(part, identifiers))
    for condition in where or ():
        part = part.where(condition)
    return part


def _rows(
    part: Catalogue, columns: str | None, limit: int | None, table: pa.Table | None, radius: float, shown: bool
) -> pa.Table:
    """The rows of the question; on a screen the main columns, where none are named."""
    if columns is not None:
        part = part.select(*(name.strip() for name in columns.split(",")))
    elif shown:
        part = part.select(*part.default_columns)
    if limit is not None:
        part = part.limit(limit)
    return part.to_table() if table is None else part.match(table, radius)


def _format(name: str | None, to: Path | None) -> str:
    """The format that is asked for, or that the file's ending says. Raises JobError."""
    from pipeline.catalogue.formats import FORMATS, SUFFIXES
    from pipeline.errors import JobError

    if name is None and to is not None:
        if to.suffix.lower() not in SUFFIXES:
            raise JobError(f"--to {to}: expected an ending of {', '.join(SUFFIXES)}, or --format")
        return SUFFIXES[to.suffix.lower()]
    if name not in (None, "table", *FORMATS):
        raise JobError(f"--format {name}: expected table, {', '.join(FORMATS)}")
    return name or "table"


def _give(rows: pa.Table, name: str, kind: str, to: Path | None) -> None:
    """Show the rows, or write them."""
    from pipeline.catalogue.formats import FORMATS
    from pipeline.errors import JobError

    if kind == "table":
        if to is not None:
            raise JobError(f"--to {to}: a table is for the screen; --format csv is near to it")
        _show(rows)
        return
    data = FORMATS[kind](rows, name)
    if to is not None:
        to.write_bytes(data)
        screen.note(f"{rows.num_rows} rows written to {to}")
    elif sys.stdout.isatty() and kind in ("parquet", "fits"):
        raise JobError(f"{kind} is not for a screen: --to FILE writes it")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _show(rows: pa.Table) -> None:
    shown = rows.slice(0, SHOWN_ROWS)
    screen.grid(rows.column_names, [tuple(row.values()) for row in shown.to_pylist()])
    if rows.num_rows > SHOWN_ROWS:
        screen.note(f"{SHOWN_ROWS} of {rows.num_rows} rows; --to FILE writes all")


def typed_identifiers(part: Catalogue, texts: Sequence[str]) -> list[int] | list[str]:
    """Identifiers of the catalogue's type. Raises JobError."""
    import pyarrow as pa

    from pipeline.errors import JobError

    if not pa.types.is_integer(part.schema.field("object_id").type):
        return list(texts)
    try:
        return [int(text) for text in texts]
    except ValueError:
        raise JobError(f"--id {' '.join(texts)}: the identifiers of this catalogue are integers") from None


def _read_table(path: str) -> pa.Table:
    """A table to match, in any format of source tables."""
    import pyarrow as pa

    from pipeline.sources.tables import open_table

    with tempfile.TemporaryDirectory(prefix="match-") as folder:
        opened = open_table(path, Path(folder))
        return pa.Table.from_batches(opened.read(opened.columns, ()))


def diff(
    before: Annotated[str, typer.Argument(help="Output, snapshot or HATS collection: the older one.")],
    after: Annotated[str, typer.Argument(help="The newer one.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
    to: Annotated[Path | None, typer.Option(help="Write the rows that changed; the ending says the format.")] = None,
) -> None:
    """Say what changed between two catalogues: rows, statuses, labels, checkpoints; exit 1 where something did."""
    with screen.answers():
        from pipeline.catalogue.diff import changed_rows, difference
        from pipeline.catalogue.query import open_catalogue

        old, new = open_catalogue(before), open_catalogue(after)
        found = difference(old, new)
        if to is not None:
            _give(changed_rows(old, new), f"{new.name}_changes", _format(None, to), to)
        if as_json:
            screen.out.print_json(json.dumps(found.as_dict()))
        else:
            show_difference(found)
        raise typer.Exit(0 if found.empty else 1)


def show_difference(found: Difference) -> None:
    """What changed, for a reader: labels in full, of checksums the beginning."""
    shown: dict[str, object] = {
        "rows": f"{found.before} -> {found.after}",
        "added": found.added,
        "removed": found.removed,
        "computed again": found.computed,
    }
    for word, names in (("columns added", found.columns_added), ("columns removed", found.columns_removed)):
        if names:
            shown[word] = ", ".join(names)
    for name, pairs in found.changed.items():
        for (old, new), rows in sorted(pairs.items(), key=lambda pair: -pair[1]):
            length = 16 if name.endswith("_checkpoint") else None  # the beginning of a checksum
            shown[f"{name}: {_short(old, length)} -> {_short(new, length)}"] = rows
    screen.facts("difference", shown)


def _short(value: str | None, length: int | None) -> str:
    return "none" if value is None else value[:length]
