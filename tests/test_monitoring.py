"""The dashboard and the alerts ask for exactly what runs export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest

from pipeline.executors.ray.cluster import LocalRay, ray_session
from pipeline.executors.ray.exporter import Exporter
from pipeline.metrics import METRICS, Readings
from tests.deploy_checks import ROOT
from tests.deploy_monitoring import check_alerts, check_dashboard, check_prometheus

FOLDER = ROOT / "deploy" / "monitoring"
CHECKS: dict[str, Callable[[str], Any]] = {
    "prometheus.yaml": check_prometheus,
    "alerts.yaml": check_alerts,
    "grafana.json": check_dashboard,
}
MISTAKES = {
    "prometheus.yaml": [
        ("file_sd_configs", "file_sd_config"),
        ("refresh_interval: 30s", "refresh_interval: half a minute"),
        ("action: keep", "action: keeps"),
        ("role: pod", "role: pods"),
        ("regex: (.+)", "regex: (.+"),
    ],
    "alerts.yaml": [
        ("ray_galaxy_sources_left", "ray_galaxy_source_left"),
        ("sum by (job, host)", "sum by (job, hosts)"),
        ("severity: page", "severity: red"),
        ("ray_galaxy_limiter_pause_seconds > 300", "ray_galaxy_limiter_pause_seconds"),
        ("for: 5m", "for: 5 minutes"),
        ("increase(ray_galaxy_quarantined_units_total[1h])", "ray_galaxy_quarantined_units_total"),
        ("alert: GalaxyUnitsLate", "alert: GalaxyActorsRestart"),
    ],
    "grafana.json": [
        ("ray_galaxy_queue_bytes", "galaxy_queue_bytes"),
        ("(rate(ray_galaxy_bytes_total", "(rate(ray_galaxy_queue_bytes"),
        ('"gridPos"', '"gridpos"'),
        ("by (stage)", "by (stages)"),
        ('"x": 8,\n        "y": 0', '"x": 0,\n        "y": 0'),
    ],
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_monitoring_file_is_what_its_reader_expects(name: str) -> None:
    CHECKS[name]((FOLDER / name).read_text())


@pytest.mark.parametrize(("name", "right", "wrong"), [(name, *two) for name in MISTAKES for two in MISTAKES[name]])
def test_a_planted_mistake_in_a_monitoring_file_is_caught(name: str, right: str, wrong: str) -> None:
    text = (FOLDER / name).read_text()
    assert right in text
    with pytest.raises(ValueError):
        CHECKS[name](text.replace(right, wrong, 1))


def test_the_dashboard_shows_every_metric_of_a_run_and_no_other() -> None:
    exported = {metric.exported for metric in METRICS}
    assert check_dashboard((FOLDER / "grafana.json").read_text()) == exported
    assert check_alerts((FOLDER / "alerts.yaml").read_text()) <= exported


def test_prometheus_sees_every_metric_under_its_name_and_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "200")  # 10 s of waiting else (ray_config_def.h)
    readings = Readings()
    for number, metric in enumerate(METRICS, 1):
        readings.add(metric, number, *metric.labels)  # each label's value is its name
    with ray_session(None, LocalRay(cpus=1, store_bytes=80_000_000)):
        from ray import nodes

        Exporter("a-job")(readings)
        (node,) = nodes()  # type: ignore[no-untyped-call]
        text = _scraped(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics")
    for number, metric in enumerate(METRICS, 1):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{metric.exported}{{")]
        assert line.endswith(f" {number}.0")
        tags = [("job", "a-job"), *zip(metric.labels, metric.labels, strict=True)]
        assert all(f'{label}="{value}"' in line for label, value in tags)


def _scraped(url: str) -> str:
    """What the node's exporter says, once the readings have come to it."""
    import time

    for _ in range(120):
        with urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
        if all(f"{metric.exported}{{" in text for metric in METRICS):
            return text
        time.sleep(0.5)
    raise TimeoutError(f"{url} never gave all metrics")
