"""Publish what is committed as a HATS collection: a new snapshot, built from the latest attempt of every unit.

The manifests' histograms say which HEALPix pixels there are; `tables` writes the rows in one walk along the sky. Then
come what describes them, collection.properties last, and `latest`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa

from pipeline.catalogue.assembly import CommittedRows
from pipeline.catalogue.commits import Manifest, commits_digest, latest_manifests, unit_rows
from pipeline.catalogue.contract import is_map
from pipeline.catalogue.dataset import DatasetWriter, publish_file, votable_bytes
from pipeline.catalogue.documents import CHANGELOG, Publication, Release, documents
from pipeline.catalogue.identifiers import IdentifierCheck, IndexWriter
from pipeline.catalogue.layout import CHECKSUMS, COMPLETENESS, INDEX, LATEST, MAPS, MARGIN, SAMPLE
from pipeline.catalogue.margins import MARGIN as MARGIN_ARCSEC
from pipeline.catalogue.properties import properties_bytes
from pipeline.catalogue.snapshots import (
    Snapshot,
    drop_old,
    free_number,
    newest_snapshot,
    snapshot_folder,
    write_collection,
)
from pipeline.catalogue.tables import Tables, friendly_columns, shape
from pipeline.errors import CatalogueError
from pipeline.storage import Storage


def finalise(
    storage: Storage, *, name: str, publication: Publication | None = None, max_rows: int | None = None
) -> Snapshot:
    """Publish a snapshot of every committed unit; the existing one where nothing is new since.

    Files hold at most `max_rows`, or 300 MB. Raises CatalogueError where nothing is committed, a file is not what was
    committed, an object_id is there twice, or two runs had different checkpoints of one network. Then, as after a
    crash, nothing is published and the next snapshot takes the next number. Older snapshots than the newest
    `publication.keep` are removed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise CatalogueError(f"{name!r} cannot name a catalogue: letters, digits, dot, dash and underscore can")
    committed = list(latest_manifests(storage).values())
    if not committed:
        raise CatalogueError(f"{storage.shown}: nothing is committed, so there is nothing to publish")
    _check_checkpoints(committed)
    title = _Title(name, publication or Publication(), max_rows)
    newest = newest_snapshot(storage)
    if newest is None or (newest.commits, newest.options) != (commits_digest(committed), title.digest):
        newest = _Publishing(storage, committed, title, newest).publish()
    storage.point(LATEST, newest.folder)
    if title.publication.keep is not None:
        drop_old(storage, title.publication.keep)
    return newest


@dataclass(frozen=True)
class _Title:
    name: str
    publication: Publication
    max_rows: int | None

    @property
    def digest(self) -> str:
        facts = [self.name, self.publication.model_dump(mode="json", exclude={"keep"}), self.max_rows]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class _Publishing:
    """One snapshot on its way."""

    def __init__(self, storage: Storage, committed: Sequence[Manifest], title: _Title, before: Snapshot | None) -> None:
        self._storage, self._committed, self._title, self._before = storage, committed, title, before
        self._number = free_number(storage)
        self._folder = snapshot_folder(self._number)
        self._created = datetime.now(UTC)
        self._checksums: dict[str, str] = {}  # name of a file below the storage -> sha256

    def publish(self) -> Snapshot:
        largest = unit_rows(self._storage, max(self._committed, key=lambda unit: unit.rows))
        wanted = shape(self._committed, largest, self._title.max_rows)
        with self._storage.scratch() as scratch, IdentifierCheck() as identifiers:
            tables = Tables(self._storage, self._folder, self._title.name, scratch, wanted)
            tables.fill(CommittedRows(self._storage, self._committed, largest.schema), identifiers)
            if repeated := identifiers.repeated():
                raise CatalogueError(f"object_ids are there more than once, among them {repeated}")
            release = self._release(tables)
            about = self._about(release)
            self._describe(tables, about)
            margin = DatasetWriter(
                self._storage, scratch, f"{self._folder}/{MARGIN}", f"{self._title.name}_{MARGIN}", wanted.catalogue
            )
            tables.margins.write(margin)
            threshold = {"dataproduct_type": "margin", "hats_margin_threshold": MARGIN_ARCSEC}
            margin.finish({**about, **threshold, "hats_primary_table_url": self._title.name})
            index = IndexWriter(self._storage, scratch, f"{self._folder}/{INDEX}", f"{self._title.name}_{INDEX}")
            index.write(identifiers.ordered(), {**about, "hats_primary_table_url": self._title.name})
        self._checksums |= margin.checksums | index.checksums
        self._summarise(tables, release)
        return self._seal(tables, about)

    def _describe(self, tables: Tables, about: Mapping[str, object]) -> None:
        """What says what the datasets are."""
        networks = tuple(self._committed[0].checkpoints)
        shown = friendly_columns(tables.shape.catalogue, networks)
        default = {"hats_cols_default": " ".join(name for name in shown if name != "_healpix_29")}
        for writer in tables.datasets:
            writer.finish({**about, **default} if writer is tables.catalogue else about)
            self._checksums |= writer.checksums
        if tables.maps is not None:
            self._create(f"{MAPS}.properties", _extension(self._title.name, tables.maps.schema))

    def _summarise(self, tables: Tables, release: Release) -> None:
        """The sample, the completeness maps, and what a reader reads first."""
        self._create(SAMPLE, votable_bytes(tables.sample.rows(), f"{self._title.name}_sample"))
        self._create(COMPLETENESS, votable_bytes(tables.completeness.table(), f"{self._title.name}_completeness"))
        changelog = ""
        if self._before is not None and self._storage.exists(f"{self._before.folder}/{CHANGELOG}"):
            changelog = self._storage.read(f"{self._before.folder}/{CHANGELOG}").decode()
        for name, data in documents(release, changelog).items():
            self._create(name, data)

    def _seal(self, tables: Tables, about: Mapping[str, object]) -> Snapshot:
        """Publish: the checksums, then collection.properties."""
        prefix = f"{self._folder}/"
        lines = "".join(f"{sha}  {name.removeprefix(prefix)}\n" for name, sha in sorted(self._checksums.items()))
        publish_file(self._storage, f"{prefix}{CHECKSUMS}", lines.encode())
        snapshot = Snapshot(
            number=self._number,
            path=f"{self._storage.shown.rstrip('/')}/{self._folder}",
            name=self._title.name,
            rows=sum(unit.rows for unit in self._committed),
            files=len(tables.catalogue.partitions),
            statuses=_statuses(self._committed),
            untrained=_untrained(self._committed),
            commits=commits_digest(self._committed),
            options=self._title.digest,
            checksums=hashlib.sha256(lines.encode()).hexdigest(),
        )
        parts: dict[str, object] = {"all_margins": MARGIN, "default_margin": MARGIN}
        parts |= {"all_indexes": f"object_id {INDEX}", "default_index": "object_id"}
        if tables.maps is not None:
            parts["all_extensions"] = f"{MAPS} {MAPS}.properties"
        write_collection(self._storage, snapshot, {**about, **parts})
        return snapshot

    def _release(self, tables: Tables) -> Release:
        return Release(
            name=self._title.name,
            number=self._number,
            created=self._created,
            publication=self._title.publication,
            rows=sum(unit.rows for unit in self._committed),
            size=sum(writer.size for writer in tables.datasets),
            statuses=_statuses(self._committed),
            before=None if self._before is None else self._before.statuses,
            runs=tuple(sorted({unit.run_id for unit in self._committed})),
            checkpoints={prefix: c.sha256 for unit in self._committed for prefix, c in unit.checkpoints.items()},
            untrained=_untrained(self._committed),
            schema=tables.shape.catalogue,
            builder=f"galaxy-pipeline {version('galaxy-pipeline')}",
        )

    def _about(self, release: Release) -> dict[str, object]:
        """The properties that the collection and its catalogues share."""
        return {
            "obs_title": release.title,
            "obs_description": release.description,
            "hats_builder": release.builder,
            "hats_creation_date": self._created.strftime("%Y-%m-%dT%H:%M%Z"),
            "pipeline_runs": " ".join(release.runs),
            "pipeline_checkpoints": " ".join(f"{prefix}:{sha}" for prefix, sha in sorted(release.checkpoints.items())),
            "pipeline_untrained": " ".join(release.untrained),
        }

    def _create(self, name: str, data: bytes) -> None:
        path = f"{self._folder}/{name}"
        self._checksums[path] = publish_file(self._storage, path, data)


def _check_checkpoints(committed: Sequence[Manifest]) -> None:
    found: dict[str, dict[str, set[str]]] = {}
    for unit in committed:
        for prefix, checkpoint in unit.checkpoints.items():
            found.setdefault(prefix, {}).setdefault(checkpoint.sha256, set()).add(unit.run_id)
    for prefix, runs in found.items():
        if len(runs) > 1:
            listed = "; ".join(f"{sha[:16]} in {', '.join(sorted(names))}" for sha, names in sorted(runs.items()))
            raise CatalogueError(f"network {prefix} had several checkpoints: {listed}. Run one of them again")


def _extension(collection: str, maps: pa.Schema) -> bytes:
    """The attention maps as an extension of the catalogue (hats 0.11, ExtensionProperties)."""
    columns = [field.name for field in maps if is_map(field)]
    values: Mapping[str, object] = {
        "obs_collection": MAPS,
        "dataproduct_type": "extension",
        "hats_primary_table_url": collection,
        "hats_col_assn_primary": "object_id",
        "hats_assn_join_table_url": MAPS,
        "hats_col_assn_join": "object_id",
        "hats_ext_cols": " ".join(columns),
        "hats_ext_join_style": "left",
        "hats_ext_shares_primary_coords": "true",
    }
    return properties_bytes("HATS Extension", values)


def _statuses(committed: Sequence[Manifest]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for unit in committed:
        total.update(unit.statuses)
    return dict(sorted(total.items()))


def _untrained(committed: Sequence[Manifest]) -> tuple[str, ...]:
    return tuple(sorted({prefix for unit in committed for prefix, c in unit.checkpoints.items() if c.untrained}))
