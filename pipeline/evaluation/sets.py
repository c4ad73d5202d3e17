"""Labelled images to judge a network on: the held-back side of its recipe, DECaLS for transfer, drawn galaxies."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import JobError
from pipeline.evaluation.intervals import Floats
from pipeline.training.examples import Examples, decode
from pipeline.training.fitting import Prepared
from pipeline.training.frames import frame_fractions, half_light_radii
from pipeline.training.recipe import Data, Recipe

DECALS = "gz_decals"  # folder below the data root
DECALS_SIDE = 256  # px of its images
# Twice the training images' and nearly thrice a network's: halved by the mean of four, as serving resizes without
# aliasing. Sampled as they are, they would have twice the noise of what is served.
DECALS_HALVED = DECALS_SIDE // 2
# The labels of gz_decals, as those of gz_sdss.
DECALS_CLASSES = {
    "Round": "round",
    "In-Between": "in_between",
    "Cigar": "cigar",
    "Edge-On": "edge_on",
    "Spiral": "spiral",
    "Merger": "merger",
}
AXIS_RATIO = "axis_ratio"


@dataclass(frozen=True, eq=False)
class Labelled:
    """A set of images under one name."""

    name: str
    examples: Examples
    axis_ratio: Floats  # (N,) minor over major, NaN where it is not known
    masks: tuple[bytes, ...] = ()  # packed, one an image, where they are drawn


def side_sets(prepared: Prepared, recipe: Recipe, root: Path, side: str) -> list[Labelled]:
    """The `side` (train, validation or test) of a recipe, a set a collection, the largest first."""
    whole = prepared.examples.take(getattr(prepared.sides, side))
    ratios = _values(recipe.data, root, AXIS_RATIO)
    names, counts = np.unique(whole.collections, return_counts=True)
    found = []
    for name in names[np.argsort(-counts, kind="stable")]:
        examples = whole.take(whole.collections == name)
        known = np.array([ratios.get(str(one), np.nan) for one in examples.ids], np.float64)
        found.append(Labelled(str(name) or side, examples, known))
    return found


def subset(of: Labelled, condition: str, data: Data, root: Path) -> Labelled | None:
    """The images of a set whose row in the recipe's files has COLUMN=VALUE, as text; None where there are none.

    Raises JobError where the condition has no `=`, or no file has the column.
    """
    column, equals, value = condition.partition("=")
    if not equals:
        raise JobError(f"--subset {condition}: expected COLUMN=VALUE")
    values = _values(data, root, column)
    if not values:
        raise JobError(f"--subset {condition}: no file of the recipe has the column {column}")
    rows = np.array([str(values.get(str(name))) == value for name in of.examples.ids], np.bool_)
    if not rows.any():
        return None
    return Labelled(f"{of.name}, {condition}", of.examples.take(rows), of.axis_ratio[rows])


def decals_set(root: Path, data: Data) -> Labelled | None:
    """The labelled DECaLS images with one of the six classes, by the frame rule of `data`; None where there are none.

    Raises JobError where an image cannot be read.
    """
    table = root / DECALS / "labels.csv"
    if not table.is_file() or not set(DECALS_CLASSES.values()) <= set(data.classes):
        return None
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class6"] in DECALS_CLASSES]
    images = [_read(root / DECALS / "images" / row["file"]) for row in rows]
    ratio = np.array([float(row["axis_ratio"]) for row in rows])
    half_light = half_light_radii(np.array([float(row["radius_px"]) for row in rows]), ratio)
    width = np.full(len(rows), float(DECALS_SIDE))
    examples = Examples(
        images=np.stack(images),
        labels=np.array([data.classes.index(DECALS_CLASSES[row["class6"]]) for row in rows], np.int64),
        ids=np.array([row["file"] for row in rows]),
        groups=np.array([row["group"] for row in rows]),
        collections=np.full(len(rows), DECALS),
        frames=frame_fractions(half_light, width, replace(data, shows=1.0)),
        half_light=(half_light / width).astype(np.float32),
        fixed_test=np.ones(len(rows), np.bool_),
    )
    return Labelled(DECALS, examples, ratio)


def drawn_sets(path: Path, classes: Sequence[str], bands: int) -> list[Labelled]:
    """The galaxies of `python -m pipeline.mock.stamps`, a set a telescope. Raises JobError where the file is none."""
    table = pq.read_table(path)
    needed = ("id", "label", "telescope", "image", "mask", "radius", "fov_arcsec", AXIS_RATIO)
    if missing := [column for column in needed if column not in table.column_names]:
        raise JobError(f"{path} lacks the columns {', '.join(missing)}: python -m pipeline.mock.stamps writes them")
    found = []
    for telescope in dict.fromkeys(table["telescope"].to_pylist()):
        rows = table.filter(pc.equal(table["telescope"], telescope)).to_pydict()
        images = np.stack([_sized(data, bands, name) for data, name in zip(rows["image"], rows["id"], strict=True)])
        share = np.array(rows["radius"]) / np.array(rows["fov_arcsec"])
        examples = _plain_examples(images, rows["id"], rows["label"], classes, f"drawn, {telescope}")
        known = replace(examples, half_light=share.astype(np.float32))
        found.append(
            Labelled(f"drawn, {telescope}", known, np.array(rows[AXIS_RATIO], np.float64), tuple(rows["mask"]))
        )
    return found


def artefact_sets(path: Path, bands: int) -> dict[str, Examples]:
    """The images of `python -m pipeline.mock.artefacts` by kind; labels are -1. Raises JobError."""
    table = pq.read_table(path)
    if missing := [column for column in ("id", "kind", "image") if column not in table.column_names]:
        raise JobError(f"{path} lacks the columns {', '.join(missing)}: python -m pipeline.mock.artefacts writes them")
    found = {}
    for kind in dict.fromkeys(table["kind"].to_pylist()):
        rows = table.filter(pc.equal(table["kind"], kind)).to_pydict()
        images = np.stack([_sized(data, bands, name) for data, name in zip(rows["image"], rows["id"], strict=True)])
        found[str(kind)] = _plain_examples(images, rows["id"], None, (), str(kind))
    return found


def _plain_examples(
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    ids: Sequence[str],
    labels: Sequence[str] | None,
    classes: Sequence[str],
    name: str,
) -> Examples:
    """Images that are framed already."""
    count = len(ids)
    known = np.full(count, -1) if labels is None else np.array([list(classes).index(label) for label in labels])
    return Examples(
        images=images,
        labels=known.astype(np.int64),
        ids=np.array(ids),
        groups=np.array(ids),
        collections=np.full(count, name),
        frames=np.ones(count, np.float32),
        half_light=np.full(count, np.nan, np.float32),
        fixed_test=np.ones(count, np.bool_),
    )


def _values(data: Data, root: Path, column: str) -> dict[str, Any]:
    """Id -> value of a column, of the files that have it."""
    found: dict[str, Any] = {}
    for address in data.images:
        path = root / address
        for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
            if column in pq.read_schema(file).names:
                table = pq.read_table(file, columns=[data.columns.id, column])
                pairs = zip(table[data.columns.id].to_pylist(), table[column].to_pylist(), strict=True)
                found |= {str(name): value for name, value in pairs if value is not None}
    return found


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"cannot read {path}: {error}") from error
    fine = decode(data, 3, DECALS_SIDE, path.name).reshape(3, DECALS_HALVED, 2, DECALS_HALVED, 2)
    return fine.mean((2, 4)).round().astype(np.uint8)


def _sized(data: bytes, bands: int, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An image at its own size."""
    side = int.from_bytes(data[16:20], "big")  # the width in a PNG's first chunk (PNG 1.2, sec. 11.2.2)
    return decode(data, bands, side, name)
