"""The verb that writes images to train on: cutouts."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import screen


def cutouts(
    job: Annotated[str, typer.Argument(help="Job that comes with the package, or a job file of your own (YAML).")],
    output: Annotated[str, typer.Option(help="Where the files go: a folder or an fsspec URL.")],
    mirror: Annotated[str | None, typer.Option(help="Root of the survey's tree.")] = None,
    sources: Annotated[str | None, typer.Option(help="Table of positions; its other columns go along.")] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop cleanly after this time: exit 75.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job.")
    ] = None,
) -> None:
    """Write the images that a run would classify, as Parquet files to train on."""
    with screen.answers():
        from pipeline.cli.running import seconds
        from pipeline.executors.cutting import write_cutouts
        from pipeline.executors.watch import StopRequest
        from pipeline.job import load_job

        given = {"mirror": mirror, "sources.table": sources}
        values = {key: value for key, value in given.items() if value is not None}
        the_job = load_job(job, set_ or (), values=values)
        stop = StopRequest(None if max_time is None else seconds(max_time))
        with stop.listening():
            summary = write_cutouts(the_job, output, screen.note, _counted, stop)
        statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "none"
        facts: dict[str, object] = {
            "rows": f"{summary.rows} of {summary.sources}, {summary.drawn} drawn now",
            "by status": statuses,
            "images": summary.images,
        }
        if summary.stopped:
            facts["stopped"] = f"{summary.stopped}; the same command goes on"
        screen.facts(f"cutouts in {summary.folder}", facts)
        raise typer.Exit(75 if summary.stopped else 0)


def _counted(rows: int, sources: int) -> None:
    screen.note(f"{rows}/{sources} rows")
