"""The verbs that read what a run wrote: status, explain, verify."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import screen
from pipeline.cli.progress import state_lines

if TYPE_CHECKING:
    from pipeline.executors.state import RunState

LEAST_PAUSE = 5.0  # s between two looks of --follow
PATIENCE = 10  # a look is repeated after so many times as long as it took

Output = Annotated[str, typer.Argument(help="Output of a run, finished or not: folder or fsspec URL.")]


def status(
    output: Output,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Look again until nobody writes any more.")] = False,
    line: Annotated[bool, typer.Option("--line", help="How the last run ended, in one line fit for a mail.")] = False,
) -> None:
    """Say how far a run is, how fast, and what holds it up, from its output alone."""
    with screen.answers():
        from pipeline.executors.state import run_state
        from pipeline.storage import Storage

        storage = Storage(output)
        while True:
            began = time.monotonic()
            state = run_state(storage)
            _show(state, output, as_json, line)
            if not follow or state.writer is None:
                return
            time.sleep(max(LEAST_PAUSE, PATIENCE * (time.monotonic() - began)))


def _show(state: RunState, output: str, as_json: bool, line: bool) -> None:
    if as_json:
        screen.out.print_json(json.dumps(state.as_dict()), indent=None if not screen.out.is_terminal else 2)
    elif line:
        last = state.last_run
        screen.out.print(f"{output}: no run has ended yet" if last is None else f"{output}: {last.line}")
    else:
        if screen.out.is_terminal:
            screen.out.clear()
        screen.facts(f"output {output}", state_lines(state))


def explain(
    output: Output,
    id_: Annotated[str, typer.Option("--id", help="Identifier of a source.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Follow one source from the plan to its file: what happened to it, when, and where it is."""
    with screen.answers():
        from pipeline.executors.explaining import explain as steps_of
        from pipeline.storage import Storage

        steps = steps_of(Storage(output), id_)
        if as_json:
            for step in steps:
                screen.out.print(json.dumps(asdict(step)))
            return
        screen.grid(("time", "what", "message"), [(step.time, step.what, step.message) for step in steps])


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
