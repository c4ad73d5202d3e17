"""Whose an output is: run.json says which job, of which version, with which checkpoints, made it.

A run that one version has begun goes on under the next where both understand the same by its job; else it is refused,
with the versions and what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.catalogue.commits import UNITS
from pipeline.errors import CatalogueError, JobError
from pipeline.job import UNDECISIVE, Job
from pipeline.planner.plan import open_plan
from pipeline.storage import Storage
from pipeline.versions import unreadable

RUN = "run.json"


class Claim(BaseModel):
    """What run.json holds; those of the first version have neither `version` nor `checkpoints`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str  # of what decides the results
    job: Mapping[str, Any]
    version: str = ""  # of this package
    checkpoints: Mapping[str, str] = {}  # network prefix -> sha256


def claim(storage: Storage, job: Job, checkpoints: Mapping[str, str]) -> str:
    """Write run.json; the digest of the run. Raises JobError where the output is another job's, naming what differs.

    A job that never got a plan (its sources were wrong, say) has computed nothing: its claim gives way.
    """
    mine = Claim(
        digest=job.digest(checkpoints),
        job=job.public(),
        version=version("galaxy-pipeline"),
        checkpoints=dict(checkpoints),
    )
    text = (mine.model_dump_json(indent=2) + "\n").encode()
    if storage.create(RUN, text):
        return mine.digest
    stored = read_claim(storage)
    if stored.digest == mine.digest:
        return stored.digest
    if open_plan(storage) is None and not storage.list(UNITS):
        storage.replace(RUN, text)
        return mine.digest
    if _understood(stored) == mine.digest:
        return stored.digest
    raise JobError(_refusal(storage.shown, stored, mine))


def read_claim(storage: Storage) -> Claim:
    """Raises FileNotFoundError, and CatalogueError where run.json is damaged or of a version that cannot be read."""
    data = storage.read(RUN)
    try:
        return Claim.model_validate_json(data)
    except ValidationError as error:
        raise CatalogueError(unreadable(f"{storage.shown}/{RUN}", error)) from None


def _understood(stored: Claim) -> str | None:
    """The digest of the stored job in the words of this version, None where it has not all of them."""
    try:
        return Job.model_validate(stored.job).digest(stored.checkpoints)
    except ValidationError:
        return None


def _refusal(where: str, stored: Claim, mine: Claim) -> str:
    differences = list(_differences(dict(stored.job), dict(mine.job)))
    what = "; ".join(differences[:5]) or "its checkpoints have changed"
    began = f", begun by version {stored.version or '0.1.0 or before'}" if stored.version != mine.version else ""
    hint = " (or go on with that version)" if began else ""
    return f"{where} holds the output of another job{began} ({what}): use another --output{hint}"


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if path or key not in UNDECISIVE:
                yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif before != now:
        yield f"{path} was {before!r}, is {now!r}"
