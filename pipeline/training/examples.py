"""Labelled images out of Parquet files, decoded once and held as bytes: what training and evaluation learn from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import JobError
from pipeline.training.frames import frame_fractions, half_light_radii
from pipeline.training.recipe import Data
from pipeline.training.votes import read_votes

NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Examples:
    """N images with what is known of each. Row i of every array is image i."""

    images: NDArray[np.uint8]  # (N, C, S, S)
    labels: NDArray[np.int64]  # (N,) index into the classes, NO_LABEL where there is none
    ids: NDArray[np.str_]  # (N,)
    groups: NDArray[np.str_]  # (N,) what stays on one side of the split
    collections: NDArray[np.str_]  # (N,) where each comes from, "" if not known
    frames: NDArray[np.float32]  # (N,) width of the frame to show, in widths of the image
    half_light: NDArray[np.float32]  # (N,) radius along the major axis in widths of the image, NaN if not known
    fixed_test: NDArray[np.bool_]  # (N,) rows that `split.test_where` names

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
        """The examples of these rows, by number or by a mask."""
        return Examples(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


def read_examples(data: Data, root: Path, bands: int, test_where: Mapping[str, str]) -> Examples:
    """The labelled images of the recipe's files, in the files' order.

    Rows without an image, as `pipeline cutouts` writes them, are left out. Raises JobError where a file lacks a
    column, an image cannot be decoded, or no row has a label that is asked for.
    """
    votes = data.votes
    voted = read_votes(root / votes.table, votes.id, votes.cuts) if votes.table else None
    tables = ((name, _voted(table, data, voted)) for name, table in _tables(data, root))
    parts = [_read(table, data, bands, test_where, name) for name, table in tables]
    if not sum(map(len, parts)):
        raise JobError(f"no row of {', '.join(data.images)} has one of the labels {', '.join(data.labels)}")
    return Examples(
        **{part.name: np.concatenate([getattr(one, part.name) for one in parts]) for part in fields(Examples)}
    )


def decode(data: bytes, bands: int, side: int, name: str) -> NDArray[np.uint8]:
    """Encoded bytes to (C, side, side) uint8: the middle of the image, black where it does not reach.

    Raises JobError, naming the image, where the bytes are none.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB" if bands == 3 else "L"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise JobError(f"{name}: the image cannot be decoded: {error}") from error
    planes = pixels.transpose(2, 0, 1) if bands == 3 else pixels[None]
    image = np.zeros((bands, side, side), np.uint8)
    (top, above, height), (left, before, width) = (_middle(length, side) for length in planes.shape[1:])
    image[:, above : above + height, before : before + width] = planes[:, top : top + height, left : left + width]
    return image


def _circle(side: int) -> NDArray[np.uint8]:
    """(side, side) 1 within the circle that fills the image, 0 outside it."""
    place = np.arange(side) - (side - 1) / 2
    return (np.hypot(place, place[:, None]) <= side / 2).astype(np.uint8)


def _middle(length: int, side: int) -> tuple[int, int, int]:
    """Where to read, where to write and how many pixels, so that the middles of both lie on each other."""
    return max(0, (length - side) // 2), max(0, (side - length) // 2), min(length, side)


def _tables(data: Data, root: Path) -> Iterator[tuple[str, pa.Table]]:
    for address in data.images:
        path = root / address
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise JobError(f"no Parquet file at {path}")
        for file in files:
            yield str(file), pq.read_table(file)


def _read(table: pa.Table, data: Data, bands: int, test_where: Mapping[str, str], name: str) -> Examples:
    names = data.columns
    used = [column for column in asdict(names).values() if column is not None]
    if missing := [column for column in used if column not in table.column_names]:
        raise JobError(f"{name} lacks the columns {', '.join(missing)}")
    wanted = pc.is_in(table[names.label].cast(pa.string()), value_set=pa.array(list(data.labels), pa.string()))
    table = table.filter(pc.and_(wanted, pc.is_valid(table[names.image])))
    found, ids = _texts(table, names.label), _texts(table, names.id)
    side = data.side
    width = _numbers(table, names.width)
    half_light = half_light_radii(_numbers(table, names.radius), _numbers(table, names.axis_ratio))
    images = [
        decode(image, bands, side, f"{name}, {i}") for image, i in zip(_list(table, names.image), ids, strict=True)
    ]
    whole = np.stack(images) if images else np.zeros((0, bands, side, side), np.uint8)
    return Examples(
        images=whole * _circle(side) if data.circle else whole,
        labels=np.array([data.classes.index(data.labels[label]) for label in found], np.int64),
        ids=ids,
        groups=ids if names.group is None else _texts(table, names.group),
        collections=_texts(table, names.collection),
        frames=frame_fractions(half_light, width, data),
        half_light=(half_light / (width * data.shows)).astype(np.float32),
        fixed_test=_where(table, test_where),
    )


def _voted(table: pa.Table, data: Data, voted: Mapping[str, str] | None) -> pa.Table:
    """The table with the label that votes give each image, none where they give none."""
    names = data.columns
    if voted is None or names.id not in table.column_names:
        return table
    labels = pa.array([voted.get(name) for name in _texts(table, names.id)], pa.string())
    kept = [name for name in table.column_names if name != names.label]
    return table.select(kept).append_column(names.label, labels)


def _where(table: pa.Table, conditions: Mapping[str, str]) -> NDArray[np.bool_]:
    """(N,) rows that meet one of the conditions at least; a column that a file lacks is met nowhere."""
    hit = np.zeros(len(table), np.bool_)
    for column, value in conditions.items():
        if column in table.column_names:
            hit |= _texts(table, column) == value
    return hit


def _list(table: pa.Table, column: str) -> Sequence[Any]:
    return table[column].to_pylist()


def _texts(table: pa.Table, column: str | None) -> NDArray[np.str_]:
    if column is None:
        return np.full(len(table), "", np.str_)
    return np.array(["" if value is None else str(value) for value in _list(table, column)], np.str_)


def _numbers(table: pa.Table, column: str | None) -> NDArray[np.float64]:
    if column is None:
        return np.full(len(table), np.nan)
    return np.array([np.nan if value is None else value for value in _list(table, column)], np.float64)
