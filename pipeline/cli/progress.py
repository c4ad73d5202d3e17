"""The screen of `pipeline status`: names and values, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import metrics
from pipeline.cli import screen

if TYPE_CHECKING:
    from pipeline.executors.journal import Live
    from pipeline.executors.state import RunState


def state_lines(state: RunState) -> dict[str, object]:
    """The state of a run for a reader."""
    share = state.committed / state.sources if state.sources else 1.0
    shown: dict[str, object] = {
        "sources": f"{state.committed} of {state.sources} committed ({share:.1%})",
        "units": f"{state.units_committed} of {state.units}",
        "by status": ", ".join(f"{count} {status}" for status, count in state.statuses.items()) or "none yet",
        "written by": state.writer or "nobody now",
    }
    if state.invalid:
        shown["invalid"] = f"{state.invalid} source rows, in unplaced.parquet"
    shown |= dict(_now(state))
    shown |= {f"cause {n}": f"{rows} {cause}" for n, (cause, rows) in enumerate(state.causes.items(), 1)}
    shown |= {f"slow tile {n}": f"{tile.tile}: {tile.why}" for n, tile in enumerate(state.slow, 1)}
    if state.last_run is not None:
        ending = state.last_run.reason or "all committed"
        shown["last run"] = f"{state.last_run.run_id}, exit code {state.last_run.exit_code}: {ending}"
        shown["catalogue"] = state.published or "not published"
    return shown


def _now(state: RunState) -> Iterator[tuple[str, str]]:
    """What holds only while a run goes on."""
    if state.images_per_second is not None:
        rate = "" if state.sources_per_second is None else f", {state.sources_per_second:.1f} sources/s committed"
        yield "speed", f"{state.images_per_second:.1f} images/s{rate}"
    if state.seconds_left is not None:
        yield "left", screen.rough(state.seconds_left)
    if state.last_commit_age is not None:
        yield "last commit", f"{screen.rough(state.last_commit_age)} ago"
    if state.live is None or state.writer is None:
        return
    yield from _hosts(state.live)
    yield from _stages(state.live)
    for late in state.live.late:
        where = f" on {', '.join(late.nodes)}" if late.nodes else ""
        yield f"late unit {late.unit}", f"attempt {late.attempt}{where}, waiting for {late.waited_for}"


def _hosts(live: Live) -> Iterator[tuple[str, str]]:
    for host in sorted({reading["host"] for reading in live.readings if "host" in reading}):
        of = [reading for reading in live.readings if reading.get("host") == host]
        requests = {r["outcome"]: r["value"] for r in of if r["metric"] == metrics.REQUESTS.name}
        value = {reading["metric"]: reading["value"] for reading in of}
        bad = ", ".join(f"{count:,.0f} {outcome}" for outcome, count in requests.items() if outcome != "good")
        pause = value.get(metrics.LIMITER_PAUSE.name, 0.0)
        yield (
            f"host {host}",
            f"{sum(requests.values()):,.0f} requests{f' ({bad})' if bad else ''}, "
            f"{screen.size(value.get(metrics.BYTES.name, 0.0))}, "
            f"at {value.get(metrics.LIMITER_SHARE.name, 1.0):.0%} of its rate"
            f"{f', left alone for {pause:.0f} s' if pause else ''}",
        )


def _stages(live: Live) -> Iterator[tuple[str, str]]:
    queue = live.value(metrics.QUEUE_BYTES.name)
    if queue is not None:
        yield "queue", f"{screen.size(queue)} of images wait for an actor or are predicted"
    for metric, word in ((metrics.STARVED, "starved"), (metrics.BLOCKED, "blocked")):
        by_stage = {r["stage"]: r["value"] for r in live.readings if r["metric"] == metric.name}
        if any(by_stage.values()):
            yield word, ", ".join(f"{stage} {seconds:,.0f} s" for stage, seconds in sorted(by_stage.items()))
    for metric, word in (
        (metrics.ACTOR_RESTARTS, "actors started again"),
        (metrics.QUARANTINED, "units quarantined"),
        (metrics.DEADLINES, "deadlines exceeded"),
    ):
        if count := live.value(metric.name):
            yield word, f"{count:.0f}"
