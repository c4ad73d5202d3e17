"""The line to an archive, how long requests over it take, and the section `ways:` of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipeline.archives.policy import HostPolicy
from pipeline.data import Way


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


class WaysSection(BaseModel):
    """By which way pixels come: whole files, byte ranges, or the survey's cutout service.

    The plan takes for each tile the way that is fastest. The numbers of the link only choose between ways, but a
    cutout service resamples its pixels, so whether it may be used counts as part of what is computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: tuple[Way, ...] = Field(default=("file", "ranges", "cutout"), min_length=1)  # one alone is forced
    latency: Annotated[float, Field(ge=0)] = 0.08  # s of a request. Assumed: across an ocean (archives.md 3.3)
    bandwidth: Annotated[float, Field(gt=0)] = 10e6  # bytes / s of one connection, assumed (same)
    cores: Annotated[int, Field(gt=0)] = 16  # that load at the same time, where engine.loads does not say

    def link(self, policy: HostPolicy) -> Link:
        """The line to a host that is treated so."""
        return Link(self.latency, self.bandwidth, policy.in_flight, policy.rate)
