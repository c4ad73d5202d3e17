"""The pool of predicting actors: one slot each, numbered generations, replaced when they die for good."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef

from pipeline.executors.ray.cluster import Shares
from pipeline.executors.ray.work import AnyWork, Loaded, Networks

log = logging.getLogger(__name__)

TASK_RETRIES = 3  # of a chunk whose actor died under it, by Ray itself, on the restarted actor


@dataclass(frozen=True, slots=True)
class Life:
    """Who answered. An actor that Ray restarted answers from another process."""

    process: int
    choice: str  # device, precision and batch of the networks, and why
    rows: int = 0  # of the chunk


class PredictActor:
    """Holds the networks of the run. They are made by the first call, so that a failure keeps its class."""

    def __init__(self, work: AnyWork, threads: int) -> None:
        # Before torch is imported; Ray's own value counts only where the user has set none.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._work = work
        self._made: Networks[Any, Any] | None = None

    def ready(self) -> Life:
        return Life(os.getpid(), self._networks().choice)

    def predict(self, chunk: Loaded) -> tuple[Any, Life]:
        """The chunk's predictions. After a restart this may be the first call."""
        networks = self._networks()
        try:
            return networks(chunk), Life(os.getpid(), networks.choice, chunk.rows)
        except RuntimeError as error:
            if not is_device_failure(error):
                raise
            # A CUDA context does not recover. Not sys.exit: Ray takes it for intended and does not restart.
            log.critical("the device failed, this actor ends: %s", error)
            os._exit(1)

    def _networks(self) -> Networks[Any, Any]:
        if self._made is None:
            self._made = self._work.networks()
        return self._made


def is_device_failure(error: RuntimeError) -> bool:
    """Whether the GPU is lost to this process. Out of memory is not: its context lives on.

    torch.AcceleratorError (docs.pytorch.org, torch.cuda errors) is told by name: this module does without torch.
    """
    name = type(error).__name__
    return name == "AcceleratorError" or (name != "OutOfMemoryError" and "CUDA error" in str(error))


class ActorPool:
    """The living actors by slot. A call that names an older generation finds nothing."""

    def __init__(self, work: AnyWork, shares: Shares) -> None:
        self._work = work
        self._threads = shares.threads
        self._class: Any = ray.remote(PredictActor).options(  # Any: Ray's types know no actor classes by call
            num_cpus=shares.actor_cpus,
            num_gpus=shares.actor_gpus,
            max_restarts=-1,
            max_task_retries=TASK_RETRIES,
            max_concurrency=1,
        )
        self._actors: dict[int, tuple[int, Any]] = {}

    def start(self, slot: int, generation: int) -> ObjectRef[Life]:
        """Start an actor; the answer comes when its networks are ready."""
        # By value: an actor built from an object reference cannot restart once that object is gone.
        actor = self._class.remote(self._work, self._threads)
        self._actors[slot] = (generation, actor)
        life: ObjectRef[Life] = actor.ready.remote()
        return life

    def predict(
        self, slot: int, generation: int, chunk: ObjectRef[Loaded]
    ) -> tuple[ObjectRef[Any], ObjectRef[Life]] | None:
        """The predictions to be and who makes them; None where that actor is gone."""
        current, actor = self._actors.get(slot, (None, None))
        if actor is None or current != generation:
            return None
        parts, life = actor.predict.options(num_returns=2).remote(chunk)
        return parts, life

    def stop(self, slot: int, generation: int) -> bool:
        """Kill the actor if it still holds the slot; whether it did."""
        current, actor = self._actors.get(slot, (None, None))
        if actor is None or current != generation:
            return False
        del self._actors[slot]
        ray.kill(actor, no_restart=True)
        return True

    def stop_all(self) -> None:
        for slot, (generation, _) in list(self._actors.items()):
            self.stop(slot, generation)
