"""Committed units of synthetic galaxies, as many as a survey has, for the benchmarks of publishing and asking.

Positions are uniform over a strip of sky at the density of Galaxy Zoo DESI (8.67 million galaxies over 14,000 square
degrees; Walmsley et al. 2023), in units of neighbouring bricks as the planner cuts them. Probabilities are Dirichlet,
everything else uniform: floats compress as badly as they can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.catalogue.commits import UnitFacts, commit_unit
from pipeline.catalogue.contract import NetworkColumns, is_map
from pipeline.catalogue.rows import Provenance, unit_table
from pipeline.data import NetworkOutput, Predictions, WorkUnit
from pipeline.models.network import ATTENTION_COLUMNS
from pipeline.storage import Storage

DENSITY = 8_670_000 / 14_000  # galaxies a square degree
UNIT = 4096  # rows: the planner's default
BRICK = 0.25  # deg
CLASSES = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")
BANDS = ("g", "r", "z")
SKY = (0.0, -20.0)  # deg, where the strip begins
WIDTH = 360.0  # deg of RA


@dataclass(frozen=True)
class Synthetic:
    """What to make."""

    rows: int
    networks: int = 1
    maps: bool = False
    seed: int = 1


def network(number: int) -> NetworkColumns:
    return NetworkColumns(
        prefix=("dmagnet", "agcnn", "mban")[number],
        classes=CLASSES,
        attention=ATTENTION_COLUMNS,
        checkpoint=f"{number}" * 64,
        untrained=False,
    )


def commit_synthetic(storage: Storage, wanted: Synthetic) -> None:
    """Commit the units of a synthetic survey."""
    networks = tuple(network(number) for number in range(wanted.networks))
    facts = UnitFacts(run_id="run-1", job_digest="job-1", bytes_read=0, load_seconds=0.0, predict_seconds=0.0)
    provenance = Provenance(survey="legacy", release="dr10", run_id="run-1", networks=networks)
    for number, rows in enumerate(_plan_rows(wanted)):
        random = np.random.default_rng((wanted.seed, number))
        table = unit_table(rows, [_predictions(rows.num_rows, networks, random)], provenance)
        if not wanted.maps:
            table = table.select([field.name for field in table.schema if not is_map(field)])
        unit = WorkUnit(unit_id=f"{number:08x}", part="part", start=0, stop=rows.num_rows, chunks=(rows.num_rows,))
        commit_unit(storage, unit, table, facts, networks)


def _plan_rows(wanted: Synthetic) -> Iterator[pa.Table]:
    """Plan rows of one unit after the other: squares of sky that hold UNIT galaxies."""
    side = BRICK * round(np.sqrt(UNIT / DENSITY) / BRICK)
    columns = int(WIDTH / side)
    left, number = wanted.rows, 0
    while left:
        random = np.random.default_rng((wanted.seed, 1, number))
        low = np.radians(SKY[1] + side * (number // columns))
        high = low + np.radians(side)
        area = np.degrees(np.sin(high) - np.sin(low)) * side
        rows = min(left, max(1, round(DENSITY * area)))
        ra = SKY[0] + side * (number % columns) + side * random.random(rows)
        dec = np.degrees(np.arcsin(random.uniform(np.sin(low), np.sin(high), rows)))
        yield _sources(ra, dec, number, random)
        left, number = left - rows, number + 1


def _sources(ra: NDArray[np.float64], dec: NDArray[np.float64], number: int, random: np.random.Generator) -> pa.Table:
    rows = len(ra)
    brick = 1000 * number + (ra / BRICK).astype(np.int64) % 100
    objid = np.arange(rows, dtype=np.int64)

    def drawn() -> NDArray[np.float32]:
        return random.random(rows, dtype=np.float32)

    return pa.table(
        {
            "object_id": (9010 << 42) | (brick << 22) | objid,
            "ra": ra,
            "dec": dec,
            "radius": random.gamma(2, 2, rows).astype(np.float32),
            "tile": np.char.add("south/", np.char.zfill(brick.astype(np.str_), 8)),
            "release": np.full(rows, 9010, np.int16),
            "brickid": brick.astype(np.int32),
            "objid": objid.astype(np.int32),
            "photsys": np.full(rows, "S"),
            "type": random.choice(["REX", "EXP", "DEV", "SER"], rows),
            **{f"flux_{band}": random.gamma(1, 30, rows).astype(np.float32) for band in BANDS},
            **{f"dered_mag_{band}": 16 + 4 * drawn() for band in BANDS},
            "shape_r": drawn(),
            "maskbits": np.zeros(rows, np.int16),
            **{f"fracflux_{band}": drawn() for band in BANDS},
            "psfsize_r": drawn(),
            **{f"nobs_{band}": random.integers(1, 9, rows).astype(np.int16) for band in BANDS},
        }
    )


def _predictions(rows: int, networks: Sequence[NetworkColumns], random: np.random.Generator) -> Predictions:
    outputs = {
        each.prefix: NetworkOutput(
            logits=random.normal(0, 3, (rows, len(CLASSES))).astype(np.float32),
            entropy=random.random(rows, dtype=np.float32),
            spread=random.random(rows, dtype=np.float32),
            novelty=random.random(rows, dtype=np.float32),
            probabilities=random.dirichlet(np.full(len(CLASSES), 0.3), rows).astype(np.float32),
            attention={name: random.random(rows, dtype=np.float32) for name in each.attention},
            maps=random.integers(0, 256, (rows, 256), dtype=np.uint8),
        )
        for each in networks
    }
    return Predictions(
        status=np.full(rows, "ok"),
        reason=np.full(rows, "", dtype=object),
        integrity=np.full(rows, "checked", dtype=object),
        flags=np.zeros(rows, np.int32),
        fov_arcsec=random.random(rows, dtype=np.float32),
        pixel_scale=np.full(rows, 0.262, np.float32),
        masked_fraction=random.random(rows, dtype=np.float32),
        with_image=np.ones(rows, np.bool_),
        networks=outputs,
        bytes_read=0,
        load_seconds=0.0,
        predict_seconds=0.0,
    )
