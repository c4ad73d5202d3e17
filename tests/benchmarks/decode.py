"""Objects per CPU-second out of bricks: ours, fitsio, astropy and Cutana, in turn, in one run.

    python -m tests.benchmarks.decode

An object is its box of 256 pixels in three bands, read into memory; there are six bricks of 3600 pixels with 29 or
300 objects each, Rice-compressed as the survey's and plain. Every round takes the methods one after the other;
printed is the best round of each. "Checked" holds the files' checksums against their bytes, which no other does.
Cutana (its in-process call) wants an environment of its own:

    python3.11 -m venv /tmp/cutana && /tmp/cutana/bin/pip install cutana==0.4.0
    python -m tests.benchmarks.decode --cutana /tmp/cutana/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.archives.images import FitsImage
from pipeline.archives.opener import Opener
from pipeline.data import Product
from tests.benchmarks.bricks import BANDS, name_of, places, position, write_bricks
from tests.benchmarks.rows import Row

SIZE = 256  # pixels a side
BRICKS = 6
COLUMNS = ("Rice, 29", "Rice, 300", "plain, 29", "plain, 300")
CUTANA = Path(__file__).with_name("decode_cutana.py")

Box = tuple[int, int]
Object = list[NDArray[Any]]
Method = Callable[[Path, str, Sequence[Sequence[Box]]], Iterator[Object]]
"""From the folder, the ending of the files and each brick's boxes to the objects, one after the other."""
Seconds = Callable[[Path, str, Sequence[Sequence[Box]]], float]
"""Of the CPU, for the same."""


def ours(folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> Iterator[Object]:
    for brick, corners in enumerate(boxes):
        images = [FitsImage(folder / file.path, file.path) for file in _products(brick, ending)]
        for y, x in corners:
            yield [image.section(y, y + SIZE, x, x + SIZE) for image in images]
        for image in images:
            image.close()


def ours_checked(folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> Iterator[Object]:
    """As a load task reads them: the checksums of every file are held against its bytes."""
    with Opener(str(folder)) as opener:
        for brick, corners in enumerate(boxes):
            for y, x in corners:
                images = [opener(file) for file in _products(brick, ending)]
                yield [image.section(y, y + SIZE, x, x + SIZE) for image in images]


def fitsio_sections(folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> Iterator[Object]:
    for brick, corners in enumerate(boxes):
        files = [fitsio.FITS(folder / file.path) for file in _products(brick, ending)]
        for y, x in corners:
            yield [file[-1][y : y + SIZE, x : x + SIZE] for file in files]
        for file in files:
            file.close()


def fitsio_whole(folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> Iterator[Object]:
    for brick, corners in enumerate(boxes):
        images = [fitsio.read(folder / file.path) for file in _products(brick, ending)]
        for y, x in corners:
            yield [image[y : y + SIZE, x : x + SIZE].copy() for image in images]


def astropy_sections(folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> Iterator[Object]:
    for brick, corners in enumerate(boxes):
        files = [fits.open(folder / file.path, memmap=False) for file in _products(brick, ending)]
        for y, x in corners:
            yield [file[-1].section[y : y + SIZE, x : x + SIZE] for file in files]
        for file in files:
            file.close()


METHODS: dict[str, Method] = {
    "ours": ours,
    "ours, checked": ours_checked,
    "fitsio sections": fitsio_sections,
    "fitsio whole tile": fitsio_whole,
    "astropy sections": astropy_sections,
}


def cpu_seconds(method: Method, folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> float:
    """Of this process, until the last object is read; none is kept."""
    started = time.process_time()
    for _ in method(folder, ending, boxes):
        pass
    return time.process_time() - started


def cutana_seconds(python: str, folder: Path, ending: str, boxes: Sequence[Sequence[Box]]) -> float:
    """Of the call alone, in a process of its own environment, after a first call to warm up."""
    rows = [
        {
            "SourceID": f"{brick}-{number}",
            **dict(zip(("RA", "Dec"), position(brick, y + SIZE / 2, x + SIZE / 2), strict=True)),
            "diameter_pixel": SIZE,
            "fits_file_paths": str([str(folder / file.path) for file in _products(brick, ending)]),
        }
        for brick, corners in enumerate(boxes)
        for number, (y, x) in enumerate(corners)
    ]
    asked = json.dumps({"extension": "COMPRESSED_IMAGE" if ending == "fits.fz" else "PRIMARY", "rows": rows})
    done = subprocess.run([python, str(CUTANA)], input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def check(folder: Path, ending: str) -> None:
    """Raises SystemExit where two methods do not read the same pixels."""
    boxes = [places(brick, 3, SIZE) for brick in range(BRICKS)]
    found = {name: [np.stack(one) for one in method(folder, ending, boxes)] for name, method in METHODS.items()}
    for name, objects in found.items():
        if not all(np.array_equal(ours, theirs) for ours, theirs in zip(found["ours"], objects, strict=True)):
            raise SystemExit(f"{name}, {ending}: other pixels than ours")


def _products(brick: int, ending: str) -> list[Product]:
    return [Product(name_of(brick), "image", band, f"{name_of(brick)}-{band}.{ending}") for band in BANDS]


def _row(name: str, rates: Sequence[float]) -> str:
    return f"{name:<18}" + "".join(f"{rate:>16,.0f}" for rate in rates) + "\n"


def measured(folder: Path, bricks: int, rounds: int, python: str | None) -> dict[str, list[float]]:
    """Method -> objects per CPU-second: Rice 29, Rice 300, plain 29, plain 300."""
    seconds: dict[str, Seconds] = {name: partial(cpu_seconds, method) for name, method in METHODS.items()}
    if python:
        seconds["Cutana 0.4.0"] = partial(cutana_seconds, python)
    best: dict[str, list[float]] = {name: [] for name in seconds}
    for ending, sources in product(("fits.fz", "fits"), (29, 300)):
        boxes = [places(brick, sources, SIZE) for brick in range(bricks)]
        found = [{name: take(folder, ending, boxes) for name, take in seconds.items()} for _ in range(rounds)]
        for name, rates in best.items():
            rates.append(bricks * sources / min(taken[name] for taken in found))
    return best


def rows(rounds: int = 2, bricks: int = 1, cutana: str | None = None) -> list[Row]:
    """For `make bench`: ours against the best other on fewer bricks, whose pixels are not compared here."""
    with tempfile.TemporaryDirectory(prefix="bricks-") as temporary:
        write_bricks(Path(temporary), bricks)
        best = measured(Path(temporary), bricks, rounds, cutana)
    found = []
    for column, what in enumerate(COLUMNS):
        name, rate = max((each[column], name) for name, each in best.items() if not name.startswith("ours"))[::-1]
        found.append(Row(f"decode, {what} a brick", best["ours"][column], "objects/CPU-s", rate, name, repeats=rounds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutana", help="Python of an environment that has Cutana")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the bricks are, or will be: 1.2 GB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bricks-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_bricks(folder, BRICKS)
        for ending in ("fits.fz", "fits"):
            check(folder, ending)
        best = measured(folder, BRICKS, options.rounds, options.cutana)
    sys.stdout.write(
        "objects per CPU-second, by sources a brick\n" + f"{'':<18}" + "".join(f"{c:>16}" for c in COLUMNS)
    )
    sys.stdout.write("\n" + "".join(_row(name, rates) for name, rates in best.items()))
    others = [max(rates[i] for name, rates in best.items() if not name.startswith("ours")) for i in range(len(COLUMNS))]
    sys.stdout.write(f"{'ours / best other':<18}")
    sys.stdout.write("".join(f"{mine / other:>16.2f}" for mine, other in zip(best["ours"], others, strict=True)) + "\n")


if __name__ == "__main__":
    main()
