"""Galaxies as the page shows them: the image that the networks saw and the maps of where they looked."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data import ObjectId, RowFlag

COLOUR_MAPS = ("viridis", "magma", "cividis", "gray")  # perceptually uniform
JPEG_QUALITY = 88
SUMMARY = ("entropy", "area50", "central", "sigma_arcsec", "offset_arcsec")  # as the catalogue's columns are named
MAP_SIDE = 64  # pixels a side from which a map is averaged down on a page of many galaxies


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One map of one network, or of one network under other settings."""

    group: str  # what it is compared with: "networks", "gates", or a title such as "AG-CNN, softmax"
    name: str
    values: NDArray[np.float32]  # (h, w), row 0 the northern edge, column 0 the eastern
    verdict: str = ""  # the class and its probability, where the map is a network's own
    numbers: Mapping[str, float] = field(default_factory=dict)  # what it comes to, by the names of SUMMARY
    box: tuple[float, float, float] | None = None  # centre x, y and side of a crop, in image sides


@dataclass(frozen=True, eq=False)
class Picture:
    """One galaxy, fetched and looked at again."""

    object_id: ObjectId
    image: NDArray[np.uint8] | None  # (3, S, S) red, green, blue; north up, east left. None: it could not be had
    reason: str  # why there is none
    fov_arcsec: float  # width of the image
    maps: tuple[AttentionMap, ...]


def embedded(picture: Picture, row: Mapping[str, Any], side: int = MAP_SIDE) -> dict[str, Any]:
    """A picture and its row of the catalogue as plain values for the page's script; maps of at most `side` pixels."""
    return {
        "id": str(picture.object_id),
        "image": None if picture.image is None else jpeg(picture.image),
        "reason": picture.reason,
        "fov": None if np.isnan(picture.fov_arcsec) else round(picture.fov_arcsec, 2),
        "row": {name: _plain(name, value) for name, value in row.items()},
        "maps": [_map(found, side) for found in picture.maps],
    }


def jpeg(image: NDArray[np.uint8]) -> str:
    """An image (3, S, S), or (1, S, S) in grey, as the base64 of a JPEG file."""
    planes = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(data, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(data.getvalue()).decode()


def colour_tables() -> dict[str, str]:
    """Colour map -> base64 of 256 red, green, blue bytes."""
    steps = np.linspace(0, 1, 256)
    return {
        name: base64.b64encode(
            (matplotlib.colormaps[name](steps)[:, :3] * 255).round().astype(np.uint8).tobytes()
        ).decode()
        for name in COLOUR_MAPS
    }


def _map(found: AttentionMap, side: int) -> dict[str, Any]:
    """Stretched from its lowest to its highest value, which are kept beside it; a flat map is all zero."""
    values = _averaged(found.values, side)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        low = high = 0.0
    span = high - low
    levels = (values - low) / span if span > 0 else np.zeros_like(values)
    height, width = values.shape
    return {
        "group": found.group,
        "name": found.name,
        "width": width,
        "height": height,
        "low": low,
        "high": high,
        "verdict": found.verdict,
        "numbers": {name: _plain(name, value) for name, value in found.numbers.items()},
        "box": None if found.box is None or not np.isfinite(found.box).all() else [round(v, 4) for v in found.box],
        "levels": base64.b64encode((levels * 255).round().astype(np.uint8).tobytes()).decode(),
    }


def _averaged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A map (h, w) as the means of equal blocks, of at most `side` pixels a side; as it is where blocks do not fit."""
    block = -(-max(values.shape) // side)
    if block == 1 or any(length % block for length in values.shape):
        return values
    height, width = (length // block for length in values.shape)
    means: NDArray[np.float32] = values.reshape(height, block, width, block).mean((1, 3))
    return means


def _plain(name: str, value: Any) -> Any:
    if name == "flags" and value is not None:
        return ", ".join(flag.name.lower().replace("_", " ") for flag in RowFlag(value) if flag.name) or "none"
    if isinstance(value, float):
        return None if not np.isfinite(value) else round(value, 6) if name in ("ra", "dec") else float(f"{value:.4g}")
    return value if isinstance(value, (str, bool)) or value is None else str(value)
