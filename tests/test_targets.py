"""What a checkpoint was meant to reach, beside what it reaches."""

from __future__ import annotations

from typing import Any

from pipeline.evaluation.targets import targets


def _set(name: str, four: float | None, six: float | None, ece: float | None, low: float = 0.0) -> dict[str, Any]:
    return {
        "name": name,
        "headline": {"classes": [""] * 4, "accuracy": {"value": four, "low": low}},
        "own": {"classes": [""] * 6, "accuracy": {"value": six, "low": low}},
        "after": {"ece": {"value": ece}},
    }


def _said(*sets: dict[str, Any], novelty: float | None = None) -> dict[str, Any]:
    strange = [{"kind": kind, "galaxies": "sdss", "novelty": {"value": novelty}} for kind in ("all", "stars")]
    return {"checkpoint": {"classes": ["spiral"]}, "headline": "sdss", "sets": sets, "separations": strange}


def test_an_error_is_to_be_low_and_an_accuracy_high() -> None:
    found = targets(_said(_set("sdss", 0.95, 0.89, 0.02), _set("gz_decals", 1, 1, 1, low=0.79), novelty=0.96))
    assert {one.what: one.met for one in found} == {
        "accuracy on `sdss`, 4 classes": True,
        "accuracy on `sdss`, 6 classes": False,
        "ECE on `sdss`, scaled": True,
        "accuracy on `gz_decals`, 6 classes, lower end": False,
        "no galaxy, against sdss: area": True,
    }


def test_a_set_without_images_has_no_target() -> None:
    assert targets(_said(_set("sdss", None, None, None))) == []
