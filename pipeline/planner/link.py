"""The line to an archive, and how long requests over it take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """The way to an archive. What it allows is the job's policy for the host; the rest is assumed."""

    latency: float = 0.08  # s of a request
    bandwidth: float = 10e6  # bytes / s of one connection
    in_flight: int = 4  # requests at once
    rate: float = 5.0  # requests / s

    def seconds(self, requests: float, size: float) -> float:
        """How long so many requests for so many bytes take, all connections kept busy."""
        return max(requests / self.rate, (requests * self.latency + size / self.bandwidth) / self.in_flight)

    @property
    def gap(self) -> int:
        """Bytes that cost as much time as a request."""
        return int(self.bandwidth * max(self.latency, self.in_flight / self.rate))
