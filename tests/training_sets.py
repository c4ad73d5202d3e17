"""A training set that is small enough for tests: discs and bars in PNG, in Parquet files, and a recipe for them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.training.recipe import Recipe, parse_recipe

SIDE = 24  # px
AGCNN = ("gates", "gate_channels")  # keys that other networks do not have


def picture(kind: str, seed: int, side: int = SIDE) -> bytes:
    """A PNG of a soft disc or bar on a noisy sky."""
    draw = np.random.default_rng(seed)
    y, x = (np.indices((side, side)) - (side - 1) / 2) / side
    turned = x * np.cos(seed) + y * np.sin(seed)
    across = -x * np.sin(seed) + y * np.cos(seed)
    light = np.exp(-((turned / 0.2) ** 2) - (across / (0.2 if kind == "disc" else 0.05)) ** 2)
    planes = 200 * light[..., None] * draw.uniform(0.8, 1.0, 3) + draw.uniform(0, 20, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(planes.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_set(folder: Path, count: int = 60) -> Path:
    """Two Parquet files of `count` rows in all; every fifth row has a label that nobody asks for. The folder."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ["odd" if i % 5 == 4 else ("disc", "bar")[i % 2] for i in range(count)]
    table = pa.table(
        {
            "id": [f"g{i}" for i in range(count)],
            "label": kinds,
            "sky": [f"s{i // 2}" for i in range(count)],
            "origin": ["north" if i % 3 else "south" for i in range(count)],
            "batch": ["judged" if i % 10 == 0 else "" for i in range(count)],
            "radius": [5.0 + i % 3 for i in range(count)],
            "ratio": [1.0] * count,
            "width": [float(SIDE)] * count,
            "image": [picture(kind, i) for i, kind in enumerate(kinds)],
        }
    )
    half = count // 2
    pq.write_table(table.slice(0, half), folder / "part-0.parquet")
    pq.write_table(table.slice(half), folder / "part-1.parquet")
    return folder


def tree(**sections: Mapping[str, Any] | Any) -> dict[str, Any]:
    """A recipe of plain values for `write_set` in the folder `set`; sections are put over it, key by key."""
    whole: dict[str, Any] = {
        "name": "small",
        "network": "agcnn",
        "config": {"classes": 2, "size": 16, "gates": 2, "widths": [3, 4, 4, 6], "gate_channels": 4},
        "data": {
            "images": ["set"],
            "classes": ["disc", "bar"],
            "labels": {"disc": "disc", "bar": "bar"},
            "columns": {"label": "label", "group": "sky", "collection": "origin"},
            "side": SIDE,
        },
        "optimisation": {"epochs": 2, "batch": 8, "rate": 0.01},
    }
    for name, values in sections.items():
        whole[name] = {**whole.get(name, {}), **values} if isinstance(values, Mapping) else values
    if whole["network"] != "agcnn":
        whole["config"] = {key: value for key, value in whole["config"].items() if key not in AGCNN}
    return whole


def recipe(**sections: Mapping[str, Any] | Any) -> Recipe:
    return parse_recipe(tree(**sections), "test")
