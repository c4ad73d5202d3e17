"""A catalogue with something to report: two networks, sources without coverage, names that are no names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.executors.runner import run
from pipeline.models.checkpoint import CLASSES, untrained_checkpoint, write_checkpoint
from pipeline.models.configs.agcnn import AGCNNConfig
from pipeline.models.contract import Contract
from tests.runs import SIZE, call, mock_job

WRITTEN = "<script>document.title='taken'</script>"
QUOTED = "\"'><img src=x onerror=\"document.title='taken'\">"
OUTSIDE = 2  # sources that no brick of the mock covers


def sources(tree: Path, path: Path) -> Path:
    """The galaxies of a mock tree under texts as identifiers, the first two hostile, and two outside its bricks."""
    truth = pq.read_table(tree / "truth" / "truth.parquet", columns=["ra", "dec", "radius", "class"]).to_pylist()
    names = [WRITTEN, QUOTED, *(f"galaxy {number}" for number in range(2, len(truth)))]
    rows = [
        {"object_id": name, **row, "mag_r": 16 + number / 8}
        for number, (name, row) in enumerate(zip(names, truth, strict=True))
    ]
    far = [
        {"object_id": f"far {n}", "ra": 10.0 + n, "dec": -5.0, "radius": 3.0, "class": "round", "mag_r": 17.0}
        for n in range(OUTSIDE)
    ]
    pq.write_table(pa.Table.from_pylist([*rows, *far]), path)
    return path


def small_agcnn(folder: Path) -> Path:
    """An AG-CNN that is small enough for tests."""
    config = AGCNNConfig(bands=3, classes=len(CLASSES), size=SIZE, pooling="mean", head_slope=0.01)
    made = untrained_checkpoint("agcnn", 3, config)
    path = folder / "agcnn.safetensors"
    path.write_bytes(
        write_checkpoint(
            Contract(**{name: getattr(made, name) for name in Contract.__dataclass_fields__}), made.weights
        )
    )
    return path


def reported_run(tree: Path, checkpoint: Path, folder: Path) -> Path:
    """The output of a run of both networks over `sources`, with its report."""
    table = sources(tree, folder / "sources.parquet")
    settings = [f"sources.table={table}", "sources.columns.radius=radius"]
    job = mock_job(tree, checkpoint, *settings, f"networks.agcnn.checkpoint={small_agcnn(folder)}")
    output = folder / "catalogue"
    run(job, str(output))
    answer = call("report", str(output), "--truth", str(table))
    if answer.returncode:
        raise RuntimeError(answer.stderr)
    return output
