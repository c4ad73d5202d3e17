"""The verbs that do work: run, retry, finalise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import screen
from pipeline.cli.planned import show_plan

if TYPE_CHECKING:
    from pipeline.executors.runner import Task
    from pipeline.executors.summary import RunSummary
    from pipeline.job import Job

Output = Annotated[
    str, typer.Option(help="Where the catalogue goes: a folder or an fsspec URL such as s3://bucket/run.")
]


def run(
    survey: Annotated[str | None, typer.Option(help="Job that comes with the package: see `pipeline jobs`.")] = None,
    job: Annotated[str | None, typer.Option(help="Job file of your own (YAML).")] = None,
    output: Output = "",
    mirror: Annotated[
        str | None, typer.Option(help="Root of the survey's tree: folder, http(s) or fsspec URL.")
    ] = None,
    sources: Annotated[str | None, typer.Option(help="Table of positions: Parquet, CSV, FITS, VOTable, ECSV.")] = None,
    region: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="RA DEC RADIUS", help="Only this cone, degrees."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many sources.")] = None,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Wrong rows become `invalid`; go on.")] = False,
    max_time: Annotated[
        str | None, typer.Option(help="Stop cleanly after this time (2h30m, 45m, 90s): exit 75.")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="ray or local (one process, no Ray).")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost; start nothing.")] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Also the sources that are new since, and those that failed transiently."),
    ] = False,
    no_finalise: Annotated[
        bool, typer.Option("--no-finalise", help="Leave publishing to `pipeline finalise`.")
    ] = False,
) -> None:
    """Classify the galaxies of a survey, and publish the catalogue when all are done."""
    with screen.answers():
        values = _values(
            mirror=mirror,
            sources__table=sources,
            sources__region=None if region is None else dict(zip(("ra", "dec", "radius"), region, strict=True)),
            sources__limit=limit,
            sources__skip_invalid=skip_invalid or None,
            engine__executor=executor,
            engine__address=address,
        )
        the_job = _load(survey, job, set_, values)
        if dry_run:
            show_plan(the_job, output)
            return
        _go(the_job, _needed(output), max_time, task="update" if update else "run", publish=not no_finalise)


def retry(
    output: Annotated[str, typer.Argument(help="Output of an earlier run.")],
    mirror: Annotated[str | None, typer.Option(help="Root of the survey's tree, where it moved.")] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop cleanly after this time: exit 75.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an engine key.")
    ] = None,
) -> None:
    """Try again the sources that failed transiently and the quarantined units, and nothing else."""
    with screen.answers():
        from pipeline.executors.state import describe_run
        from pipeline.job import job_from, override
        from pipeline.storage import Storage

        tree: Any = describe_run(Storage(output))["job"]
        the_job = job_from(override(tree, set_ or (), _values(mirror=mirror)), output)
        _go(the_job, output, max_time, task="retry", publish=True)


def finalise(
    output: Annotated[str, typer.Argument(help="Output of a run.")],
    keep: Annotated[int | None, typer.Option(min=1, help="Remove all but so many of the newest snapshots.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job's `publication`.")
    ] = None,
) -> None:
    """Publish a snapshot of what is committed so far, as a HATS catalogue."""
    with screen.answers():
        from pipeline.executors.publishing import publish_snapshot
        from pipeline.executors.state import describe_run
        from pipeline.job import job_from, override
        from pipeline.storage import Storage

        tree: Any = describe_run(Storage(output))["job"]
        job = job_from(override(tree, set_ or (), _values(publication__keep=keep)), output)
        snapshot = publish_snapshot(Storage(output), job.name, publication=job.publication)
        screen.facts("snapshot", {"path": snapshot.path, "rows": snapshot.rows})


def _load(survey: str | None, job: str | None, overrides: list[str] | None, values: dict[str, Any]) -> Job:
    from pipeline.errors import JobError
    from pipeline.job import load_job

    name = job or survey
    if name is None or (job and survey):
        raise JobError("say which job: either --survey NAME or --job FILE")
    return load_job(name, overrides or (), values=values)


def _go(job: Job, output: str, max_time: str | None, *, task: Task, publish: bool) -> None:
    from pipeline.executors.runner import run as run_job
    from pipeline.executors.watch import StopRequest

    stop = StopRequest(None if max_time is None else seconds(max_time))
    with stop.listening(), screen.reporter() as reporter:
        summary = run_job(job, output, stop=stop, reporter=reporter, task=task, publish=publish)
    show_summary(summary, output)
    raise typer.Exit(summary.exit_code)


def show_summary(summary: RunSummary, output: str) -> None:
    """How the run ended, on stdout."""
    if summary.units_this_run == 0 and not summary.reason:
        screen.out.print(f"nothing to do: all {summary.units} units were committed before; nothing was fetched")
    statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items()) or "none"
    shown: dict[str, object] = {
        "sources": f"{summary.sources} ({summary.committed} committed)",
        "by status": statuses,
        "units": f"{summary.units_committed} of {summary.units} committed, {summary.units_this_run} by this run",
    }
    if summary.units_this_run:
        shown["fetched"] = screen.size(summary.bytes_read)
        shown["speed"] = f"{summary.images_per_second:.1f} images/s over {screen.duration(summary.seconds)}"
    if summary.unplaced:
        shown["invalid"] = f"{summary.unplaced} source rows, in {output}/unplaced.parquet"
    if summary.snapshot:
        shown["catalogue"] = summary.snapshot
    if summary.reason:
        shown["stopped"] = f"{summary.reason}; the same command goes on"
    screen.facts(f"run {summary.run_id}", shown)
    for prefix in summary.untrained:
        screen.note(f"warning: {prefix} has random weights (untrained); its classes mean nothing", "yellow")


def seconds(text: str) -> float:
    """ "2h30m" -> 9000.0. Raises JobError."""
    from pipeline.errors import JobError

    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise JobError(f"--max-time {text}: expected a duration such as 2h30m, 45m or 90s")
    hours, minutes, rest = (int(group or 0) for group in match.groups())
    return hours * 3600.0 + minutes * 60.0 + rest


def _needed(output: str) -> str:
    from pipeline.errors import JobError

    if not output:
        raise JobError("say where the catalogue goes: --output FOLDER_OR_URL")
    return output


def _values(**values: Any) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in values.items() if value is not None}
