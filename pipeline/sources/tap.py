"""Positions from a TAP service: one asynchronous query, whose answer goes to disk and is read in pieces.

TAP 1.1 and UWS 1.1 by pyvo, in a session under the limiter; the answer, which can be large, by our own client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.archives.access import Access
from pipeline.archives.session import polite_session
from pipeline.errors import ArchiveError, ArchiveUnreachable, BadImage, JobError
from pipeline.sources.batches import TapQuery
from pipeline.sources.tables import OpenTable, votable
from pipeline.storage import without_credentials

if TYPE_CHECKING:
    from requests import Session

FIRST_LOOK, LONGEST_LOOK = 1.0, 60.0  # s between two looks at a query: from, up to


def tap_table(query: TapQuery, access: Access, folder: Path) -> OpenTable:
    """The answer as a table. Raises as `fetch_answer`, and JobError for an answer that the service cut off."""
    return votable(without_credentials(query.url), fetch_answer(query, access, folder), whole=True)


def fetch_answer(query: TapQuery, access: Access, folder: Path, sleep: Callable[[float], None] = time.sleep) -> Path:
    """The answer as a VOTable file in `folder`. The job on the server is deleted, however it ends.

    Raises JobError where the service refuses the query, saying what it says, ArchiveUnreachable where it does not
    answer or takes too long.
    """
    from pyvo.dal import DALQueryError, DALServiceError

    shown, target = without_credentials(query.url), folder / "tap.vot"
    try:
        with polite_session(access.client) as session, _run(query, session, sleep) as address:
            access.client.download(address, target)
    except DALQueryError as error:
        raise JobError(f"{shown} refuses the query: {_said(error)}") from None
    except (DALServiceError, ArchiveError, BadImage, FileNotFoundError) as error:
        raise ArchiveUnreachable(f"cannot ask {shown}: {_said(error)}") from None
    return target


@contextmanager
def _run(query: TapQuery, session: Session, sleep: Callable[[float], None]) -> Iterator[str]:
    """The URL of the answer, as long as the `with` block lasts; then the job is deleted."""
    from pyvo.dal import AsyncTAPJob

    job = AsyncTAPJob.create(query.url, query.query, maxrec=query.maxrec, session=session, FORMAT="votable")
    try:
        job.run()
        waited, pause = 0.0, FIRST_LOOK
        while job.phase not in ("COMPLETED", "ABORTED", "ERROR"):
            if waited > query.patience:
                raise ArchiveError(f"the query is not done after {waited:.0f} s (sources.tap.patience)")
            sleep(pause)
            waited, pause = waited + pause, min(LONGEST_LOOK, 1.5 * pause)
        job.raise_if_error()
        yield str(job.result_uri)
    finally:
        job.delete()


def _said(error: Exception) -> str:
    return without_credentials(" ".join(str(getattr(error, "reason", None) or error).split())[:300])
