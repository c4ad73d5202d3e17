"""The fake load on the pipeline's own engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data import WorkUnit
from pipeline.executors.ray.cluster import Shares
from pipeline.executors.ray.engine import Settings, run_engine
from pipeline.executors.telemetry import Telemetry
from pipeline.storage import Storage
from tests.benchmarks import fake_load


@dataclass(frozen=True, eq=False)
class Images:
    ids: NDArray[np.int64]  # (N,)
    images: NDArray[np.uint8]  # (N, 3, 256, 256)

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return int(self.images.nbytes)


@dataclass(frozen=True)
class ModelOnImages:
    model: fake_load.Model
    choice: str = "a sleeping model"

    def __call__(self, chunk: Images) -> pa.Table:
        return pa.table({"id": chunk.ids, **self.model(chunk.images)})


@dataclass(frozen=True)
class FakeSurvey:
    """The UnitWork of the benchmark: a Parquet file a unit."""

    folder: str
    first_answer: str

    def load(self, unit: WorkUnit, chunk: int) -> Images:
        ids = np.arange(*unit.chunk_rows(chunk))
        return Images(ids, fake_load.load(ids))

    def networks(self) -> ModelOnImages:
        return ModelOnImages(fake_load.Model(self.first_answer))

    def commit(self, unit: WorkUnit, parts: Sequence[pa.Table]) -> int:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(parts), sink)
        Storage(self.folder).create(f"{unit.unit_id}.parquet", sink.getvalue().to_pybytes())
        return unit.rows

    def quarantine(self, unit: WorkUnit, reason: str) -> int:
        raise RuntimeError(f"unit {unit.unit_id} failed: {reason}")


class Silence:
    """The Watch of the benchmark."""

    telemetry = Telemetry()

    def stop(self) -> bool:
        return False

    def classified(self, rows: int) -> None: ...

    def log(self, message: str) -> None: ...


def units(images: int) -> Iterator[WorkUnit]:
    rows = fake_load.CHUNK * fake_load.UNIT_CHUNKS
    for number, start in enumerate(range(0, images, rows)):
        stop = min(start + rows, images)
        chunks = tuple(min(fake_load.CHUNK, stop - first) for first in range(start, stop, fake_load.CHUNK))
        yield WorkUnit(f"{number:05d}", "", start, stop, chunks)


def run(images: int, folder: str, first_answer: str) -> None:
    shares = Shares(
        actors=fake_load.ACTORS,
        actor_cpus=0.5,
        actor_gpus=0.0,
        loads=2,  # enough for the actors: some 50 ms of waiting and copying a chunk against 64 ms in the model
        load_cpus=0.5,
        bytes_cap=int(fake_load.STORE_FRACTION * fake_load.STORE_BYTES),
    )
    settings = Settings(shares, bytes_row=fake_load.IMAGE_BYTES)
    done = sum(run_engine(FakeSurvey(folder, first_answer), units(images), settings, Silence()))
    if done != images:
        raise RuntimeError(f"expected {images} rows, got {done}")
