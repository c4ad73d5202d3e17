"""Checks of the Prometheus and Grafana files: their shape, and that they ask for the metrics that runs give, no others.

After the configuration reference of Prometheus (scrape_config, relabel_config, alerting rules) and the dashboard model
of Grafana, as far as deploy/ uses them.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pipeline.metrics import METRICS, PREFIX
from tests.deploy_checks import require

Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h|d)$")]
FUNCTIONS = {"sum", "max", "min", "rate", "increase", "by", "and", "label_values"}
OWN_LABELS = {"job"}  # besides those of the metric: exporter.py


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileDiscovery(_Strict):
    files: Annotated[list[str], Field(min_length=1)]
    refresh_interval: Duration


class PodDiscovery(_Strict):
    role: Literal["pod"]


class Relabel(_Strict):
    source_labels: Annotated[list[Annotated[str, Field(pattern="^__meta_kubernetes_pod_")]], Field(min_length=1)]
    regex: str = "(.*)"
    action: Literal["keep", "replace"] = "replace"
    target_label: str | None = None
    replacement: str = "$1"


class Scrape(_Strict):
    job_name: str
    file_sd_configs: list[FileDiscovery] = []
    kubernetes_sd_configs: list[PodDiscovery] = []
    relabel_configs: list[Relabel] = []


class Prometheus(_Strict):
    scrape_configs: Annotated[list[Scrape], Field(min_length=1)]
    rule_files: list[Literal["alerts.yaml"]]


class Annotations(_Strict):
    summary: str
    action: str


class AlertRule(_Strict):
    alert: Annotated[str, Field(pattern=r"^Galaxy[A-Za-z]+$")]
    expr: str
    since: Annotated[Duration | None, Field(alias="for")] = None
    labels: dict[Literal["severity"], Literal["page", "warn", "info"]]
    annotations: Annotations


class RuleGroup(_Strict):
    name: str
    rules: Annotated[list[AlertRule], Field(min_length=1)]


class Alerts(_Strict):
    groups: Annotated[list[RuleGroup], Field(min_length=1)]


class Target(_Strict):
    ref: Annotated[str, Field(alias="refId", pattern="^[A-Z]$")]
    expr: str
    legend: Annotated[str, Field(alias="legendFormat")]


class Place(_Strict):
    x: Annotated[int, Field(ge=0, le=23)]
    y: Annotated[int, Field(ge=0)]
    w: Annotated[int, Field(ge=1, le=24)]
    h: Annotated[int, Field(ge=1)]


class Panel(_Strict):
    id: int
    type: Literal["timeseries"]
    title: str
    description: str
    datasource: dict[str, str]
    place: Annotated[Place, Field(alias="gridPos")]
    config: Annotated[dict[str, Any], Field(alias="fieldConfig")]
    targets: Annotated[list[Target], Field(min_length=1)]


class Dashboard(_Strict):
    title: str
    uid: str
    schema_version: Annotated[int, Field(alias="schemaVersion")]
    editable: bool
    refresh: Duration
    time: dict[Literal["from", "to"], str]
    templating: dict[Literal["list"], list[dict[str, Any]]]
    panels: Annotated[list[Panel], Field(min_length=1)]


def check_prometheus(text: str) -> None:
    found = Prometheus.model_validate(yaml.safe_load(text))
    for scrape in found.scrape_configs:
        discovered = bool(scrape.file_sd_configs) + bool(scrape.kubernetes_sd_configs)
        require(discovered == 1, f"{scrape.job_name} has {discovered} ways to find its targets")
        for relabel in scrape.relabel_configs:
            check_regex(relabel.regex)
            require((relabel.action == "keep") == (relabel.target_label is None), f"{relabel}: keep, or set a label")


def check_regex(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text}: {error}") from error


def check_alerts(text: str) -> set[str]:
    """The metrics that the alerts name. Raises ValueError."""
    rules = [rule for group in Alerts.model_validate(yaml.safe_load(text)).groups for rule in group.rules]
    require(len({rule.alert for rule in rules}) == len(rules), "two alerts of one name")
    for rule in rules:
        require(re.search(r"[<>]=? *[\d.]+", rule.expr) is not None, f"{rule.alert} has no limit")
    return {name for rule in rules for name in check_expression(rule.expr)}


def check_dashboard(text: str) -> set[str]:
    """The metrics that the panels name. Raises ValueError."""
    found = Dashboard.model_validate(json.loads(text))
    places = [(panel.place.x, panel.place.y) for panel in found.panels]
    require(len(set(places)) == len(places), "panels lie upon each other")
    for variable in found.templating["list"]:
        if variable["type"] == "query":
            check_expression(variable["query"])
    return {name for panel in found.panels for target in panel.targets for name in check_expression(target.expr)}


def check_expression(text: str) -> set[str]:
    """The metrics of a PromQL expression; ValueError where a name, a label or a bracket is wrong."""
    for opening, closing in ("()", "{}", "[]"):
        require(text.count(opening) == text.count(closing), f"{text}: unequal {opening}{closing}")
    metrics = {metric.exported: metric for metric in METRICS}
    named = set(re.findall(rf"\b{PREFIX}\w+", text))
    require(bool(named) and named <= metrics.keys(), f"no such metric: {sorted(named - metrics.keys()) or text}")
    labels = {label for name in named for label in metrics[name].labels} | OWN_LABELS
    without = re.sub(r'"[^"]*"|\[\w+\]', "", text)
    words = set(re.findall(r"[A-Za-z_]\w*", without)) - named
    require(words <= labels | FUNCTIONS, f"{text}: unknown {sorted(words - labels - FUNCTIONS)}")
    for name in re.findall(rf"(?:rate|increase)\(({PREFIX}\w+)", text):
        require(metrics[name].kind == "counter", f"{name} is no counter")
    for name in metrics:
        if metrics[name].kind == "counter" and name in named:
            require(re.search(rf"(?:rate|increase)\({name}\b", text) is not None, f"{name} needs a rate")
    return named
