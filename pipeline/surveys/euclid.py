"""Euclid quick release 1 (Q1): background-subtracted MER mosaics in NASA's public bucket at IRSA.

IRSA's tutorials (github Caltech-IPAC/irsa-tutorials, euclid) and its SIA2 service, whose ObsCore rows say where each
mosaic is in the bucket (`cloud_access`) and on the sky (`s_region`). A mosaic is 1.4 GB and not compressed: it is
read by ranges. The release and its bucket are settings, as those of the next releases are not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.data import Layout
from pipeline.errors import JobError
from pipeline.surveys import TileList
from pipeline.surveys.served import address
from pipeline.surveys.tiled import TiledSurvey, Tree
from pipeline.surveys.tiles import Files
from pipeline.surveys.units import by_zero_point

SIA = "https://irsa.ipac.caltech.edu/SIA"
MOSAIC = Layout((19200, 19200), (1, 19200), 1_474_565_760, 0.1, "plain", margin=600)
"""One band of a tile of 32 arcmin, of which neighbours share 2."""
COLUMNS = ("cloud_access", "s_region", "energy_bandpassname", "dataproduct_subtype")
_TILE = re.compile(r"TILE(\d+)")

Band = Literal["VIS", "Y", "J", "H"]


class EuclidConfig(BaseModel):
    """Euclid MER mosaics of one release, below their bucket (the mirror); IRSA's SIA service says where they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["euclid"] = "euclid"
    name: str = "q1"  # of the release
    collection: str = "euclid_DpdMerBksMosaic"
    mosaics: str = SIA  # the SIA2 service, or a table of its answer below the root, or at a URL of its own
    bucket: str = "nasa-irsa-euclid-q1"
    bands: tuple[Band, ...] = Field(default=("VIS",), min_length=1)
    frame: float = Field(default=64.0, gt=0)  # arcsec: for a job that asks for the whole frame

    @property
    def release(self) -> str:
        return self.name

    @property
    def tile_lists(self) -> tuple[TileList, ...]:
        """One query for the whole collection, as IRSA's own client sends it."""
        if not self.mosaics.rstrip("?").endswith("/SIA"):
            return (TileList(self.mosaics, COLUMNS),)
        url = address(self.mosaics.rstrip("?"), COLLECTION=self.collection, RESPONSEFORMAT="votable", MAXREC=1_000_000)
        return (TileList(url, COLUMNS, suffix=".vot"),)

    @property
    def sweeps(self) -> Mapping[str, str]:
        return {}

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.mosaics,) if "://" in self.mosaics else ()

    def build(self, tiles: pa.Table | None) -> TiledSurvey:
        """The survey on the service's answer. Raises JobError where that is missing or names no mosaic."""
        if tiles is None:
            raise JobError("Euclid needs the list of its mosaics (survey.mosaics)")
        rows = [row for row in tiles.to_pylist() if row["dataproduct_subtype"] == "science" and row["s_region"]]
        rows = [row for row in rows if row["energy_bandpassname"] in ("VIS", "Y", "J", "H")]
        if not rows:
            raise JobError(f"{self.mosaics} lists no science mosaic of {self.collection}")
        keys = [bucket_key(row["cloud_access"], self.bucket) for row in rows]
        names = [row["energy_bandpassname"] for row in rows]
        found = Files([_tile(key) for key in keys], names, keys, tuple(self.bands), MOSAIC)
        footprint = found.footprint(np.stack([polygon(row["s_region"]) for row in rows]))
        return TiledSurvey(tuple(self.bands), self.frame, by_zero_point("MAGZERO"), footprint, Tree(found))


def bucket_key(cloud_access: Any, bucket: str) -> str:
    """The key of a mosaic in the bucket, of IRSA's column `cloud_access`. Raises JobError for another bucket."""
    try:
        aws = json.loads(cloud_access)["aws"]
        name, key = str(aws["bucket_name"]), str(aws["key"])
    except (TypeError, ValueError, KeyError) as error:
        raise JobError(f"the list of mosaics has no place in a bucket: cloud_access is {cloud_access!r}") from error
    if name != bucket:
        raise JobError(f"the list of mosaics is of the bucket {name}, survey.bucket is {bucket}")
    return key


def polygon(s_region: str) -> NDArray[np.float64]:
    """(4, 2) ra and dec in degrees of an ObsCore region, "POLYGON ICRS ra dec ...". Raises JobError for another."""
    words = s_region.split()
    numbers = [word for word in words if re.fullmatch(r"[-+0-9.eE]+", word)]
    if not words or words[0].upper() != "POLYGON" or len(numbers) not in (8, 10):
        raise JobError(f"the region {s_region!r} is no polygon of four corners")
    return np.array([float(word) for word in numbers[:8]]).reshape(4, 2)


def _tile(key: str) -> str:
    match = _TILE.search(key)
    if match is None:
        raise JobError(f"{key}: no MER mosaic: its name has no tile number")
    return match[1]
