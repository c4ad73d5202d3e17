"""Two nodes of Ray on this machine, with the processes that live on them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

# A dead node is noticed after 5 s instead of 15 s.
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 5,
}
NODE = {"num_cpus": 2, "object_store_memory": 80_000_000}
NODES = 2
STARTS = 10
ROLES = ("load_chunk", "commit_unit", "PredictActor", "HostLimits", "IDLE")  # as Ray names its workers


class Nodes:
    """A head without CPUs, and nodes that come and go."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self._nodes: list[Any] = []
        self.mend()

    def mend(self) -> int:
        """Replace the nodes that are gone; how many."""
        gone = [node for node in self._nodes if not _lives(_raylet(node))]
        for node in gone:
            self._remove(node)
        missing = NODES - len(self._nodes)
        for _ in range(missing):
            self._nodes.append(_patiently(lambda: self._cluster.add_node(**NODE)))
        return missing

    def kill(self, number: int) -> int:
        """Remove a node with all that is on it; the process id of its raylet."""
        node = self._nodes[number % len(self._nodes)]
        raylet = _raylet(node)
        self._remove(node)
        return raylet

    def raylet(self, number: int) -> int:
        return _raylet(self._nodes[number % len(self._nodes)])

    def workers(self, role: str | None = None, number: int | None = None) -> list[psutil.Process]:
        """Processes of tasks and actors: of one role, of one node, or all."""
        nodes = self._nodes if number is None else [self._nodes[number % len(self._nodes)]]
        found = [child for node in nodes for child in _children(_raylet(node))]
        return [process for process in found if role_of(process) in ((role,) if role else ROLES)]

    def daemons(self) -> dict[str, int]:
        """Process ids of Ray's own processes that live long."""
        head = self._cluster.head_node
        found = {"head raylet": _raylet(head), "gcs_server": head.all_processes["gcs_server"][0].process.pid}
        return found | {f"raylet {_raylet(node)}": _raylet(node) for node in self._nodes}

    def _remove(self, node: Any) -> None:
        for process in _children(_raylet(node)):
            send(process.pid, signal.SIGKILL)
        send(_raylet(node), signal.SIGCONT)
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.remove(node)


@contextmanager
def nodes(clock: Path) -> Iterator[Nodes]:
    """The cluster, whose workers see the clock that the file says."""
    root = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent / 'clock'}:{root}"
    os.environ["SOAK_CLOCK"] = str(clock)
    head = {"num_cpus": 0, "object_store_memory": 80_000_000, "_system_config": HEALTH_CHECKS}
    cluster: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        yield Nodes(cluster)
    finally:
        cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """What `start` starts: Ray gives a node 30 s, and raises a plain Exception where a machine is too busy for that."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception:  # noqa: BLE001 Ray has no class of its own for it
            time.sleep(1.0)
    return start()


def role_of(process: psutil.Process) -> str:
    """The task or actor of a worker's process, "" where it is none."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    return next((role for role in ROLES if title.startswith("ray::") and role in title), "")


def send(process: int, number: signal.Signals) -> bool:
    """Send a signal; whether there was somebody to get it."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def _children(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return []


def _raylet(node: Any) -> int:
    raylet: int = node.all_processes["raylet"][0].process.pid
    return raylet


def _lives(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
