"""Whether every node of a cluster sees the output: a folder that only the driver has would swallow the commits."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import JobError
from pipeline.storage import Storage

PATIENCE = 60.0  # s for the first worker of a node to start and answer


def check_shared(storage: Storage, name: str) -> None:
    """Raises JobError, naming the node, where one that is up does not see the object `name` of the output.

    Nodes that join later are not asked; object stores are the same everywhere and are not asked either.
    """
    if storage.local is None:
        return
    sees = ray.remote(num_cpus=0, max_retries=0)(_sees)
    answers = {
        node["NodeManagerAddress"]: sees.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(storage.url, name)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    try:
        blind = [address for address, seen in zip(answers, _got(list(answers.values())), strict=True) if not seen]
    except ray.exceptions.RayError as error:
        raise JobError(f"cannot ask the nodes whether they see {storage.shown}: {error}") from error
    if blind:
        raise JobError(
            f"{storage.shown} is not the same folder on the nodes {', '.join(blind)}: "
            "--output must be on a disk that all nodes share, or in an object store"
        )


def _got(answers: list[ray.ObjectRef[bool]]) -> list[bool]:
    seen: list[bool] = ray.get(answers, timeout=PATIENCE)
    return seen


def _sees(url: str, name: str) -> bool:
    return Storage(url).exists(name)
