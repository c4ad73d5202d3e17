"""The command line. Each verb imports what it needs when it is called, so that `--help` answers at once."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from pipeline import __version__
from pipeline.cli import (
    asking,
    cutting,
    evaluating,
    footprints,
    listing,
    looking,
    networks,
    running,
    screen,
    showing,
    training,
)

GARBAGE = 100_000  # objects more before the collector looks at the young ones; Python begins with 700

app = typer.Typer(
    name="pipeline",
    help="Galaxy morphology for whole surveys: positions in, a sky-partitioned Parquet catalogue out.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    running.run,
    running.retry,
    running.finalise,
    cutting.cutouts,
    evaluating.evaluate,
    evaluating.card,
    looking.status,
    looking.explain,
    looking.verify,
    asking.query,
    asking.diff,
    showing.report,
    showing.look,
    training.train,
    training.train_list,
    footprints.footprint,
    listing.mock,
    listing.jobs,
    listing.surveys,
    networks.networks,
    listing.schema,
):
    app.command()(verb)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if version:
        screen.out.print(f"pipeline {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point `pipeline`.

    What imports make stays: looking through it again and again took a sixth of the start of a plan.
    """
    gc.set_threshold(GARBAGE)
    try:
        app()
    except SystemExit as ended:
        leave(ended.code)


def leave(code: str | int | None) -> NoReturn:
    """End with this exit code, without the interpreter's own end, once all that is registered for it is done.

    A thread of Arrow's pools may let go of a Python file only then, and the interpreter ends such threads so that
    C++ aborts: the process would end with SIGABRT, whatever it had done (`explain` did in 12 of 200 calls on a busy
    machine; CPython 3.11, ceval_gil.h, take_gil: PyThread_exit_thread).
    """
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(int(bool(code)) if isinstance(code, str) else code or 0)
