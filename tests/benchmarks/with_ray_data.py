"""The fake load on Ray Data, set as it was found fastest.

One block a chunk from the start, so that nothing is cut or joined on the way; whole blocks to the model
(`batch_size=None`); a pool of two actors with four blocks in flight each; loads and model apart (unequal
`num_cpus`: equal ones would be fused, and the loads would run inside the actors); files as large as the
engine's (`min_rows_per_file`: a file a block takes longer).
"""

from __future__ import annotations

from typing import Any

import ray.data
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext

from tests.benchmarks import fake_load

Columns = dict[str, NDArray[Any]]


def load(rows: Columns) -> Columns:
    return {"id": rows["id"], "image": fake_load.load(rows["id"])}


class ModelOnBlocks:
    def __init__(self, first_answer: str) -> None:
        self._model = fake_load.Model(first_answer)

    def __call__(self, rows: Columns) -> Columns:
        return {"id": rows["id"], **self._model(rows["image"])}


def run(images: int, folder: str, first_answer: str) -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    blocks = -(-images // fake_load.CHUNK)
    (
        ray.data.range(images, override_num_blocks=blocks)
        .map_batches(load, batch_size=None, num_cpus=0.5)
        .map_batches(
            ModelOnBlocks,
            fn_constructor_args=(first_answer,),
            batch_size=None,
            num_cpus=0.51,
            compute=ActorPoolStrategy(size=fake_load.ACTORS, max_tasks_in_flight_per_actor=4),
        )
        .write_parquet(
            folder, min_rows_per_file=fake_load.CHUNK * fake_load.UNIT_CHUNKS, ray_remote_args={"num_cpus": 0.25}
        )
    )
