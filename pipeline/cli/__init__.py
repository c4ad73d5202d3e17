"""The command line. Each verb imports what it needs when it is called, so that `--help` answers at once."""

from __future__ import annotations

import typer

from pipeline.cli import listing, looking, running

app = typer.Typer(
    name="pipeline",
    help="Galaxy morphology for whole surveys: positions in, a sky-partitioned Parquet catalogue out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for verb in (
    running.run,
    running.retry,
    running.finalise,
    looking.status,
    looking.verify,
    looking.query,
    listing.mock,
    listing.jobs,
    listing.surveys,
    listing.networks,
    listing.schema,
):
    app.command()(verb)


def main() -> None:
    """The entry point `pipeline`."""
    app()
