"""Rows, predictions and commits for the tests of the catalogue: small, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.catalogue.attention_sky import NEEDED
from pipeline.catalogue.commits import Manifest, UnitFacts, commit_unit
from pipeline.catalogue.contract import NetworkColumns
from pipeline.catalogue.rows import Provenance, unit_table
from pipeline.data import NetworkOutput, Predictions, WorkUnit
from pipeline.storage import Storage

NETWORK = NetworkColumns(
    prefix="net",
    classes=("round", "spiral", "merger"),
    attention=("entropy", *NEEDED),
    checkpoint="c" * 64,
    untrained=False,
)
FACTS = UnitFacts(run_id="run-1", job_digest="job-1", bytes_read=10, load_seconds=1.0, predict_seconds=2.0)


@dataclass(frozen=True)
class Patch:
    """A rectangle of sky that sources are drawn from, in degrees."""

    ra: float = 149.0
    dec: float = 1.5
    width: float = 1.0


def plan_rows(count: int, *, first_id: int = 0, patch: Patch = Patch(), seed: int = 0) -> pa.Table:
    """Plan rows with one column of the source table, `TYPE`."""
    random = np.random.default_rng(seed)
    ids = np.arange(first_id, first_id + count)
    return pa.table(
        {
            "object_id": pa.array(random.permutation(ids), pa.int64()),
            "ra": (patch.ra + patch.width * random.random(count)) % 360,
            "dec": patch.dec + patch.width * random.random(count),
            "radius": pa.array(random.random(count), pa.float32(), mask=random.random(count) < 0.2),
            "tile": pa.array([f"south/{index % 3}" for index in range(count)]),
            "TYPE": pa.array(random.choice(["EXP", "DEV", "SER"], count)),
        }
    )


def predictions(statuses: Sequence[str], *, seed: int = 0, network: NetworkColumns = NETWORK) -> Predictions:
    """A chunk with these statuses; the networks saw the rows that are ok or partial."""
    random = np.random.default_rng(seed)
    status = np.array(statuses, dtype=np.str_)
    seen = np.isin(status, ["ok", "partial"])
    images = int(seen.sum())

    def drawn(*shape: int) -> NDArray[np.float32]:
        return random.random(shape).astype(np.float32)

    output = NetworkOutput(
        logits=drawn(images, len(network.classes)),
        probabilities=random.dirichlet(np.ones(len(network.classes)), images).astype(np.float32),
        entropy=drawn(images),
        spread=drawn(images),
        novelty=drawn(images),
        attention={name: drawn(images) * (name != "flat") for name in network.attention},
        maps=random.integers(0, 256, (images, 256), dtype=np.uint8),
    )
    return Predictions(
        status=status,
        integrity=np.array([None if name == "no_coverage" else "checked" for name in statuses], dtype=object),
        reason=np.array(["" if name == "ok" else f"because {name}" for name in statuses], dtype=object),
        flags=np.where(status == "partial", 512, 0).astype(np.int32),
        fov_arcsec=np.where(seen, np.float32(30), np.float32(np.nan)),
        pixel_scale=np.where(seen, np.float32(0.262), np.float32(np.nan)),
        masked_fraction=np.where(seen, drawn(len(status)), np.float32(np.nan)),
        with_image=seen,
        networks={network.prefix: output},
        bytes_read=1,
        load_seconds=0.5,
        predict_seconds=0.25,
    )


def mixed_statuses(count: int) -> list[str]:
    """Mostly ok, and every sixth row something else."""
    others = ("partial", "no_coverage", "bad_image", "archive_error")
    return ["ok" if index % 6 else others[index // 6 % 4] for index in range(count)]


def provenance(network: NetworkColumns = NETWORK, run_id: str = "run-1") -> Provenance:
    return Provenance(survey="legacy", release="dr10", run_id=run_id, networks=(network,))


def table_of(rows: pa.Table, *, seed: int = 0, network: NetworkColumns = NETWORK) -> pa.Table:
    """The catalogue rows of plan rows, in one chunk."""
    part = predictions(mixed_statuses(rows.num_rows), seed=seed, network=network)
    return unit_table(rows, [part], provenance(network))


def unit_of(table: pa.Table, unit_id: str, attempt: int = 1) -> WorkUnit:
    rows = table.num_rows
    return WorkUnit(unit_id=unit_id, part="part", start=0, stop=rows, chunks=(rows,), attempt=attempt)


def commit(
    storage: Storage,
    table: pa.Table,
    unit_id: str,
    *,
    attempt: int = 1,
    network: NetworkColumns = NETWORK,
    seconds: float = 1.0,
) -> Manifest:
    facts = replace(FACTS, load_seconds=seconds)
    return commit_unit(storage, unit_of(table, unit_id, attempt), table, facts, (network,))


def commit_pole(storage: Storage, unit_id: str, *, first_id: int, south: bool = False, seed: int = 0) -> Manifest:
    """A unit of 100 rows around a celestial pole, the denser the nearer."""
    random = np.random.default_rng(seed)
    rows = plan_rows(100, first_id=first_id)
    rows = rows.set_column(1, "ra", pa.array(random.uniform(0, 360, 100)))
    rows = rows.set_column(2, "dec", pa.array((-1 if south else 1) * (90 - random.exponential(1.0, 100))))
    return commit(storage, table_of(rows, seed=seed), unit_id)


def commit_sky(storage: Storage, units: int = 6, rows: int = 100, width: float = 1.0) -> list[Manifest]:
    """Units side by side along a strip that crosses RA 0, each `width` degrees wide and overlapping the next."""
    manifests = []
    for index in range(units):
        patch = Patch(ra=357.5 + 0.8 * width * index, dec=-0.5, width=width)
        drawn = plan_rows(rows, first_id=index * rows, patch=patch, seed=index)
        manifests.append(commit(storage, table_of(drawn, seed=index), f"{index:02d}unit"))
    return manifests
