"""Leases in use: renewed while a request goes on, given back with how it went."""

from __future__ import annotations

import time

import pytest

from pipeline.archives.answers import Fault
from pipeline.archives.leave import Leaves
from pipeline.archives.limiter import Lease, Outcome


class Counting:
    """A gate that lets everyone through and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.received: list[int] = []

    def ask(self, host: str, holder: str) -> Lease:
        self.heard.append("ask")
        return Lease(1)

    def renew(self, host: str, lease: Lease) -> None:
        self.heard.append("renew")

    def done(
        self, host: str, lease: Lease, outcome: Outcome, retry_after: float | None = None, received: int = 0
    ) -> None:
        self.heard.append(outcome.name)
        self.received.append(received)


def test_a_lease_is_renewed_while_its_request_goes_on_and_given_back_with_how_it_went() -> None:
    gate = Counting()
    leaves = Leaves(gate, beat=0.01)
    with leaves.leave("host", lambda: 1.0) as use:
        use.bytes = 7
        while gate.heard.count("renew") < 3:
            time.sleep(0.01)
    with pytest.raises(Fault), leaves.leave("host", lambda: 1.0):
        raise Fault("HTTP 503", Outcome.BUSY)
    with pytest.raises(ZeroDivisionError), leaves.leave("host", lambda: 1.0):
        raise ZeroDivisionError
    leaves.close()
    told = [word for word in gate.heard if word != "renew"]
    assert told == ["ask", "GOOD", "ask", "BUSY", "ask", "UNKNOWN"]
    assert gate.received == [7, 0, 0]
