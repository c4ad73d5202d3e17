"""Publishing what is committed, one publisher at a time."""

from __future__ import annotations

import time
import uuid

from pipeline.catalogue.documents import Publication
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.snapshots import Snapshot
from pipeline.executors.lock import PUBLISHING, OutputLock
from pipeline.storage import Storage


def publish_snapshot(
    storage: Storage, name: str, run_id: str | None = None, publication: Publication | None = None
) -> Snapshot:
    """Publish what is committed, also while a run goes on. Raises CatalogueError, and OutputLocked for a second one."""
    with OutputLock(storage, run_id or new_run_id(), PUBLISHING):
        return finalise(storage, name=name, publication=publication)


def new_run_id() -> str:
    """When it began, UTC, and something that no other run has."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + uuid.uuid4().hex[:6]
