"""Small runs for the tests: a tiny network, a job over a mock tree, the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.catalogue.commits import latest_manifests, unit_rows
from pipeline.data import ImageContract
from pipeline.executors.runner import run
from pipeline.executors.summary import RunSummary
from pipeline.job import Job, load_job
from pipeline.models.checkpoint import untrained_checkpoint, write_checkpoint
from pipeline.models.configs.dmagnet import DMAGNetConfig
from pipeline.models.contract import Contract
from pipeline.storage import Storage

SIZE = 64  # pixels a side of the tiny network's images
LOUDER = {"pool.query.weight": 10.0, "pool.key_value.weight": 10.0, "classifier.weight": 10.0}
"""Random weights say nearly the same of every galaxy; these make it differ, so that a swapped row shows."""
KEPT = 2.0**-11  # relative difference that two equal catalogues may have (design: conventions)


def tiny_checkpoint(folder: Path, **changes: Any) -> Path:
    """A checkpoint of a DMAGNet that is small enough for tests; `changes` replace fields of its contract."""
    config = DMAGNetConfig(size=SIZE, dims=(16, 32), depths=(1, 1), head_channels=16)
    made = untrained_checkpoint("dmagnet_f", 7, config)
    values = {field.name: getattr(made, field.name) for field in fields(Contract)}
    contract = Contract(**{**values, "image": replace(ImageContract(), size=SIZE), **changes})
    weights = {name: tensor * LOUDER[name] if name in LOUDER else tensor for name, tensor in made.weights.items()}
    path = folder / "tiny.safetensors"
    path.write_bytes(write_checkpoint(contract, weights))
    return path


def mock_job(tree: Path, checkpoint: Path, *overrides: str, executor: str = "local") -> Job:
    """The job `decals` over a mock tree with the tiny network, in several small units."""
    settings = [
        f"mirror={tree}",
        f"networks={{dmagnet: {{checkpoint: '{checkpoint}'}}}}",
        f"engine.executor={executor}",
        "ways.use=[file]",
        "units.sources=8",
        "units.chunk=4",
    ]
    return load_job("decals", [*settings, *overrides], environment={})


def undisturbed(tree: Path, checkpoint: Path, output: Path) -> RunSummary:
    """One whole run in this process."""
    return run(mock_job(tree, checkpoint), str(output))


def command(tree: Path, checkpoint: Path, output: Path, *more: str) -> list[str]:
    """The command line of the same run."""
    settings = ["units.sources=8", "units.chunk=4", f"networks={{dmagnet: {{checkpoint: '{checkpoint}'}}}}"]
    flags = [part for setting in settings for part in ("--set", setting)]
    line = ["run", "--survey", "decals", "--mirror", str(tree), "--output", str(output), *flags, *more]
    return [sys.executable, "-m", "pipeline", *line]


def call(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`pipeline ARGUMENTS`, in a process of its own."""
    environment = {**os.environ, "COLUMNS": "200", **(environment or {})}
    line = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=150)


def committed_rows(output: Path) -> pa.Table:
    """What is committed, every unit's latest attempt, sorted by id."""
    storage = Storage(str(output))
    tables = [unit_rows(storage, manifest) for manifest in latest_manifests(storage).values()]
    return pa.concat_tables(tables).sort_by("object_id")


def assert_equal_catalogues(got: pa.Table, want: pa.Table) -> None:
    """Identical ids, statuses and texts; floats within what the kept mantissa tells apart; the run's id may differ."""
    assert got.schema.equals(want.schema)
    for field in want.schema:
        if field.name == "run_id":
            continue
        ours, theirs = got[field.name], want[field.name]
        if not pa.types.is_floating(field.type):
            if field.name.endswith("_att_map"):
                continue  # rounded to 8 bits: the last bit may differ; the summaries are compared
            assert ours.to_pylist() == theirs.to_pylist(), field.name
            continue
        assert ours.is_null().equals(theirs.is_null()), field.name
        got_values, want_values = (column.fill_null(0).to_numpy() for column in (ours, theirs))
        np.testing.assert_allclose(got_values, want_values, rtol=KEPT, atol=1e-4, err_msg=field.name)


def summary_of(output: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((output / "run_summary.json").read_text())
    return facts
