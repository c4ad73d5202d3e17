"""Sixteen load tasks on three nodes ask one host, and the host's own log says how politely."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.archives.policy import ArchivesSection, HostPolicy, RetryPolicy, host_of
from pipeline.executors.ray import limits
from pipeline.executors.ray.cluster import ray_session
from pipeline.executors.ray.limits import ClusterGate, HostLimits, cluster_gate, process_access
from tests.standins.nginx import Logged, Nginx, nginx

TASKS, EACH = 16, 6
SLACK = 0.01  # s: nginx's clock ticks when it has something to do
LATE = 0.5  # s that a request may be on its way from the limiter to the server, on a machine that is busy


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Three nodes of six CPUs."""
    node = {"num_cpus": 6, "object_store_memory": 80_000_000}
    nodes: Any = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(2):
        nodes.add_node(**node)
    nodes.wait_for_nodes()
    with ray_session(nodes.address):
        yield
    nodes.shutdown()


def _asking(url: str, settings: ArchivesSection, gate: ClusterGate) -> tuple[str, int]:
    """One load task: its node, and the bytes that it got."""
    client = process_access(settings.model_dump_json(), (host_of(url),), gate).client
    size = sum(client.read(f"{url}/file?{number}").size for number in range(EACH))
    return ray.get_runtime_context().get_node_id(), size


def _all_ask(server: Nginx, policy: HostPolicy) -> set[str]:
    """Let all tasks ask at once; the nodes that they ran on."""
    settings = ArchivesSection(default=policy, retry=RetryPolicy(attempts=50, first=0.01, longest=0.1))
    gate = cluster_gate(settings)
    task: Any = ray.remote(num_cpus=1, scheduling_strategy="SPREAD", max_retries=0)(_asking)
    answers = ray.get([task.remote(server.url, settings, gate) for _ in range(TASKS)])
    assert {size for _, size in answers} == {EACH * 100_000}
    return {node for node, _ in answers}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(b"x" * 100_000)
    return tmp_path / "root"


def _at_once(log: list[Logged]) -> int:
    """The most requests that were under way together."""
    changes = sorted([(one.began, 1) for one in log] + [(one.ended - SLACK, -1) for one in log])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_all_nodes_together_keep_to_the_cap_and_the_rate(cluster: None, root: Path, tmp_path: Path) -> None:
    policy = HostPolicy(in_flight=4, rate=25, burst=4)
    with nginx(root, tmp_path, bytes_per_second=1_000_000) as server:
        nodes = _all_ask(server, policy)
        log = sorted(server.log(), key=lambda one: one.began)
    assert len(nodes) == 3
    assert len(log) == TASKS * EACH
    assert _at_once(log) == policy.in_flight
    for first, start in enumerate(log):
        for last in range(first, len(log)):
            took = log[last].began - start.began + LATE
            assert last - first + 1 <= policy.burst + policy.rate * took
    assert log[-1].began - log[0].began >= (len(log) - policy.burst) / policy.rate - LATE


def test_a_host_that_has_had_enough_is_left_alone_and_then_asked_again(
    cluster: None, root: Path, tmp_path: Path
) -> None:
    """nginx allows 20 requests / s, the job thinks 200; each 429 asks for a second of peace."""
    with nginx(root, tmp_path, rate=20, burst=3) as server:
        _all_ask(server, HostPolicy(in_flight=4, rate=200, burst=4, failures=1000))
        log = server.log()
    refused = [one for one in log if one.status == 429]
    assert len([one for one in log if one.status == 200]) == TASKS * EACH
    assert 0 < len(refused) < 40  # of a host that is asked at ten times its limit
    assert max(one.ended for one in log if one.status == 200) > max(one.ended for one in refused)
    for one in refused:
        assert not [other for other in log if one.ended + LATE < other.began < one.ended + 1 - SLACK]


def test_a_run_begins_though_the_limiter_dies_with_its_node_at_that_moment(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ArchivesSection(contact="someone@example.org")
    dead: Any = ray.remote(HostLimits).remote(settings)
    ray.kill(dead)
    living = limits._actor
    found = Mock(side_effect=[dead, living(settings.model_dump_json())])
    monkeypatch.setattr(limits, "_actor", found)
    monkeypatch.setattr(limits, "AGAIN", 0.01)
    cluster_gate(settings)
    assert found.call_count == 2
    assert found.cache_clear.call_count == 2  # at the start, and for the dead one
