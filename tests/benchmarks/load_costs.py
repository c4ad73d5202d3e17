"""The CPU seconds that the planner and the simulator count with: `python -m tests.benchmarks.load_costs`.

One core's CPU time, which other load on the machine changes little; of several rounds the best. Pixels are those of
one brick of 3600 pixels, files come from nginx on loopback, sources are those of the mock sky, drawn at 256 pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from pipeline.archives.access import Access
from pipeline.archives.files import ArchiveFiles
from pipeline.archives.images import FitsImage
from pipeline.archives.opener import Opener
from pipeline.archives.policy import host_of
from pipeline.data import ImageContract
from pipeline.executors.prepare import prepare
from pipeline.mock import MockSky, write_mock
from pipeline.planner import ways
from pipeline.stages import Work, draw_source, open_survey
from tests.benchmarks.bricks import SIDE, flux
from tests.faults import Planned
from tests.runs import mock_job, tiny_checkpoint
from tests.standins.fast import FAST
from tests.standins.nginx import nginx

ROUNDS = 3
SMALL, FILES = 2880 * 4, 60  # bytes, and how many such files
ABSOLUTE = {"compress": "RICE", "qlevel": -1e-4, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 1}
HOW: dict[str, dict[str, Any]] = {
    "rice": {**ABSOLUTE, "tile_dims": (100, 100)},
    "hcompress": {"compress": "HCOMPRESS", "tile_dims": (100, 100)},
    "gzip": {"compress": "GZIP", "qlevel": None, "tile_dims": (100, 100)},
    "plain": {},
}


def cpu(work: Callable[[], object]) -> float:
    """The least CPU seconds of this process of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def per_pixel(folder: Path, codec: str) -> tuple[float, float]:
    """Of a pixel that is decoded, and of opening the file; sections of 300 pixels, so that tiles are whole."""
    pixels = flux(0, "r")
    stored = np.where(pixels > 1, 2, 0).astype(np.int32) if codec == "hcompress" else pixels
    path = folder / f"{codec}.fits"
    fitsio.write(path, stored, **HOW[codec])

    def read() -> None:
        image = FitsImage(path, codec)
        for y in range(0, SIDE, 300):
            for x in range(0, SIDE, 300):
                image.section(y, y + 300, x, x + 300)
        image.close()

    opening = cpu(lambda: FitsImage(path, codec).close())
    return (cpu(read) - opening) / SIDE**2, opening


def per_request(folder: Path) -> tuple[float, float]:
    """Of a request, and of a byte that it brings: received, checked, hashed, written."""
    root = folder / "tree"
    root.mkdir()
    fitsio.write(root / "large.fits", flux(0, "r"), **HOW["rice"])
    for number in range(FILES):
        fitsio.write(root / f"{number}.fits", np.zeros(SMALL // 4 - 720, np.float32).reshape(30, -1))
    with nginx(root, folder) as server, Access(FAST, [host_of(server.url)]) as access:

        def fetch(names: list[str]) -> None:
            with ArchiveFiles(server.url, access) as files:
                for name in names:
                    files.path(name)

        request = cpu(lambda: fetch([f"{number}.fits" for number in range(FILES)])) / FILES
        large = cpu(lambda: fetch(["large.fits"] * 5)) / 5
    return request, (large - request) / (root / "large.fits").stat().st_size


def per_source(folder: Path) -> float:
    """Of a source whose tiles are open and decoded: cut, put together, drawn."""
    tree = write_mock(folder / "sky", sky=MockSky(2, 2, 700, 36, 16)).root
    prepared = prepare(mock_job(tree, tiny_checkpoint(folder)), str(folder / "out"), "run", lambda message: None)
    work: Work = prepared.work
    survey = open_survey(work.job, prepared.plan.tile_table())
    sources = Planned(work, prepared.plan, []).sources()
    with Opener(str(tree)) as opener:

        def draw() -> None:
            for source in sources:
                draw_source(ImageContract(), survey, opener, source, "file")

        draw()
        return cpu(draw) / len(sources)


def _line(name: str, seconds: float, counted: float) -> None:
    sys.stdout.write(f"{name:<24}{seconds:>10.2g} s{counted:>10.2g} s{seconds / counted:>8.2f}\n")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.stdout.write(f"{'':<24}{'measured':>12}{'counted':>12}{'ratio':>8}\n")
    with tempfile.TemporaryDirectory(prefix="costs-") as name:
        folder = Path(name)
        for codec in HOW:
            pixel, opening = per_pixel(folder, codec)
            _line(f"pixel, {codec}", pixel, ways.PIXEL_SECONDS[codec])
            _line(f"open, {codec}", opening, ways.OPEN_SECONDS)
        request, byte = per_request(folder)
        _line("request", request, ways.REQUEST_SECONDS)
        _line("byte", byte, ways.BYTE_SECONDS)
        _line("source", per_source(folder), ways.SOURCE_SECONDS)


if __name__ == "__main__":
    main()
