"""The plain Ray tasks: load a chunk, commit a unit, quarantine a unit.

A load has two results: the chunk, which stays in the object store of its node, and its size, which is so small
that Ray sends it along with the answer. So the driver learns the size without ever touching the images.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import ObjectRef

from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import COMMIT_CPUS
from pipeline.executors.ray.work import AnyWork, Loaded

SYSTEM_RETRIES = 3  # by Ray itself, of a task whose worker or node died


class Tasks:
    """Starts the tasks of one run."""

    def __init__(self, work: AnyWork, load_cpus: float) -> None:
        # The store of the driver's own node keeps the work for as long as the run lasts.
        self._work: ObjectRef[AnyWork] = ray.put(work)
        # Any: Ray's types know neither num_returns nor *args.
        # No retry_exceptions: what the archive refuses is tried again in one place, the archive client.
        self._load_chunk: Any = ray.remote(num_cpus=load_cpus, num_returns=2, max_retries=SYSTEM_RETRIES)(load_chunk)
        self._load: Any = self._load_chunk.options(scheduling_strategy="SPREAD")
        self._commit: Any = ray.remote(commit_unit).options(
            num_cpus=COMMIT_CPUS, max_retries=SYSTEM_RETRIES, retry_exceptions=[OSError]
        )
        self._quarantine: Any = ray.remote(quarantine_unit).options(
            num_cpus=COMMIT_CPUS, max_retries=SYSTEM_RETRIES, retry_exceptions=[OSError]
        )

    def load(self, unit: WorkUnit, chunk: int, avoid: tuple[str, ...] = ()) -> tuple[ObjectRef[Loaded], ObjectRef[int]]:
        """The chunk to be, and its size; not from the nodes `avoid` (ids) where there are others."""
        load = self._load if not avoid else self._load_chunk.options(**_elsewhere(avoid))
        loaded, size = load.remote(self._work, unit, chunk)
        return loaded, size

    def commit(self, unit: WorkUnit, parts: list[ObjectRef[Any]]) -> ObjectRef[Any]:
        """The report to be. The parts go from the store to the task, not through the driver."""
        report: ObjectRef[Any] = self._commit.remote(self._work, unit, *parts)
        return report

    def quarantine(self, unit: WorkUnit, reason: str) -> ObjectRef[Any]:
        """The report to be."""
        report: ObjectRef[Any] = self._quarantine.remote(self._work, unit, reason)
        return report


def _elsewhere(nodes: tuple[str, ...]) -> dict[str, Any]:
    """Options by which Ray takes any other node, and these where there is none (docs.ray.io, "label selectors")."""
    return {
        "label_selector": {"ray.io/node-id": f"!in({','.join(nodes)})"},
        "fallback_strategy": [{"label_selector": {"ray.io/node-id": f"in({','.join(nodes)})"}}],
    }


def load_chunk(work: AnyWork, unit: WorkUnit, chunk: int) -> tuple[Loaded, int]:
    loaded: Loaded = work.load(unit, chunk)
    return loaded, loaded.nbytes


def commit_unit(work: AnyWork, unit: WorkUnit, *parts: Any) -> Any:
    return work.commit(unit, parts)


def quarantine_unit(work: AnyWork, unit: WorkUnit, reason: str) -> Any:
    return work.quarantine(unit, reason)
