"""What the numbers of a survey's files mean: stored values to nanomaggies / arcsec2, or to Jy/beam.

A nanomaggy is 22.5 mag AB: a zero point Z makes f counts f 10^((22.5 - Z) / 2.5) nanomaggies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.errors import BadImage
from pipeline.resample import Floats
from pipeline.surveys.mosaic import Calibrate

NANOMAGGY = 22.5  # mag AB
_NANOMAGGIES = ("nanomaggy", "nanomaggies", "nmgy", "nmaggy")

Unit = Callable[[Mapping[str, Any], float, str], Calibrate]
"""Header, arcsec a pixel and path of a file -> its calibration. Raises BadImage, naming the file."""


def nanomaggies(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
    """Of files that hold nanomaggies a pixel, and say so."""
    unit = str(header.get("BUNIT", "")).strip()
    if not is_nanomaggies(unit):
        raise BadImage(f"{path}: BUNIT is {unit!r}, expected nanomaggies")
    return scaled(pixel_scale**-2)


def by_zero_point(card: str) -> Unit:
    """Of files whose card holds the zero point in mag AB of the numbers in a pixel."""

    def unit(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
        return scaled(nanomaggies_each(number(header, card, path)) * pixel_scale**-2)

    return unit


def fixed(per_pixel: float) -> Unit:
    """Of files that hold `per_pixel` nanomaggies in each number, per pixel."""

    def unit(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
        return scaled(per_pixel * pixel_scale**-2)

    return unit


def jansky_per_beam(header: Mapping[str, Any], pixel_scale: float, path: str) -> Calibrate:
    """Of radio maps: as they are."""
    unit = str(header.get("BUNIT", "")).strip()
    if unit.lower() != "jy/beam":
        raise BadImage(f"{path}: BUNIT is {unit!r}, expected Jy/beam")
    return scaled(1.0)


def is_nanomaggies(unit: str) -> bool:
    """Whether a BUNIT means nanomaggies in a pixel."""
    return unit.strip().lower().removesuffix("/pixel").removesuffix("/pix") in _NANOMAGGIES


def nanomaggies_each(zero_point: float) -> float:
    """Nanomaggies in one count of that zero point, mag AB."""
    return float(10 ** ((NANOMAGGY - zero_point) / 2.5))


def scaled(factor: float) -> Calibrate:
    """Times a number. Raises BadImage where the number is none."""
    if not math.isfinite(factor):
        raise BadImage(f"the unit is {factor}")
    times = np.float32(factor)

    def calibrate(stored: Floats) -> Floats:
        return stored * times

    return calibrate


def number(header: Mapping[str, Any], card: str, path: str) -> float:
    """A card's value. Raises BadImage where the header has no such number."""
    try:
        value = float(header[card])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise BadImage(f"{path}: {card} is {header.get(card)!r}, expected a number")
    return value
