"""Whether every node of a cluster sees the output: a folder that only the driver has would swallow the commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import JobError
from pipeline.storage import Storage

PATIENCE = 60.0  # s for the first worker of a node to start and answer


GONE = (TaskUnschedulableError, NodeDiedError, WorkerCrashedError)


def check_shared(storage: Storage, name: str, nodes: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Raises JobError, naming the node, where one that is up does not see the object `name` of the output.

    `nodes` are those of the cluster as Ray lists them. Those that join later or die meanwhile do not count; object
    stores are the same everywhere and are not asked either.
    """
    if storage.local is None:
        return
    sees = ray.remote(num_cpus=0, max_retries=0)(_sees)
    answers = {
        node["NodeManagerAddress"]: sees.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(storage.url, name)
        for node in (ray.nodes() if nodes is None else nodes)  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    try:
        blind = [address for address, answer in answers.items() if not _answered(answer)]
    except ray.exceptions.RayError as error:
        raise JobError(f"cannot ask the nodes whether they see {storage.shown}: {error}") from error
    if blind:
        raise JobError(
            f"{storage.shown} is not the same folder on the nodes {', '.join(blind)}: "
            "--output must be on a disk that all nodes share, or in an object store"
        )


def _answered(answer: ray.ObjectRef[bool]) -> bool:
    """Whether the node sees it; of one that is gone nothing more is asked."""
    try:
        return bool(ray.get(answer, timeout=PATIENCE))
    except GONE:
        return True


def _sees(url: str, name: str) -> bool:
    return Storage(url).exists(name)
