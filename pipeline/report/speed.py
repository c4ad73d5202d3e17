"""Where the time of a run went, from what its manifests say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.catalogue.commits import Manifest

SLOWEST = 5  # units that the page names


@dataclass(frozen=True, eq=False)
class Speed:
    """The committed units in the order of time."""

    units: tuple[Manifest, ...]

    @property
    def ends(self) -> NDArray[np.float64]:
        """(U,) seconds from the first commit."""
        times = np.array([unit.committed_at for unit in self.units], dtype=float)
        return times - times.min()

    @property
    def stages(self) -> dict[str, NDArray[np.float64]]:
        """Stage -> (U,) ms an image, summed over all tasks of the unit."""
        rows = np.array([unit.rows for unit in self.units], dtype=float)
        return {
            "load": np.array([unit.load_seconds for unit in self.units]) / rows * 1e3,
            "predict": np.array([unit.predict_seconds for unit in self.units]) / rows * 1e3,
        }

    @property
    def slowest(self) -> list[Manifest]:
        """The units with the most seconds a source, slowest first."""
        return sorted(self.units, key=_seconds_a_row, reverse=True)[:SLOWEST]


def speed(committed: Iterable[Manifest]) -> Speed | None:
    """None where no unit says when it was committed."""
    timed = [unit for unit in committed if unit.committed_at is not None]
    return Speed(tuple(sorted(timed, key=lambda unit: unit.committed_at or 0.0))) if timed else None


def _seconds_a_row(unit: Manifest) -> float:
    return (unit.load_seconds + unit.predict_seconds) / unit.rows
