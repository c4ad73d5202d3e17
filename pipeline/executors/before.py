"""What earlier runs committed to an output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.catalogue.commits import Manifest
from pipeline.data import TRANSIENT


@dataclass(frozen=True)
class Before:
    """Ids and counts of the committed units, and in full only those with sources to try again: small for any run."""

    units: frozenset[str]
    rows: int
    statuses: Counter[str]
    failed: Mapping[str, Manifest]

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> Before:
        units, rows, statuses, failed = set(), 0, Counter[str](), {}
        for manifest in manifests:
            units.add(manifest.unit_id)
            rows += manifest.rows
            statuses.update(manifest.statuses)
            if transient(manifest):
                failed[manifest.unit_id] = manifest
        return cls(frozenset(units), rows, statuses, failed)


def transient(manifest: Manifest) -> int:
    """Sources of a unit that failed in a way that may pass."""
    return sum(manifest.statuses.get(status.value, 0) for status in TRANSIENT)
