"""What a checkpoint was meant to reach, beside what it reaches: for its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DECALS, CONFIDENT = "gz_decals", "confident=True"
OPTICAL = {4: 0.94, 6: 0.90}  # accuracy on the headline's test images, by number of classes
TRANSFER = 0.80  # lower end of Wilson's interval on DECaLS, six classes
RADIO = {"all": 0.873, "confident": 0.917}  # the best of AG-CNN's released grid (reference/networks.md sec. 1.5)
APART = 0.95  # area under the ROC curve of `novelty`, of all kinds of what is no galaxy
CALIBRATED = 0.03  # expected calibration error, scaled


@dataclass(frozen=True)
class Target:
    """One figure and what it should be: at least `wanted`, or at most where `least` is false."""

    what: str
    wanted: float
    found: float
    least: bool = True

    @property
    def met(self) -> bool:
        return self.found >= self.wanted if self.least else self.found <= self.wanted


def targets(said: Mapping[str, Any]) -> list[Target]:
    """The targets that an evaluation's JSON has a figure for: sets without images have none, nor simulated ones."""
    found: list[Target] = []
    if "fri" in said["checkpoint"]["classes"]:
        found += _radio(said)
    elif "spiral" in said["checkpoint"]["classes"]:
        found += _optical(said)
    for one in said["separations"]:
        if one["kind"] == "all":
            found.append(Target(f"no galaxy, against {one['galaxies']}: area", APART, one["novelty"]["value"]))
    return [one for one in found if one.found is not None]


def _radio(said: Mapping[str, Any]) -> Iterator[Target]:
    for one in said["sets"]:
        kind = "confident" if one["name"].endswith(CONFIDENT) else "all" if one["name"] == said["headline"] else None
        if kind is not None:
            yield Target(f"accuracy on `{one['name']}`", RADIO[kind], one["own"]["accuracy"]["value"])


def _optical(said: Mapping[str, Any]) -> Iterator[Target]:
    for one in said["sets"]:
        if one["name"] == said["headline"]:
            yield from _headline(one)
        if one["name"] == DECALS:
            what = f"accuracy on `{DECALS}`, 6 classes, lower end"
            yield Target(what, TRANSFER, one["own"]["accuracy"]["low"])


def _headline(one: Mapping[str, Any]) -> Iterator[Target]:
    for part in (one["headline"], one["own"]):
        count = len(part["classes"])
        if count in OPTICAL:
            what = f"accuracy on `{one['name']}`, {count} classes"
            yield Target(what, OPTICAL[count], part["accuracy"]["value"])
    yield Target(f"ECE on `{one['name']}`, scaled", CALIBRATED, one["after"]["ece"]["value"], least=False)
