"""The readings of a run, for Ray's Prometheus endpoint."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from pipeline.metrics import METRICS, Metric, Readings


class Exporter:
    """One of Ray's metrics for each of ours, with the name of the job as a label more."""

    def __init__(self, job: str) -> None:
        self._meters = {metric: _meter(metric, job) for metric in METRICS}
        self._counted: dict[tuple[Metric, tuple[str, ...]], float] = {}

    def __call__(self, readings: Readings) -> None:
        for metric, labels, value in readings:
            meter, tags = self._meters[metric], dict(zip(metric.labels, labels, strict=True))
            if isinstance(meter, Gauge):
                meter.set(value, tags=tags)
                continue
            more = value - self._counted.get((metric, labels), 0.0)
            if more > 0:
                meter.inc(more, tags=tags)
                self._counted[metric, labels] = value


def _meter(metric: Metric, job: str) -> Counter | Gauge:
    kind = Counter if metric.kind == "counter" else Gauge
    meter: Counter | Gauge = kind(metric.name, metric.meaning, tag_keys=(*metric.labels, "job"))
    meter.set_default_tags({"job": job})
    return meter
