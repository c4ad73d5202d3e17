"""A node of a cluster of three goes away, with its tasks, its actor and the images in its store."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline import metrics
from pipeline.archives.policy import ArchivesSection
from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import ray_session
from pipeline.executors.ray.engine import run_engine
from pipeline.executors.ray.limits import ClusterGate, cluster_gate
from pipeline.executors.ray.telling import Around
from pipeline.executors.telemetry import LogEvent, Telemetry
from tests.chaos.fake_work import FakeChunk, FakeWatch, FakeWork, fake_settings, fake_units, undisturbed

UNITS = fake_units(12)
# A dead node is noticed after 2 s instead of 15 s.
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 4,
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes of two."""
    head = {"num_cpus": 0, "object_store_memory": 80_000_000, "_system_config": HEALTH_CHECKS}
    nodes: Any = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        nodes.add_node(num_cpus=2, object_store_memory=80_000_000)
    nodes.wait_for_nodes()
    with ray_session(nodes.address):
        yield nodes
    nodes.shutdown()


def test_a_removed_node_changes_nothing(work: FakeWork, cluster: Any, dice: random.Random) -> None:
    remove_at = dice.randrange(16, 300)  # rows
    gone = dice.choice(sorted(cluster.worker_nodes, key=lambda node: node.unique_id))

    def remove_once(rows: int) -> None:
        if rows >= remove_at:
            watch.on_classified = lambda rows: None
            cluster.remove_node(gone, allow_graceful=False)
            watch.log("removed")

    watch = FakeWatch(on_classified=remove_once)
    slow = FakeWork(work.folder, predict_seconds=0.05)
    reports = list(run_engine(slow, UNITS, fake_settings(unit_deadline=30.0), watch))
    assert "removed" in watch.lines
    assert sorted(report.unit_id for report in reports) == [unit.unit_id for unit in UNITS]
    assert work.catalogue() == undisturbed(UNITS, Path(work.folder).parent / "undisturbed")


@dataclass(frozen=True)
class ToldWork(FakeWork):
    """Notes on which node it loads, and tells the cluster, as a survey's work does."""

    gate: ClusterGate = field(kw_only=True)

    def load(self, unit: WorkUnit, chunk: int) -> FakeChunk:
        self.note(f"at-{ray.get_runtime_context().get_node_id()}", unit.unit_id, chunk)
        with self.gate.loading(unit.unit_id, chunk):
            return super().load(unit, chunk)


def test_a_unit_that_exceeds_its_deadline_is_loaded_on_another_node_and_named(work: FakeWork, cluster: Any) -> None:
    gate = cluster_gate(ArchivesSection())
    told = ToldWork(work.folder, gate=gate)
    told.plant("hang", "load", "u001", 0)
    watch, events = FakeWatch(), list[LogEvent]()
    watch.telemetry = Telemetry(events.append)
    settings = fake_settings(unit_deadline=8.0, unit_attempts=20)
    units = fake_units(2, chunks=1)[1:]
    reports = list(run_engine(told, units, settings, watch, around=Around(gate.hosts, gate.where)))
    assert sorted(report.unit_id for report in reports) == ["u001"]
    first, second, *_ = [call.verb for call in told.journal() if call.unit_id == "u001" and call.verb[:3] == "at-"]
    assert first != second
    (late, *_) = [event for event in events if event.kind == "deadline" and event.nodes]
    assert late.unit == "u001" and "load of chunk 0" in late.message
    assert watch.telemetry.readings.value(metrics.DEADLINES) >= 1
