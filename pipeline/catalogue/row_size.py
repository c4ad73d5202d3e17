"""What a row of the catalogue takes on disk, by the types of its columns: for the dry run, before there is a row.

Bytes as parquet.py packs them, measured on 50,000 rows of known distributions (tests/test_row_size.py holds written
files to these figures). Columns whose values hardly vary pack better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa

from pipeline.catalogue.contract import DEFAULT_PARTS, NetworkColumns, is_map, unit_schema

NUMBER = 2.2  # of a float32 with 12 bits of mantissa: 1.9 of a narrow range, 2.5 of probabilities
WORD = 0.2  # of a text that repeats: a label is one of a few classes, a checkpoint always the same
LEVEL = 1.8  # of one cell of a map with cells of its own: an 8x8 map is stored as 16x16 and packs to 115 bytes
FULL = 230  # of a map whose 256 cells all differ: 197 of AG-CNN's, 244 of Tang's, both untrained


@dataclass(frozen=True, slots=True)
class NetworkBytes:
    """What one network adds to a row."""

    prefix: str
    default: float  # columns that a reader gets who names none
    columns: float  # all but the attention map
    map: float  # in the table beside

    @property
    def total(self) -> float:
        return self.columns + self.map


def network_bytes(
    network: NetworkColumns, grid: tuple[int, int] = (16, 16), empty: Collection[str] = ()
) -> NetworkBytes:
    """The bytes of a network whose attention maps are `grid` (h, w) and whose columns `empty` hold nothing."""
    own = [field for field in _own(network) if field.name not in empty]
    default = tuple(f"{network.prefix}_{part}" for part in DEFAULT_PARTS)
    cells = min(grid[0], 16) * min(grid[1], 16)
    return NetworkBytes(
        prefix=network.prefix,
        default=_packed(field for field in own if field.name.startswith(default)),
        columns=_packed(field for field in own if not is_map(field)),
        map=min(FULL, LEVEL * cells),
    )


def _own(network: NetworkColumns) -> list[pa.Field]:
    """The fields of a unit that are there because of this network."""
    shared = set(unit_schema([], pa.int64(), pa.schema([])).names)
    return [field for field in unit_schema([network], pa.int64(), pa.schema([])) if field.name not in shared]


def _packed(fields: Iterable[pa.Field]) -> float:
    return sum(NUMBER if pa.types.is_floating(field.type) else WORD for field in fields)
