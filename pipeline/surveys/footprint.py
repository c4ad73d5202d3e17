"""Tiles that overlap, anywhere on the sphere: which one shows a position best, and which others show it too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import JobError
from pipeline.resample import Positions

_TURN = 1080.0  # of a row's keys: RA - 360 to RA + 360 and more, so that rows do not meet
_SLACK = 1e-9  # rad, 0.2 milliarcsec: a position on an edge counts as inside
_SAMPLED = 4096  # positions by which neighbours are ranked


class Footprint:
    """The tiles of a survey as convex polygons on the sphere.

    Sides are great circles. RA 0 and the poles are like any other place: all is done with unit vectors.
    """

    def __init__(self, names: Sequence[str], corners: NDArray[np.float64]) -> None:
        """`corners`: (T, K, 2) ra and dec in degrees, in order around each tile, either way round.

        Raises JobError for a tile that is there twice, or that is no polygon smaller than a hemisphere.
        """
        self.names: NDArray[np.str_] = np.asarray(names, dtype=np.str_)
        if len(np.unique(self.names)) != len(self.names):
            raise JobError("the footprint table holds a tile twice")
        vectors = unit_vectors(corners[..., 0], corners[..., 1])  # (T, K, 3)
        self._sides, self._middle = _sides(vectors), _normalised(vectors.sum(axis=1))
        inside = np.einsum("tkc,tc->tk", self._sides, self._middle)
        wrong = ~((inside > 0).all(axis=1) & np.isfinite(corners).all(axis=(1, 2)))
        if wrong.any():
            raise JobError(
                f"tile {self.names[wrong][0]} of the footprint table has no area: its corners are in disorder"
            )
        spread = np.einsum("tkc,tc->tk", vectors, self._middle).min(axis=1, initial=1.0)
        self._radius = float(np.degrees(np.arccos(np.clip(spread, -1, 1))).max(initial=0.0)) + 1e-6  # deg
        self._sort()

    def tiles(self, ra: Positions, dec: Positions) -> NDArray[np.str_]:
        """(N,) name of the tile in which each position lies furthest from the edge, "" for none (and for NaN)."""
        best, depth = np.full(len(ra), -1, dtype=np.intp), np.full(len(ra), -np.inf)
        vectors = unit_vectors(ra, dec)
        for rows, tiles in self._candidates(ra, dec):
            found = self._depth(vectors[rows], tiles)
            better = (found >= -_SLACK) & (found > depth[rows])
            depth[rows[better]], best[rows[better]] = found[better], tiles[better]
        names = np.append(self.names, "")
        return np.asarray(names[best])

    def near(self, tile: str, ra: Positions, dec: Positions) -> list[str]:
        """The tiles, besides `tile`, that hold any of the positions: the one that holds most of them first."""
        thin = slice(None, None, max(1, len(ra) // _SAMPLED))
        ra, dec = ra[thin], dec[thin]
        vectors = unit_vectors(ra, dec)
        counts: dict[int, int] = {}
        for rows, tiles in self._candidates(ra, dec):
            holds = tiles[self._depth(vectors[rows], tiles) >= -_SLACK]
            for number, count in zip(*np.unique(holds, return_counts=True), strict=True):
                counts[int(number)] = counts.get(int(number), 0) + int(count)
        ranked = sorted(counts, key=lambda number: (-counts[number], str(self.names[number])))
        return [str(self.names[number]) for number in ranked if self.names[number] != tile]

    def _sort(self) -> None:
        """Order the tiles in rows of Dec as high as the largest is wide, and by RA in each, with one sorted key."""
        ra = np.degrees(np.arctan2(self._middle[:, 1], self._middle[:, 0])) % 360
        dec = np.degrees(np.arcsin(np.clip(self._middle[:, 2], -1, 1)))
        row = np.floor((dec + 90) / self._height)
        turns = np.concatenate([ra - 360, ra, ra + 360])
        keys = np.tile(row, 3) * _TURN + turns
        order = np.argsort(keys, kind="stable")
        self._keys, self._tile = keys[order], np.tile(np.arange(len(ra)), 3)[order]

    @property
    def _height(self) -> float:
        return max(2 * self._radius, 1e-3)  # deg

    def _candidates(self, ra: Positions, dec: Positions) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Pairs of rows and tiles whose middles are near; each pair at least once, no row twice in one answer."""
        row = np.floor((dec + 90) / self._height)
        for beside in (-1, 0, 1):
            low = (row + beside) * self._height - 90
            furthest = np.minimum(np.maximum(np.abs(low), np.abs(low + self._height)), 90)  # |Dec| within that row
            reach = np.where(
                furthest + self._radius < 89.9,
                np.degrees(np.arcsin(np.minimum(_sin(self._radius) / np.maximum(_cos(furthest), 1e-9), 1.0))),
                180.0,
            )
            key = (row + beside) * _TURN + ra % 360
            start = np.searchsorted(self._keys, key - reach, side="left")
            stop = np.searchsorted(self._keys, key + reach, side="right")
            for step in range(int((stop - start).max(initial=0))):
                rows = np.flatnonzero(start + step < stop)
                yield rows, self._tile[start[rows] + step]

    def _depth(self, vectors: NDArray[np.float64], tiles: NDArray[np.intp]) -> NDArray[np.float64]:
        """(M,) sine of the distance to the nearest side, negative outside."""
        return np.asarray(np.einsum("mkc,mc->mk", self._sides[tiles], vectors).min(axis=1))


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) of positions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def _sides(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, K, 3) unit normals of the sides, all inwards."""
    normals = _normalised(np.cross(vectors, np.roll(vectors, -1, axis=1)))
    middle = _normalised(vectors.sum(axis=1))
    outwards = np.einsum("tkc,tc->tk", normals, middle).sum(axis=1) < 0
    normals[outwards] *= -1
    return normals


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, np.nan)


def _sin(degrees: float) -> float:
    return float(np.sin(np.radians(degrees)))


def _cos(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cos(np.radians(degrees))
