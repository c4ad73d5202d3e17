"""Pixels of one grid from the pixels of another: Lanczos-3, anti-aliased, and blind to bad pixels.

Values are surface brightness, so resampling conserves flux. Where the whole Lanczos support of a new pixel
is good, its value is the Lanczos-3 one (Duchon 1979, J. Appl. Meteorol. 18, 1016), the kernel widened where
the new pixels are the coarser ones. Where the support meets a bad pixel, the value is the mean of the good
pixels under a tent: convex, so that nothing rings. Where less than half of the tent is good, there is none.

All sums run in a fixed order, element by element in float32: no BLAS, so the same bits on every run and any
number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]
Positions: TypeAlias = NDArray[np.float64]

LOBES = 3  # pixels that the Lanczos kernel reaches to each side
_MIN_TENT = 0.5  # good part of the tent below which there is no value


def resample_axes(image: Floats, bad: Flags, x: Positions, y: Positions) -> tuple[Floats, Flags]:
    """Sample (C, H, W) at columns `x` (X,) and rows `y` (Y,): values (C, Y, X), 0 where there is none, and where.

    x and y are evenly spaced pixel positions that may leave the image; spacings above 1 are anti-aliased.
    """
    columns, rows = _axis(x, image.shape[2]), _axis(y, image.shape[1])
    pixels, unknown = _window(image, bad, (rows.start, rows.stop), (columns.start, columns.stop))
    values = _weigh(pixels, rows, columns, "lanczos")
    nothing = np.zeros(values.shape, dtype=np.bool_)
    dirty = unknown.any(axis=(1, 2))
    if dirty.any():
        good = np.where(unknown[dirty], np.float32(0), np.float32(1))
        weight = _weigh(good, rows, columns, "tent")
        mean = _weigh(pixels[dirty], rows, columns, "tent") / np.maximum(weight, np.float32(_MIN_TENT))
        whole = _weigh(1 - good, rows, columns, "support") < _MIN_TENT
        nothing[dirty] = weight < _MIN_TENT
        values[dirty] = np.where(nothing[dirty], np.float32(0), np.where(whole, values[dirty], mean))
    return values, nothing


def sample_at(image: Floats, bad: Flags, x: Positions, y: Positions) -> tuple[Floats, Flags]:
    """Sample (C, H, W) at the points `x`, `y`, both (K,): values (C, K), 0 where there is none, and where.

    The points are taken as no further apart than the pixels: nothing is anti-aliased here.
    """
    columns, rows = _axis(x, image.shape[2], even=False), _axis(y, image.shape[1], even=False)
    pixels, unknown = _window(image, bad, (rows.start, rows.stop), (columns.start, columns.stop))
    width = pixels.shape[2]
    flat = pixels.reshape(len(pixels), -1)
    good = np.where(unknown, np.float32(0), np.float32(1)).reshape(len(pixels), -1)
    values, mean, weight, holes = (np.zeros((len(pixels), len(x)), np.float32) for _ in range(4))
    clean = not unknown.any()
    for row, tap_y in enumerate(rows.index):
        for column, tap_x in enumerate(columns.index):
            at = tap_y * width + tap_x  # (K,)
            values += flat[:, at] * (rows.lanczos[row] * columns.lanczos[column])
            if not clean:
                tent = rows.tent[row] * columns.tent[column]
                weight += good[:, at] * tent
                mean += flat[:, at] * tent
                holes += 1 - good[:, at]
    if clean:
        return values, np.zeros(values.shape, dtype=np.bool_)
    mean /= np.maximum(weight, np.float32(_MIN_TENT))
    nothing = weight < _MIN_TENT
    return np.where(nothing, np.float32(0), np.where(holes > 0, mean, values)), nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """The T pixels along one axis that each of S new positions is made of, and their weights, all (T, S)."""

    start: int  # the window [start, stop) of the image that holds them all
    stop: int
    index: NDArray[np.intp]  # in the window
    lanczos: Floats
    tent: Floats
    support: Floats  # 1 under the Lanczos kernel, 0 elsewhere


def _axis(positions: Positions, length: int, *, even: bool = True) -> _Axis:
    """The taps of positions along an axis of `length` pixels.

    All pixels outside the image are alike, so one on each side stands for them.
    """
    spacing = abs(positions[-1] - positions[0]) / (len(positions) - 1) if even and len(positions) > 1 else 1.0
    stretch = max(1.0, float(spacing))
    first = np.floor(positions - LOBES * stretch).astype(np.intp) + 1
    taps = first + np.arange(int(np.ceil(2 * LOBES * stretch)), dtype=np.intp)[:, None]
    distance = (taps - positions) / stretch
    inside = np.abs(distance) < LOBES
    lanczos = np.where(inside, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
    tent = np.maximum(0.0, 1.0 - np.abs(distance))
    taps = np.clip(taps, -1, length)
    start = int(taps.min())
    return _Axis(
        start,
        int(taps.max()) + 1,
        taps - start,
        (lanczos / lanczos.sum(axis=0)).astype(np.float32),
        (tent / tent.sum(axis=0)).astype(np.float32),
        inside.astype(np.float32),
    )


def _window(image: Floats, bad: Flags, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Floats, Flags]:
    """The pixels [rows) x [columns) of the image, zero and bad where they are outside it or bad in it."""
    height, width = image.shape[1:]
    shape = (len(image), rows[1] - rows[0], columns[1] - columns[0])
    pixels, unknown = np.zeros(shape, np.float32), np.ones(shape, np.bool_)
    y0, y1 = max(rows[0], 0), min(rows[1], height)
    x0, x1 = max(columns[0], 0), min(columns[1], width)
    if y0 >= y1 or x0 >= x1:
        return pixels, unknown
    inner = np.s_[:, y0 - rows[0] : y1 - rows[0], x0 - columns[0] : x1 - columns[0]]
    flux = image[:, y0:y1, x0:x1]
    unknown[inner] = bad[:, y0:y1, x0:x1] | ~np.isfinite(flux)
    pixels[inner] = np.where(unknown[inner], np.float32(0), flux)
    return pixels, unknown


def _weigh(pixels: Floats, rows: _Axis, columns: _Axis, kernel: str) -> Floats:
    """(C, h, w) -> (C, Y, X): first down the columns, then along the rows."""
    bands, height, width = pixels.shape
    down = _along(pixels.transpose(1, 0, 2).reshape(height, bands * width), rows, kernel)  # (Y, C w)
    side = np.ascontiguousarray(down.reshape(-1, bands, width).transpose(2, 1, 0))  # (w, C, Y)
    across = _along(side.reshape(width, -1), columns, kernel)  # (X, C Y)
    return np.ascontiguousarray(across.reshape(across.shape[0], bands, -1).transpose(1, 2, 0))


def _along(lines: Floats, axis: _Axis, kernel: str) -> Floats:
    """(L, K) -> (S, K): each new line is the weighted sum of T old ones, added in the order of the taps."""
    weights: Floats = getattr(axis, kernel)
    total = np.zeros((weights.shape[1], lines.shape[1]), np.float32)
    line = np.empty_like(total)
    for tap, weight in zip(axis.index, weights, strict=True):
        np.take(lines, tap, axis=0, out=line, mode="clip")
        line *= weight[:, None]
        total += line
    return total
