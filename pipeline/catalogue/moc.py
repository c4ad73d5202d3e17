"""Coverage maps: Multi-Order Coverage maps (MOC 2.0, IVOA Recommendation 2022) as ranges of order-29 pixels.

The three serialisations of a space MOC: FITS (sec. 4.3, ORDERING NUNIQ or RANGE), JSON and ASCII (sec. 4.1, 4.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue.fits import read_bintable
from pipeline.catalogue.sky import ORDER, merged
from pipeline.errors import CatalogueError

Cells = Iterable[tuple[int, int, int]]  # order, first pixel, last pixel


def moc_ranges(data: bytes) -> NDArray[np.int64]:
    """(R, 2) the order-29 pixels [first, stop) of a MOC file, ascending. Raises CatalogueError for what is none."""
    start = data[:80].lstrip()
    try:
        if start.startswith(b"SIMPLE"):
            return _joined(_of_fits(data))
        if start.startswith(b"{"):
            return _of_cells(_json_cells(json.loads(data)))
        return _of_cells(_ascii_cells(data.decode("ascii")))
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"this is no MOC in FITS, JSON or ASCII: {error}") from error


def _of_fits(data: bytes) -> NDArray[np.int64]:
    header, columns = read_bintable(data)
    values = np.concatenate([np.asarray(column).ravel() for column in columns.values()]).astype(np.int64)
    dimension, ordering = header.get("MOCDIM", "SPACE").strip(), header.get("ORDERING", "NUNIQ").strip()
    if dimension != "SPACE" or ordering not in ("NUNIQ", "RANGE"):
        raise ValueError(f"expected a map of SPACE in NUNIQ or RANGE, got {dimension} in {ordering}")
    if ordering == "RANGE":
        return values.reshape(-1, 2)
    order = np.searchsorted(np.int64(4) << 2 * np.arange(ORDER + 1), values, side="right") - 1
    pixel = values - (np.int64(4) << 2 * order)
    shift = 2 * (ORDER - order)
    return np.stack([pixel << shift, (pixel + 1) << shift], axis=1)


def _json_cells(tree: dict[str, list[int]]) -> Cells:
    return ((int(order), pixel, pixel) for order, pixels in tree.items() for pixel in pixels)


def _ascii_cells(text: str) -> Cells:
    """Cells of a text such as "3/1-4 7 5/26"; a last order without cells says how fine the map is."""
    order: int | None = None
    for word in re.findall(r"[^\s,]+", text):
        before, slash, rest = word.rpartition("/")
        if slash:
            order = int(before.removeprefix("s"))
        if not rest:
            continue
        if order is None:
            raise ValueError(f"{word!r} has no order before it")
        first, _, last = rest.partition("-")
        yield order, int(first), int(last or first)


def _of_cells(cells: Cells) -> NDArray[np.int64]:
    found = []
    for order, first, last in cells:
        if not (0 <= order <= ORDER and 0 <= first <= last < 12 << 2 * order):
            raise ValueError(f"no pixels {first} to {last} of order {order}")
        shift = 2 * (ORDER - order)
        found.append((first << shift, (last + 1) << shift))
    return _joined(np.array(found, dtype=np.int64).reshape(-1, 2))


def _joined(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranges in ascending order, those that touch or overlap in one."""
    ordered = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ordered[:, 1] = np.maximum.accumulate(ordered[:, 1])
    return merged(ordered) if len(ordered) else ordered
