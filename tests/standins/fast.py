"""Archives without politeness, for stand-ins on loopback that nobody has to be polite to."""

from __future__ import annotations

from typing import Any

from pipeline.archives.access import Access
from pipeline.archives.policy import ArchivesSection, HostPolicy, RetryPolicy, host_of

PATIENT = HostPolicy(in_flight=8, rate=10_000, burst=1000, timeout=0.5, pause=0.02, longest_pause=0.1, recovery=1)
FAST = ArchivesSection(default=PATIENT, retry=RetryPolicy(first=0.001, longest=0.01, deadline=20))


FAST_JOB = (
    f"archives.default={PATIENT.model_dump_json()}",
    'archives.retry={"attempts": 3, "first": 0.001, "longest": 0.01, "deadline": 1}',
)
"""The same for a job (`--set`), which gives up soon: for archives that stay broken."""


def fast_access(*urls: str, **changes: Any) -> Access:
    """Access to the hosts of the URLs; `changes` replace fields of the section."""
    return Access(FAST.model_copy(update=changes), [host_of(url) for url in urls])
