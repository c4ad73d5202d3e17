"""The published snapshots of an output: which there are, what each says of itself, and which is the latest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.catalogue.dataset import publish_file
from pipeline.catalogue.layout import COLLECTION, PRIMARY, SNAPSHOTS
from pipeline.catalogue.properties import parsed_properties, properties_bytes
from pipeline.errors import CatalogueError
from pipeline.storage import Storage

_SEAL = b"pipeline_seal="  # last line of collection.properties: the sha256 of the lines above


@dataclass(frozen=True)
class Snapshot:
    """One published catalogue."""

    number: int
    path: str  # folder or URL of the collection
    name: str
    rows: int
    files: int  # Parquet files of the catalogue
    statuses: Mapping[str, int]
    untrained: tuple[str, ...]  # prefixes of the networks whose weights are not trained
    commits: str  # digest of the commits that it holds
    options: str  # digest of how they were published
    checksums: str  # sha256 of SHA256SUMS

    @property
    def folder(self) -> str:
        """Its name below the output."""
        return snapshot_folder(self.number)


def snapshot_folder(number: int) -> str:
    return f"{SNAPSHOTS}/{number:04d}"


def snapshot_files(storage: Storage) -> dict[int, list[str]]:
    """Snapshot number -> names of its files, published or not."""
    found: dict[int, list[str]] = {}
    for name in storage.list(SNAPSHOTS):
        number = name.split("/")[1]
        if number.isdecimal():
            found.setdefault(int(number), []).append(name)
    return found


def free_number(storage: Storage) -> int:
    """The number of the next snapshot; what a crash left of unpublished ones is removed."""
    files = snapshot_files(storage)
    for number, names in files.items():
        if f"{snapshot_folder(number)}/{COLLECTION}" not in names:
            storage.delete_folder(snapshot_folder(number))
    return max(files, default=0) + 1


def drop_old(storage: Storage, keep: int) -> list[str]:
    """Remove all published snapshots but the newest `keep`, and return their folders; whoever reads one loses it.

    A snapshot's collection.properties goes first: what a crash leaves of it counts as never published.
    """
    files = snapshot_files(storage)
    published = sorted(number for number, names in files.items() if f"{snapshot_folder(number)}/{COLLECTION}" in names)
    old = published[:-keep]
    for number in old:
        storage.delete(f"{snapshot_folder(number)}/{COLLECTION}")
        storage.delete_folder(snapshot_folder(number))
    return [snapshot_folder(number) for number in old]


def newest_snapshot(storage: Storage) -> Snapshot | None:
    """The published snapshot with the highest number."""
    files = snapshot_files(storage)
    published = [number for number, names in files.items() if f"{snapshot_folder(number)}/{COLLECTION}" in names]
    return read_snapshot(storage, max(published)) if published else None


def write_collection(storage: Storage, snapshot: Snapshot, extra: Mapping[str, object]) -> None:
    """Publish a snapshot: its collection.properties. Raises CatalogueError where another writer was first."""
    values = {
        "obs_collection": snapshot.name,
        "hats_primary_table_url": PRIMARY,
        **extra,
        "pipeline_rows": snapshot.rows,
        "pipeline_files": snapshot.files,
        "pipeline_statuses": " ".join(f"{status}:{rows}" for status, rows in snapshot.statuses.items()),
        "pipeline_untrained": " ".join(snapshot.untrained),
        "pipeline_commits": snapshot.commits,
        "pipeline_options": snapshot.options,
        "pipeline_checksums": snapshot.checksums,
    }
    name = f"{snapshot.folder}/{COLLECTION}"
    body = properties_bytes("HATS Collection", values)
    publish_file(storage, name, body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n")


def read_snapshot(storage: Storage, number: int) -> Snapshot:
    """What a published snapshot says of itself. Raises FileNotFoundError, and CatalogueError for a damaged one."""
    name = f"{snapshot_folder(number)}/{COLLECTION}"
    body, _, seal = storage.read(name).rpartition(_SEAL)
    if hashlib.sha256(body).hexdigest() != seal.decode(errors="replace").strip():
        raise CatalogueError(f"{name} is damaged: its last line is not the sha256 of those above")
    values = parsed_properties(body)
    try:
        statuses = (entry.rsplit(":", 1) for entry in values["pipeline_statuses"].split())
        return Snapshot(
            number=number,
            path=f"{storage.shown.rstrip('/')}/{snapshot_folder(number)}",
            name=values["obs_collection"],
            rows=int(values["pipeline_rows"]),
            files=int(values["pipeline_files"]),
            statuses={status: int(rows) for status, rows in statuses},
            untrained=tuple(values["pipeline_untrained"].split()),
            commits=values["pipeline_commits"],
            options=values["pipeline_options"],
            checksums=values["pipeline_checksums"],
        )
    except (KeyError, ValueError) as error:
        raise CatalogueError(f"{name} is damaged: {error}") from error
