"""Which galaxies are trained on, which are watched and which only ever tested: fixed before any image is changed.

A side is a hash of the group's name, so that it depends neither on the order of rows nor on which other rows there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.training.examples import Examples
from pipeline.training.recipe import Split


@dataclass(frozen=True, eq=False)
class Sides:
    """Row numbers (int64) of each side; rows that stand beside the test set but are not of it are in none."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_groups(examples: Examples, rule: Split, pairs: Iterable[tuple[int, int]] = ()) -> Sides:
    """The sides of the examples. `pairs` are rows that show the same galaxy: their groups go one way together.

    With `rule.test_where` the rows that it names are the whole test set, and whatever shares a group with one of
    them is left out.
    """
    groups = joined(examples.groups, pairs)
    place = np.array([_place(group, rule.salt) for group in groups])
    if rule.test_where:
        test = examples.fixed_test
        rest = ~np.isin(groups, np.unique(groups[test]))
        validation = rest & (place < rule.validation)
    else:
        test = place < rule.test
        rest = ~test
        validation = rest & (place < rule.test + rule.validation)
    return Sides(*(np.flatnonzero(side) for side in (rest & ~validation, validation, test)))


def joined(groups: NDArray[np.str_], pairs: Iterable[tuple[int, int]]) -> NDArray[np.str_]:
    """Groups (N,) of which those that a pair of rows ties together have one name, the first in order."""
    names: dict[str, str] = {}

    def root(name: str) -> str:
        while names.get(name, name) != name:
            name = names[name]
        return name

    for first, second in pairs:
        low, high = sorted((root(str(groups[first])), root(str(groups[second]))))
        names[high] = low
    return np.array([root(str(group)) for group in groups], np.str_)


def _place(group: str, salt: str) -> float:
    """A number from 0 to 1 that only the name decides."""
    digest = hashlib.sha256(f"{salt}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
