"""What a run tells of itself in numbers, each named here once.

Ray's exporter, the dashboard, the alerts (deploy/monitoring) and `pipeline status` all use these names. Labels are few:
statuses, stages, and the hosts that the job allows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PREFIX = "ray_"  # put before every name by Ray's exporter (docs.ray.io, "Adding application-level metrics")
MOST_HOSTS = 20  # that have labels of their own: a table of URLs may name many
OTHER_HOSTS = "other"


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity: a counter only grows, a gauge is what it is now."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        return PREFIX + self.name


SOURCES = Metric("galaxy_sources_total", "counter", "Sources committed by this run", ("status",))
SOURCES_LEFT = Metric("galaxy_sources_left", "gauge", "Sources of the plan without a commit")
IMAGES_PER_SECOND = Metric("galaxy_images_per_second", "gauge", "Images through the networks, over the last minute")
REQUESTS = Metric("galaxy_requests_total", "counter", "Requests to archives, by how they ended", ("host", "outcome"))
BYTES = Metric("galaxy_bytes_total", "counter", "Bytes from archives", ("host",))
IN_FLIGHT = Metric("galaxy_requests_in_flight", "gauge", "Requests to an archive under way", ("host",))
LIMITER_SHARE = Metric("galaxy_limiter_share", "gauge", "Share of its allowed rate that a host bears now", ("host",))
LIMITER_PAUSE = Metric("galaxy_limiter_pause_seconds", "gauge", "How long a host is still left alone", ("host",))
QUEUE_BYTES = Metric("galaxy_queue_bytes", "gauge", "Images that wait for an actor or are predicted")
STARVED = Metric("galaxy_starved_seconds_total", "counter", "Places of a stage without anything to do", ("stage",))
BLOCKED = Metric("galaxy_blocked_seconds_total", "counter", "Places of a stage held back by what is next", ("stage",))
ACTOR_RESTARTS = Metric("galaxy_actor_restarts_total", "counter", "Actors that died and were started again")
QUARANTINED = Metric("galaxy_quarantined_units_total", "counter", "Units given up, what is left of them in a retry too")
DEADLINES = Metric("galaxy_unit_deadlines_total", "counter", "Units that took longer than their deadline")
COMMIT_AGE = Metric("galaxy_last_commit_age_seconds", "gauge", "Since the last commit, or since the run began")

METRICS = (
    SOURCES,
    SOURCES_LEFT,
    IMAGES_PER_SECOND,
    REQUESTS,
    BYTES,
    IN_FLIGHT,
    LIMITER_SHARE,
    LIMITER_PAUSE,
    QUEUE_BYTES,
    STARVED,
    BLOCKED,
    ACTOR_RESTARTS,
    QUARANTINED,
    DEADLINES,
    COMMIT_AGE,
)


Reading = tuple[Metric, tuple[str, ...], float]  # metric, the values of its labels, value


class Readings:
    """The latest value of every metric, by its labels. Thread-safe."""

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self._lock = threading.Lock()

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count on. Raises ValueError where the labels are not the metric's."""
        key = _key(metric, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """What it is now; of a counter, what was counted elsewhere. Raises ValueError as `add`."""
        key = _key(metric, labels)
        with self._lock:
            self._values[key] = value

    def value(self, metric: Metric, *labels: str) -> float:
        return self._values.get(_key(metric, labels), 0.0)

    def __iter__(self) -> Iterator[Reading]:
        with self._lock:
            found = dict(self._values)
        return ((metric, labels, value) for (metric, labels), value in found.items())

    def as_list(self) -> list[dict[str, object]]:
        """For JSON: one object a value, with its labels by name."""
        return [
            {"metric": metric.name, **dict(zip(metric.labels, labels, strict=True)), "value": round(value, 3)}
            for metric, labels, value in self
        ]


def _key(metric: Metric, labels: tuple[str, ...]) -> tuple[Metric, tuple[str, ...]]:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name}: expected a value for each of {metric.labels}, got {labels}")
    return metric, labels
