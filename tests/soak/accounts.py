"""What a catalogue has lost, doubled or changed, against the one of an undisturbed run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.executors.state import check
from pipeline.storage import Storage
from tests.runs import assert_equal_catalogues, committed_rows


@dataclass(frozen=True)
class Account:
    """One catalogue, compared."""

    sources: int
    lost: int
    doubled: int
    problems: tuple[str, ...]  # rows that differ, and what `pipeline verify` finds

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.problems)


def account(output: Path, undisturbed: Path) -> Account:
    got, want = committed_rows(output), committed_rows(undisturbed)
    ours, theirs = Counter(got["object_id"].to_pylist()), Counter(want["object_id"].to_pylist())
    lost, doubled = (theirs - ours).total(), (ours - theirs).total()
    problems = list(check(Storage(str(output))).problems)
    if not (lost or doubled):
        try:
            assert_equal_catalogues(got, want)
        except AssertionError as error:
            problems.append(" ".join(str(error).split())[:500])
    return Account(theirs.total(), lost, doubled, tuple(problems))
