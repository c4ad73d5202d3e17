"""Where the files of a snapshot lie: names that writers and readers share. Imports nothing: readers start fast.

snapshots/<number>/collection.properties    written last: what has none is not published
snapshots/<number>/SHA256SUMS               of every other file
snapshots/<number>/catalogue/               the HATS catalogue: the full table
snapshots/<number>/friendly/                a HATS catalogue of the same rows with fewer columns
snapshots/<number>/margin_10arcs/           the margin of the catalogue
snapshots/<number>/index_object_id/         its index
snapshots/<number>/attention_maps/          its extension: the 16x16 maps, joined by object_id
snapshots/<number>/README.md ...            what documents.py writes, sample.parquet, completeness.parquet
latest                                      on a disk a symbolic link, in an object store a text: the folder's name

Below a HATS catalogue: HATS 1.0 (IVOA Note, 2025; github.com/astronomy-commons/hats, docs/directory_scheme.rst).
"""

from __future__ import annotations

SNAPSHOTS = "snapshots"
LATEST = "latest"
COLLECTION = "collection.properties"
CHECKSUMS = "SHA256SUMS"
PRIMARY = "catalogue"
FRIENDLY = "friendly"
MARGIN = "margin_10arcs"
INDEX = "index_object_id"
MAPS = "attention_maps"
SAMPLE = "sample.parquet"
COMPLETENESS = "completeness.parquet"

PROPERTIES = "hats.properties"
PARTITION_INFO = "partition_info.csv"
COMMON_METADATA = "dataset/_common_metadata"
METADATA = "dataset/_metadata"  # of an index

MAP_SUFFIX = "_att_map"  # of the columns that hold attention maps


def partition_name(order: int, pixel: int) -> str:
    """Name of a partition's file below the folder `dataset`."""
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def partition_info(partitions: list[tuple[int, int]]) -> bytes:
    """partition_info.csv of (order, pixel) of every partition."""
    lines = ["Norder,Npix", *(f"{order},{pixel}" for order, pixel in partitions)]
    return ("\n".join(lines) + "\n").encode()


def read_partition_info(data: bytes) -> list[tuple[int, int]]:
    """(order, pixel) of every partition, in whatever order the columns stand."""
    head, *lines = (line.split(",") for line in data.decode().split())
    order, pixel = head.index("Norder"), head.index("Npix")
    return [(int(line[order]), int(line[pixel])) for line in lines]
