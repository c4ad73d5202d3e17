"""The image contracts and classes that untrained networks can be given, by the survey they are for.

A trained checkpoint brings its own. None of these is fitted to anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.data import FieldOfView, ImageContract

MORPHOLOGY = ("round", "in_between", "cigar", "edge_on", "spiral", "merger")
RADIO = ("fri", "frii")  # Fanaroff & Riley 1974, MNRAS 167, 31P


@dataclass(frozen=True)
class Images:
    """What a network sees, and what it calls it."""

    contract: ImageContract
    classes: tuple[str, ...]


IMAGES: Mapping[str, Images] = MappingProxyType(
    {
        "decals": Images(ImageContract(), MORPHOLOGY),
        # The viewer's colours of its layer `sdss` (legacysurvey/imagine, map/views.py; reference archives.md 1.4).
        "sdss": Images(
            ImageContract(
                bands=("g", "r", "i"),
                planes=("i", "r", "g"),
                scales=(2.5, 1.5, 1.0),
                offset=0.02,
                reference_pixel=0.396,
            ),
            MORPHOLOGY,
        ),
        # One band in three planes, for networks of three; the stretch of the Legacy Surveys' r, an assumption.
        "euclid": Images(ImageContract(bands=("VIS",), planes=("VIS",) * 3, scales=(3.4,), min_bands=1), MORPHOLOGY),
        # MiraBest (Porter & Scaife 2023, RASTI 2, 293; its builder's mirabest_processing.py): 150 pixels of 1.8 arcsec
        # inside a circle, above 3 sigma of the noise in the 300 around.
        "first": Images(
            ImageContract(
                bands=("1.4GHz",),
                planes=("1.4GHz",),
                scales=(1.0,),
                mapping="clipped",
                reference_pixel=1.8,
                size=150,
                fov=FieldOfView(fixed=270.0, maximum=270.0),
                min_bands=1,
                surroundings=2.0,
            ),
            RADIO,
        ),
    }
)
