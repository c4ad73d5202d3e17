"""What an image costs the CPU around the networks, stage by stage: `python -m tests.benchmarks.around`.

The mock survey (Rice-compressed bricks, 25 galaxies each) through load, predict and commit in this process, with
networks that answer at once. Decoding is what the files' sections take, their checksums included; resampling and
stretching is drawing the network's image from a cutout that lies ready; the rest of the load is finding, cutting and
stacking. The least of the rounds.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import pipeline.stages
from pipeline.archives.access import Access
from pipeline.archives.opener import Opener
from pipeline.catalogue.contract import NetworkColumns
from pipeline.data import NetworkOutput
from pipeline.executors.prepare import Prepared, prepare
from pipeline.job import load_job
from pipeline.mock import write_mock
from pipeline.preprocess import contract_image
from pipeline.stages import commit, load, predict
from tests.benchmarks.rows import Row, spread

ZOOBOT = Path(__file__).with_name("around_zoobot.py")
WITH_DECODING, WITHOUT = 6.0, 1.0  # CPU-ms an image, the targets
STAGES = ("decode", "find and cut", "resample and stretch", "predict, networks left out", "commit")


@dataclass
class Spent:
    """CPU seconds of some calls."""

    seconds: float = 0.0
    depth: int = field(default=0, repr=False)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, its time added; calls inside calls count once."""

        def wrapper(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            self.depth += 1
            try:
                return call(*arguments, **named)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.process_time() - started

        return wrapper


@contextmanager
def watched() -> Iterator[tuple[Spent, Spent]]:
    """What opening files and reading their pixels takes in the block, and what drawing images does."""
    from pipeline.archives.images import FitsImage

    decoding, drawing = Spent(), Spent()
    with (
        patch.object(FitsImage, "section", decoding.timed(FitsImage.section)),
        patch.object(Opener, "__call__", decoding.timed(Opener.__call__)),
        patch.object(pipeline.stages, "contract_image", drawing.timed(contract_image)),
    ):
        yield decoding, drawing


def instant(networks: Sequence[NetworkColumns]) -> Callable[[NDArray[np.uint8]], dict[str, NetworkOutput]]:
    """Networks that have their answers ready."""

    def said(columns: NetworkColumns, count: int) -> NetworkOutput:
        classes = len(columns.classes)
        rng = np.random.default_rng(0)
        single = rng.random(count, dtype=np.float32)
        even = rng.dirichlet(np.ones(classes), count).astype(np.float32)
        attention = dict.fromkeys(columns.attention, single)
        maps = rng.integers(0, 256, (count, 256), dtype=np.uint8)
        return NetworkOutput(
            logits=np.log(even),
            probabilities=even,
            entropy=single,
            spread=single,
            novelty=single,
            attention=attention,
            maps=maps,
        )

    return lambda images: {columns.prefix: said(columns, len(images)) for columns in networks}


def stages(prepared: Prepared) -> tuple[list[float], int]:
    """CPU seconds of each stage over all units, and the images that were drawn."""
    work, spent, images = prepared.work, [0.0] * len(STAGES), 0
    networks = instant(work.networks)
    with Access(work.job.archives, work.job.archive_hosts()) as access, watched() as (decoding, drawing):
        for unit in prepared.plan.units():
            marks = [time.process_time()]
            chunks = [load(work, unit, number, access) for number in range(len(unit.chunks))]
            marks.append(time.process_time())
            parts = [predict(networks, chunk) for chunk in chunks]
            marks.append(time.process_time())
            commit(work, unit, parts)
            marks.append(time.process_time())
            for stage, (start, stop) in zip((1, 3, 4), pairwise(marks), strict=True):
                spent[stage] += stop - start
            images += sum(len(chunk.images) for chunk in chunks)
    spent[0], spent[2] = decoding.seconds, drawing.seconds
    spent[1] -= decoding.seconds + drawing.seconds
    return spent, images


def rows(rounds: int = 3, zoobot: str | None = None) -> list[Row]:
    taken: list[list[float]] = []
    with tempfile.TemporaryDirectory(prefix="around-") as folder:
        write_mock(Path(folder) / "sky", 1)
        for number in range(rounds):
            job = load_job("decals", [f"mirror={folder}/sky", "engine.executor=local"], environment={})
            spent, images = stages(prepare(job, f"{folder}/out{number}", "run", lambda message: None))
            taken.append([1e3 * seconds / images for seconds in spent])
    least = [min(column) for column in zip(*taken, strict=True)]
    found = [
        Row(f"around the networks: {name}", value, "CPU-ms/image", repeats=rounds)
        for name, value in zip(STAGES, least, strict=True)
    ]
    sums = [("all, with Rice decoding", 0, WITH_DECODING), ("all, without decoding", 1, WITHOUT)]
    for name, first, target in sums:
        totals = [sum(each[first:]) for each in taken]
        found.append(
            Row(f"around the networks: {name}", min(totals), "CPU-ms/image", target, "target", spread(totals), rounds)
        )
    if zoobot:
        ours, theirs = found[-1].ours, loader_milliseconds(zoobot)
        found.append(Row("around the networks: without decoding", ours, "CPU-ms/image", theirs, "Zoobot from JPEG"))
    return found


def loader_milliseconds(python: str) -> float:
    """CPU-ms an image of Zoobot's own loader, in the environment of `python`. Raises SystemExit where it fails."""
    done = subprocess.run([python, str(ZOOBOT)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show

    show(rows())
