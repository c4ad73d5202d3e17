"""So many spoilt files of one kind, drawn by hypothesis, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.child import Child
from tests.fuzz.mutations import Change, changes, spoilt


@dataclass(frozen=True)
class Finding:
    """The shortest file that shows it, and what was said."""

    data: bytes
    words: str


@dataclass
class Campaign:
    """What came of one kind."""

    name: str
    examples: int = 0
    refused: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)  # by error and place
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def line(self) -> str:
        read = self.examples - self.refused - self.counts.total()
        return (
            f"{self.name:20} {self.examples:6} examples: {read} read, {self.refused} refused, {self.counts.total()} bad"
        )


def fuzz(child: Child, name: str, examples: int, seed: int) -> Campaign:
    """Have `examples` spoilt files of the kind read; a finding does not end it."""
    specimen = child.specimens[name]
    campaign = Campaign(name)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(changes())
    def read(made: list[Change]) -> None:
        data = spoilt(specimen.data, made, specimen.tokens, specimen.hot)
        outcome = child.read(name, data)
        campaign.examples += 1
        campaign.refused += outcome.refused
        if outcome.finding:
            place, _, words = outcome.finding.partition(": ")
            campaign.counts[place] += 1
            known = campaign.findings.get(place)
            if known is None or len(data) < len(known.data):
                campaign.findings[place] = Finding(data, words)

    read()
    return campaign
