"""Galaxy Zoo votes to six classes: the answers of volunteers, cut by documented thresholds that can be changed.

Columns are those of the Galaxy Zoo DECaLS tables (Walmsley et al. 2022, MNRAS 509, 3966; zenodo.org/records/4573248):
`{question}_{answer}_fraction`, the share of those asked a question who gave an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from pipeline.errors import JobError

Fractions = NDArray[np.float64]

CLASSES = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")
NO_CLASS = -1
VOTES = {  # short name -> column
    "smooth": "smooth-or-featured_smooth_fraction",
    "featured": "smooth-or-featured_featured-or-disk_fraction",
    "artifact": "smooth-or-featured_artifact_fraction",
    "edge_on": "disk-edge-on_yes_fraction",
    "not_edge_on": "disk-edge-on_no_fraction",
    "spiral": "has-spiral-arms_yes_fraction",
    "round": "how-rounded_round_fraction",
    "in_between": "how-rounded_in-between_fraction",
    "cigar": "how-rounded_cigar-shaped_fraction",
    "merger": "merging_merger_fraction",
}
# How many were asked the first question: the volunteers' tables name it the one way or the other, the table of
# the deep network's answers (`gz_decals_auto_posteriors`) has none.
TOTALS = ("smooth-or-featured_total-votes", "smooth-or-featured_total")


@dataclass(frozen=True)
class Cuts:
    """The least shares, unless said otherwise, that make a galaxy one of a class.

    Those of smooth, edge-on and spiral galaxies are the clean samples of Galaxy Zoo 2 (Willett et al. 2013, MNRAS 435,
    2835, table 3). Those of mergers, artefacts and the number of votes are ours: nobody published the ones of a six
    class set on these votes (reference/networks.md sec. 3.4).
    """

    votes: float = 20  # on the first question; ignored where the table does not count them
    smooth: float = 0.469
    roundness: float = 0.5  # of round, in between or cigar-shaped
    featured: float = 0.430
    edge_on: float = 0.602
    not_edge_on: float = 0.715  # of spirals
    spiral: float = 0.619
    merger: float = 0.6
    not_merger: float = 0.3  # what every other class stays below
    artifact: float = 0.3  # what every class stays below

    def __post_init__(self) -> None:
        shares = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "votes"}
        if wrong := {name: share for name, share in shares.items() if not 0 <= share <= 1}:
            raise ValueError(f"expected shares from 0 to 1, got {wrong}")


def classes_of_votes(table: Mapping[str, Fractions], cuts: Cuts = Cuts()) -> NDArray[np.int64]:
    """(N,) the index in CLASSES that the votes of each galaxy give, NO_CLASS where they agree on none.

    Where cuts let two classes through, the first of merger, edge-on, spiral, cigar, in-between and round holds. A
    question that nobody was asked is NaN and fails its cut. Raises JobError where a column lacks.
    """
    if missing := [column for column in VOTES.values() if column not in table]:
        raise JobError(f"a table of votes needs the columns {', '.join(missing)}")
    share = {name: np.asarray(table[column], np.float64) for name, column in VOTES.items()}
    sound = _enough(table, len(share["smooth"]), cuts) & ~(share["artifact"] >= cuts.artifact)
    alone = sound & ~(share["merger"] >= cuts.not_merger)
    featured, smooth = alone & (share["featured"] >= cuts.featured), alone & (share["smooth"] >= cuts.smooth)
    passed = {
        "merger": sound & (share["merger"] >= cuts.merger),
        "edge_on": featured & (share["edge_on"] >= cuts.edge_on),
        "spiral": featured & (share["not_edge_on"] >= cuts.not_edge_on) & (share["spiral"] >= cuts.spiral),
        **{name: smooth & (share[name] >= cuts.roundness) for name in ("cigar", "in_between", "round")},
    }
    found = np.full(len(sound), NO_CLASS, np.int64)
    for name, mine in reversed(passed.items()):
        found[mine] = CLASSES.index(name)
    return found


def counts_of_votes(table: Mapping[str, Fractions], cuts: Cuts = Cuts()) -> dict[str, int]:
    """How many galaxies each class gets, and how many none."""
    found = classes_of_votes(table, cuts)
    return {name: int((found == k).sum()) for k, name in enumerate(CLASSES)} | {"none": int((found == NO_CLASS).sum())}


def read_votes(path: Path, name: str, cuts: Cuts = Cuts()) -> dict[str, str]:
    """Galaxy -> its class, of those that get one, in a table (Parquet or CSV) whose column `name` names galaxies.

    Raises JobError where it cannot be read, or lacks a column.
    """
    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise JobError(f"cannot read the votes {path}: {error}") from error
    if name not in table.column_names:
        raise JobError(f"{path} lacks the column {name}, which names the galaxies")
    numbers = {
        column: table[column].cast(pa.float64()).to_numpy()
        for column in (*VOTES.values(), *TOTALS)
        if column in table.column_names
    }
    found = classes_of_votes(numbers, cuts)
    galaxies = table[name].cast(pa.string()).to_pylist()
    return {galaxy: CLASSES[k] for galaxy, k in zip(galaxies, found, strict=True) if k != NO_CLASS}


def _enough(table: Mapping[str, Fractions], rows: int, cuts: Cuts) -> NDArray[np.bool_]:
    counted = next((column for column in TOTALS if column in table), None)
    return np.ones(rows, np.bool_) if counted is None else np.asarray(table[counted], np.float64) >= cuts.votes
