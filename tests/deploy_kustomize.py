"""Kustomize as far as deploy/ uses it: resources, and JSON patches (RFC 6902) that add, replace and remove."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.data import ImageContract
from pipeline.executors.sizing import GIB, NodeSize, cpu_actor_size, head_size, node_size
from pipeline.job import EngineSection, UnitsSection
from tests.deploy_checks import require
from tests.deploy_models import Pod, RayClusterSpec


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Strict):
    kind: str
    name: str


class Patch(_Strict):
    target: Target
    patch: str


class Kustomization(_Strict):
    """kustomize.config.k8s.io/v1beta1, the part that deploy/ uses."""

    api: Annotated[Literal["kustomize.config.k8s.io/v1beta1"], Field(alias="apiVersion")]
    kind: Literal["Kustomization"]
    resources: Annotated[list[str], Field(min_length=1)]
    patches: list[Patch] = []


class Operation(_Strict):
    op: Literal["add", "replace", "remove"]
    path: Annotated[str, Field(pattern="^/")]
    value: Any = None


def built(folder: Path, text: str | None = None) -> list[Any]:
    """The objects that `kubectl kustomize FOLDER` gives; `text` instead of its kustomization.yaml."""
    found = Kustomization.model_validate(yaml.safe_load(text or (folder / "kustomization.yaml").read_text()))
    trees = [tree for resource in found.resources for tree in _resource(folder / resource)]
    for patch in found.patches:
        wanted = (patch.target.kind, patch.target.name)
        chosen = [tree for tree in trees if (tree["kind"], tree["metadata"]["name"]) == wanted]
        require(len(chosen) == 1, f"{patch.target} is {len(chosen)} of the resources")
        for operation in TypeAdapter(list[Operation]).validate_python(yaml.safe_load(patch.patch)):
            _apply(chosen[0], operation)
    return trees


def _resource(path: Path) -> Iterator[Any]:
    if path.is_dir():
        yield from built(path)
    else:
        yield from (copy.deepcopy(tree) for tree in yaml.safe_load_all(path.read_text()))


def _apply(tree: Any, operation: Operation) -> None:
    *way, last = operation.path.removeprefix("/").split("/")
    for step in way:
        tree = _below(tree, step)
    if operation.op != "add":
        _below(tree, last)
    key = int(last) if isinstance(tree, list) else last
    if operation.op == "remove":
        del tree[key]
    else:
        tree[key] = operation.value


def _below(tree: Any, step: str) -> Any:
    try:
        return tree[int(step) if isinstance(tree, list) else step]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"a patch leads to {step}, which is not there") from error


def check_sizes(cluster: RayClusterSpec) -> None:
    """Every pod's memory, shared memory and object store are those of the sizing function."""
    _check_size("head", cluster.head.start, cluster.head.template.spec, head_size())
    counted = (ImageContract(), UnitsSection(), EngineSection())
    predicts = any(group.template.spec.containers[0].resources.limits.gpu for group in cluster.workers)
    for group in cluster.workers:
        amounts = group.template.spec.containers[0].resources.limits
        cpus, gpus = int(amounts.cpu), int(amounts.gpu or 0)
        size = node_size(cpus, gpus, *counted) if predicts else cpu_actor_size(cpus, *counted)
        _check_size(group.name, group.start, group.template.spec, size)


def _check_size(name: str, start: dict[str, str], pod: Pod, size: NodeSize) -> None:
    found = (
        int(start["object-store-memory"]) / GIB,
        pod.volumes[0].memory.limit,
        pod.containers[0].resources.limits.memory,
    )
    wanted = (size.object_store, f"{size.shared_memory}Gi", f"{size.memory}Gi")
    require(found == wanted, f"{name}: {found}, the sizing function says {wanted}")


class Selector(_Strict):
    labels: Annotated[dict[str, str], Field(alias="matchLabels")] = {}
    expressions: Annotated[list[dict[str, str]], Field(alias="matchExpressions")] = []


class Peer(_Strict):
    namespaces: Annotated[Selector | None, Field(alias="namespaceSelector")] = None
    pods: Annotated[Selector, Field(alias="podSelector")]


class Port(_Strict):
    protocol: Literal["TCP"]
    port: Literal[8265, 8080]


class Rule(_Strict):
    peers: Annotated[list[Peer], Field(alias="from", min_length=1)]
    ports: list[Port] = []


class PolicySpec(_Strict):
    pods: Annotated[Selector, Field(alias="podSelector")]
    types: Annotated[tuple[Literal["Ingress"]], Field(alias="policyTypes")]
    rules: Annotated[list[Rule], Field(alias="ingress", min_length=1)]


class NetworkPolicy(_Strict):
    """networking.k8s.io/v1, the part that deploy/ uses."""

    api: Annotated[Literal["networking.k8s.io/v1"], Field(alias="apiVersion")]
    kind: Literal["NetworkPolicy"]
    metadata: dict[Literal["name"], str]
    spec: PolicySpec


def check_policy(text: str) -> None:
    """The policy covers every Ray pod, and lets nobody in from another namespace but by name and to one port."""
    policy = NetworkPolicy.model_validate(yaml.safe_load(text))
    require(policy.spec.pods.expressions == [{"key": "ray.io/cluster", "operator": "Exists"}], "not all Ray pods")
    for rule in policy.spec.rules:
        for peer in rule.peers:
            named = peer.pods.labels or peer.pods.expressions
            require(bool(named), "every pod may come in")
            own = peer.pods.expressions == policy.spec.pods.expressions and peer.namespaces is None
            require(bool(rule.ports) != own, "only Ray's own pods may come in at every port")
            require(peer.namespaces is None or bool(peer.pods.labels), "other namespaces come in by a label alone")
