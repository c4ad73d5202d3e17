"""Which galaxies are recommended as members of a class: schemas/recommended.yaml, applied.

Without pydantic: `pipeline evaluate` measures the cuts on machines that have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline.data import RowFlag, Status


@dataclass(frozen=True)
class Cuts:
    """schemas/recommended.yaml."""

    version: int
    probability: float  # of the class, at least
    statuses: tuple[Status, ...]
    flags: tuple[str, ...]  # names of RowFlag, none of which may be set
    classes: Mapping[str, float] = field(default_factory=dict)

    def least(self, name: str) -> float:
        """The least probability of a class."""
        return self.classes.get(name, self.probability)

    @property
    def excluded(self) -> RowFlag:
        """The bits that a recommended row has not."""
        bits = RowFlag(0)
        for name in self.flags:
            bits |= RowFlag[name]
        return bits


@lru_cache(maxsize=1)
def published_cuts() -> Cuts:
    """schemas/recommended.yaml, read once."""
    tree = yaml.safe_load((resources.files("schemas") / "recommended.yaml").read_text("utf-8"))
    return Cuts(**{**tree, "statuses": tuple(map(Status, tree["statuses"])), "flags": tuple(tree["flags"])})


def recommended(table: pa.Table, network: str, cuts: Cuts | None = None) -> dict[str, pa.ChunkedArray]:
    """Class -> (N,) whether each row is recommended as a member, never null.

    `table` has the columns `status`, `flags` and `<network>_p_<class>` of a catalogue.
    """
    cuts = cuts or published_cuts()
    sound = pc.is_in(table["status"].cast(pa.string()), pa.array([status.value for status in cuts.statuses]))
    unflagged = pc.equal(pc.bit_wise_and(table["flags"], pa.scalar(int(cuts.excluded), pa.int32())), 0)
    eligible = pc.and_(sound, unflagged)
    found = {}
    for name in classes_of(table.schema, network):
        likely = pc.greater_equal(table[f"{network}_p_{name}"], cuts.least(name))
        found[name] = pc.fill_null(pc.and_(eligible, likely), False)
    return found


def classes_of(schema: pa.Schema, network: str) -> tuple[str, ...]:
    """The classes that a network of the catalogue tells apart, by the names of its columns of probabilities."""
    start = f"{network}_p_"
    return tuple(name.removeprefix(start) for name in schema.names if name.startswith(start))
