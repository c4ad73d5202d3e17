"""Images whose class is their colour, a recipe for them and a tiny network that learns it: for tests of evaluation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.models.checkpoint import CLASSES
from pipeline.training.fitting import fit, prepare
from pipeline.training.recipe import Recipe, parse_recipe

SIDE = 24  # px
COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220), (220, 220, 40), (220, 40, 220), (40, 220, 220))
RATIOS = (0.9, 0.66, 0.4, 0.2, 0.7, 0.7)


def png(label: int, seed: int, tint: int = 0) -> bytes:
    """A disc of the colour of a class on noise; `tint` lights the border up, as another collection's frame might."""
    rng = np.random.default_rng(seed)
    image = rng.normal(30 + tint, 8, (SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = np.hypot(x, y) < rng.uniform(5, 7)
    image[disc] = rng.normal(COLOURS[label], 12, (int(disc.sum()), 3))
    data = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def labelled_folder(root: Path, count: int = 1000) -> Path:
    """`count` images: five sixths of collection `survey`, the rest `extra`, which has the class spiral alone."""
    rows = []
    for number in range(count):
        extra = number % 6 == 5
        label = 4 if extra else number % 5 + (number % 5 == 4)  # classes 0 to 3 and 5, and below spirals too
        label = 4 if not extra and number % 6 == 0 else label
        rows.append(
            {
                "id": f"g{number:04d}",
                "class6": CLASSES[label],
                "collection": "extra" if extra else "survey",
                "axis_ratio": RATIOS[label],
                "image": png(label, number, 60 if extra else 0),
            }
        )
    (root / "images").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "images" / "part.parquet")
    return root


def recipe(**changes: Any) -> Recipe:
    """A recipe for the folder, of a network that learns it in seconds."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "network": "dmagnet_f",
        "config": {"size": 24, "dims": [8, 16], "depths": [1, 1], "head_channels": 8},
        "data": {
            "images": ["images"],
            "classes": list(CLASSES),
            "labels": {name: name for name in CLASSES},
            "columns": {"collection": "collection"},
            "side": SIDE,
            "source": "coloured discs",
            "experimental": ["merger"],
        },
        "split": {"test": 0.3, "validation": 0.3},
        "augmentation": {
            "scale": 0.0,
            "gain": 0.0,
            "brightness": 0.0,
            "grey": 0.0,
            "blur": 0.0,
            "pedestal": 0.0,
            "noise": 0.0,
        },
        "optimisation": {"epochs": 4, "batch": 16, "rate": 5e-3, "balance": 0.5},
        "keeping": {"steps": 10000},
    }
    return parse_recipe({**tree, **changes}, "test")


def trained(root: Path, folder: Path) -> Path:
    """The checkpoint of the recipe, trained."""
    made = recipe()
    return fit(made, prepare(made, root), folder, lambda step: None, "cpu")
