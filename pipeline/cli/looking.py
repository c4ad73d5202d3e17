"""The verbs that read what a run wrote: status, verify."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli import screen


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
