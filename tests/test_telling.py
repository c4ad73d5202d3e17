"""Seconds starved and blocked by stage, and units given up, as a run counts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import metrics
from pipeline.catalogue.rows import quarantined_table, replace_rows
from pipeline.data import Status
from pipeline.executors.ray.cluster import COMMITS
from pipeline.executors.ray.hands import Pressure
from pipeline.executors.ray.telling import ALONE, Teller
from pipeline.executors.telemetry import LogEvent, Telemetry
from pipeline.metrics import Metric
from pipeline.storage import Storage
from tests.catalogue_rows import commit, plan_rows, provenance, table_of

IDLE = Pressure(loading=0, ready=0, ready_bytes=0, predicting=0, starved=0, up=2, free_loads=0, committing=COMMITS)
STAGES = ("load", "predict", "commit")


class Passing:
    """A clock that is put forward."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def seconds_of(metric: Metric, there: Pressure, held_back: bool = False) -> dict[str, float]:
    """What the stages count in ten seconds like this."""
    telemetry, clock = Telemetry(), Passing()
    teller = Teller(telemetry, ALONE, actors=2, clock=clock)
    clock.now += 10.0
    teller.measure(lambda: there, held_back)
    return {stage: telemetry.readings.value(metric, stage) for stage in STAGES}


@pytest.mark.parametrize(
    ("there", "held_back", "starved", "blocked"),
    [
        (replace(IDLE, free_loads=3), False, (30, 0, 0), (0, 0, 20)),
        (replace(IDLE, free_loads=3), True, (0, 0, 0), (30, 0, 20)),
        (replace(IDLE, starved=2), False, (0, 20, 0), (0, 0, 20)),
        (replace(IDLE, ready=3, predicting=2, up=1), False, (0, 0, 0), (0, 10, 20)),
        (replace(IDLE, committing=0), False, (0, 0, 20), (0, 0, 0)),
        (replace(IDLE, committing=7), False, (0, 0, 0), (0, 0, 70)),
    ],
    ids=["no chunk", "no room for a chunk", "no image", "no actor", "no unit", "units before the output"],
)
def test_each_stage_counts_the_places_that_are_idle_and_those_that_are_held_back(
    there: Pressure, held_back: bool, starved: tuple[float, ...], blocked: tuple[float, ...]
) -> None:
    assert tuple(seconds_of(metrics.STARVED, there, held_back).values()) == starved
    assert tuple(seconds_of(metrics.BLOCKED, there, held_back).values()) == blocked


def told_of(table: pa.Table, folder: Path) -> tuple[float, str]:
    """The units given up, and the kind of the event, of a commit of these rows."""
    events: list[LogEvent] = []
    telemetry = Telemetry(events.append)
    telemetry.committed(commit(Storage(str(folder)), table, "ab12"), left=0)
    return telemetry.readings.value(metrics.QUARANTINED), events[0].kind


def test_a_unit_given_up_in_a_retry_counts_though_most_of_its_rows_have_answers(tmp_path: Path) -> None:
    rows = plan_rows(6)
    done = table_of(rows)
    given_up = quarantined_table(rows, "it died", provenance())
    assert told_of(done, tmp_path / "done") == (0, "commit")
    assert told_of(given_up, tmp_path / "whole") == (1, "quarantine")
    partly = replace_rows(done, given_up.filter(pa.compute.less(given_up["object_id"], 2)))
    assert partly["status"].to_pylist().count(Status.QUARANTINED.value) == 2
    assert told_of(partly, tmp_path / "retried") == (1, "quarantine")
