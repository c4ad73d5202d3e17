"""What is wrong with a published snapshot: its files, its tables, its identifiers; and whether commits came since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from pipeline.catalogue.commits import Manifest, commits_digest
from pipeline.catalogue.identifiers import IdentifierCheck
from pipeline.catalogue.index import index_parts
from pipeline.catalogue.layout import CHECKSUMS, COLLECTION, FRIENDLY, INDEX, LATEST, MAPS, MARGIN, PRIMARY
from pipeline.catalogue.published import PIXEL, Published
from pipeline.catalogue.snapshots import Snapshot
from pipeline.catalogue.soundness import layout_problems, schema_problems
from pipeline.storage import Storage

_READERS = 8  # files read at once


def snapshot_problems(
    storage: Storage, snapshot: Snapshot, latest: Sequence[Manifest], committed: IdentifierCheck
) -> list[str]:
    """Sentences on a snapshot; `committed` are the identifiers and pixels of the units' latest attempts."""
    problems = list(_checksum_problems(storage, snapshot))
    behind = snapshot.commits != commits_digest(latest)
    if behind:
        problems.append(f"{snapshot.folder} was published before the latest commits: publish again")
    if (target := storage.pointed(LATEST)) != snapshot.folder:
        problems.append(f"{LATEST} leads to {target}, not to {snapshot.folder}")
    networks = tuple(dict.fromkeys(prefix for unit in latest for prefix in unit.checkpoints))
    try:
        for problem in _table_problems(storage, snapshot, networks, None if behind else committed):
            problems.append(problem)
    except (ValueError, KeyError, OSError, pa.ArrowException) as error:
        problems.append(f"{snapshot.folder} cannot be read: {error}")
    return problems


def _table_problems(
    storage: Storage, snapshot: Snapshot, networks: Sequence[str], committed: IdentifierCheck | None
) -> Iterator[str]:
    main = Published(storage, f"{snapshot.folder}/{PRIMARY}")
    yield from (f"{main.folder}: {problem}" for problem in schema_problems(main.schema))
    yield from layout_problems(main, networks)
    if (rows := int(main.properties["hats_nrows"])) != snapshot.rows:
        yield f"{main.folder} says {rows} rows, but {snapshot.folder} says {snapshot.rows}"
    names = set(storage.list(snapshot.folder))
    for table in (FRIENDLY, MAPS):
        beside = Published(storage, f"{snapshot.folder}/{table}")
        if f"{beside.folder}/hats.properties" in names:
            yield from layout_problems(beside, ())
            if int(beside.properties["hats_nrows"]) != snapshot.rows:
                yield f"{beside.folder} says {beside.properties['hats_nrows']} rows, the catalogue {snapshot.rows}"
    yield from layout_problems(Published(storage, f"{snapshot.folder}/{MARGIN}"), (), home=False)
    with IdentifierCheck() as published, IdentifierCheck() as indexed:
        for index in range(len(main.partitions)):
            part = main.read(index, range(len(main.footer(index).rows)), ["object_id", PIXEL])
            published.add(part["object_id"], _healpix_29=part[PIXEL])
        yield from (f"{main.folder}: object_id {each!r} is there more than once" for each in published.repeated())
        if committed is not None:
            yield from _told(main.folder, "the commits", committed.differences(published))
        found = Published(storage, f"{snapshot.folder}/{INDEX}")
        for part in index_parts(found):
            indexed.add(part["object_id"], _healpix_29=part[PIXEL])
        yield from _told(found.folder, "the catalogue", published.differences(indexed))


def _told(folder: str, source: str, differences: tuple[Iterable[object], Iterable[object]]) -> Iterator[str]:
    missing, extra = (list(part) for part in differences)
    if missing:
        yield f"{folder}: rows of {source} are missing or elsewhere, object_id {missing}"
    if extra:
        yield f"{folder}: rows that {source} has not, or has elsewhere, object_id {extra}"


def _checksum_problems(storage: Storage, snapshot: Snapshot) -> Iterator[str]:
    here = set(storage.list(snapshot.folder)) - {f"{snapshot.folder}/{name}" for name in (COLLECTION, CHECKSUMS)}
    try:
        lines = storage.read(f"{snapshot.folder}/{CHECKSUMS}")
    except FileNotFoundError:
        yield f"{snapshot.folder}/{CHECKSUMS} is not there"
        return
    if hashlib.sha256(lines).hexdigest() != snapshot.checksums:
        yield f"{snapshot.folder}/{CHECKSUMS} is not the one that was published"
        return
    listed = {f"{snapshot.folder}/{name}": sha for sha, name in map(str.split, lines.decode().splitlines())}
    yield from (f"{name} is no part of the snapshot" for name in sorted(here - set(listed)))
    with ThreadPoolExecutor(_READERS) as pool:
        there = [name for name in listed if name in here]
        found = dict(zip(there, pool.map(lambda name: _digest(storage, name), there), strict=True))
    for name, sha in listed.items():
        if name not in here:
            yield f"{name} is not there"
        elif found[name] != sha:
            yield f"{name}: expected sha256 {sha[:16]}, got {found[name][:16]}"


def _digest(storage: Storage, name: str) -> str:
    """The sha256 of a file, read in parts."""
    digest = hashlib.sha256()
    with storage.open(name) as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()
