"""The verbs that read what a run wrote: status, verify, query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import screen

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_ROWS = 50


def status(
    output: Annotated[str, typer.Argument(help="Output of a run, finished or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
) -> None:
    """Say how far a run is, from its output alone."""
    with screen.answers():
        from pipeline.executors.state import run_state
        from pipeline.storage import Storage

        state = run_state(Storage(output))
        if as_json:
            screen.out.print_json(json.dumps(state.as_dict()))
            return
        screen.facts(f"output {output}", state.lines())


def verify(output: Annotated[str, typer.Argument(help="Output of a run.")]) -> None:
    """Check every committed file and snapshot against its manifest and the plan; exit 1 where something is wrong."""
    with screen.answers():
        from pipeline.executors.state import check
        from pipeline.storage import Storage

        report = check(Storage(output))
        for problem in report.problems:
            screen.note(problem, "red")
        screen.out.print(report.verdict)
        raise typer.Exit(1 if report.problems else 0)


def query(
    catalogue: Annotated[str, typer.Argument(help="Output of a run, a snapshot of it, or a HATS collection.")],
    sql: Annotated[str | None, typer.Argument(help="DuckDB SQL over the view `catalogue`.")] = None,
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="RA DEC RADIUS", help="Rows in this cone: degrees, degrees, arcsec."),
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Comma-separated columns of the cone.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write the rows here: .parquet, .csv or .json.")] = None,
) -> None:
    """Ask the published catalogue, by SQL or by cone."""
    with screen.answers():
        from pipeline.catalogue.query import open_catalogue
        from pipeline.errors import JobError

        if (sql is None) == (cone is None):
            raise JobError("ask either by SQL or by --cone RA DEC RADIUS")
        if columns is not None and cone is None:
            raise JobError("--columns belongs to --cone: with SQL name them after SELECT")
        opened = open_catalogue(catalogue)
        if cone is not None:
            rows = opened.cone(*cone, columns=None if columns is None else columns.split(","))
        else:
            rows = opened.sql(sql or "")
        if to is not None:
            _write(rows, to)
            screen.note(f"{rows.num_rows} rows written to {to}")
            return
        shown = rows.slice(0, SHOWN_ROWS)
        screen.grid(rows.column_names, [tuple(row.values()) for row in shown.to_pylist()])
        if rows.num_rows > SHOWN_ROWS:
            screen.note(f"{SHOWN_ROWS} of {rows.num_rows} rows; --to FILE writes all")


def _write(rows: pa.Table, path: Path) -> None:
    from pyarrow import csv, parquet

    from pipeline.errors import JobError

    if path.suffix == ".parquet":
        parquet.write_table(rows, path)
    elif path.suffix == ".csv":
        csv.write_csv(rows, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows.to_pylist(), default=str, indent=1) + "\n")
    else:
        raise JobError(f"--to {path}: expected .parquet, .csv or .json")
