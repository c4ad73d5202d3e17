"""What a cluster is given: sizes by one function, overlays for three kinds of cluster, and no way in from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.data import ImageContract
from pipeline.executors.ray.cluster import share_out
from pipeline.executors.sizing import GIB, cpu_actor_size, head_size, node_size
from pipeline.job import EngineSection, UnitsSection
from tests.deploy_checks import ROOT, check_kuberay, documents
from tests.deploy_kustomize import built, check_policy, check_sizes
from tests.deploy_sizes import INSTANCES, check_cloud_sizes, check_slurm_sizes

DEPLOY = ROOT / "deploy"
OVERLAYS = ("overlays/small-gpu", "overlays/large-gpu", "overlays/cpu-only")
POLICY = DEPLOY / "kuberay" / "networkpolicy.yaml"
COUNTED = (ImageContract(), UnitsSection(), EngineSection())

MISTAKES = {
    "kuberay": [
        ("rayjob.yaml", "rayjobs.yaml"),
        ("resources:", "resource:"),
        ("kind: Kustomization", "kind: Kustomisation"),
        ("  - rayjob.yaml\n  - networkpolicy.yaml", "  - networkpolicy.yaml\n  - rayjob.yml"),
    ],
    "overlays/small-gpu": [
        ("../../kuberay", "../../kubray"),
        ("op: remove", "op: delete"),
        ("name: galaxy-decals}", "name: galaxy}"),
        ("workerGroupSpecs/0/template", "workerGroupSpecs/3/template"),
        ("memory: 10Gi", "memory: 12Gi"),
    ],
    "overlays/large-gpu": [
        ("kind: RayJob", "kind: RayJobs"),
        ("minReplicas, value: 8", "minReplicas, value: 9"),
        ('"8"}', '"4"}'),
        ("patches:", "patch:"),
    ],
    "overlays/cpu-only": [
        ("engine.actors=4", "engine.actor=4"),
        ("sizeLimit\n        value: 2Gi", "sizeLimit\n        value: 1Gi"),
        ("- op: replace", "- op: replaced"),
        ("--address auto", "--address here"),
    ],
}


def check_overlay(folder: Path, text: str | None = None) -> None:
    """By Kubernetes' and Ray's own rules, as the files that it changes."""
    trees = built(folder, text)
    check_kuberay(yaml.safe_dump_all(tree for tree in trees if tree["kind"] == "RayJob"))
    check_sizes(documents(yaml.safe_dump(trees[0]))[0].spec.cluster)


@pytest.mark.parametrize("name", MISTAKES)
def test_an_overlay_gives_a_cluster_that_the_models_accept(name: str) -> None:
    check_overlay(DEPLOY / name)


@pytest.mark.parametrize(("name", "right", "wrong"), [(name, *two) for name in MISTAKES for two in MISTAKES[name]])
def test_a_planted_mistake_in_an_overlay_is_caught(name: str, right: str, wrong: str) -> None:
    text = (DEPLOY / name / "kustomization.yaml").read_text()
    assert right in text
    with pytest.raises((ValueError, OSError)):
        check_overlay(DEPLOY / name, text.replace(right, wrong))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed; the patches are applied above")
@pytest.mark.parametrize("name", ["kuberay", *OVERLAYS])
def test_kubectl_builds_the_same_objects(name: str) -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / name)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def by_kind(tree: Any) -> str:
        return str(tree["kind"])

    assert sorted(yaml.safe_load_all(shown), key=by_kind) == sorted(built(DEPLOY / name), key=by_kind)


@pytest.mark.parametrize("name", ["rayjob", "raycronjob", "cronjob"])
def test_the_sizes_of_the_pods_are_those_of_the_sizing_function(name: str) -> None:
    text = (DEPLOY / "kuberay" / f"{name}.yaml").read_text()
    check_sizes(_cluster(text))
    for right, wrong in (("memory: 17Gi", "memory: 18Gi"), ("3221225472", "2221225472"), ("Limit: 3Gi", "Limit: 5Gi")):
        assert right in text
        with pytest.raises(ValueError, match="sizing function"):
            check_sizes(_cluster(text.replace(right, wrong)))


SIZE_MISTAKES: dict[str, list[tuple[str, str]]] = {
    "slurm/pipeline.sbatch": [
        ("#SBATCH --mem=24G", "#SBATCH --mem=16G"),
        ("#SBATCH --cpus-per-task=16", "#SBATCH --cpus-per-task=64"),
        ("--object-store-memory=3221225472", "--object-store-memory=1073741824"),
        ("--object-store-memory=3221225472 ", ""),
    ],
    "cloud/cluster.yaml": [
        ('"CPU": 16, "object_store_memory": 3221225472', '"CPU": 16, "object_store_memory": 1073741824'),
        ('"CPU": 16, "object_store_memory": 3221225472', '"CPU": 16'),
        ('"CPU": 8, "GPU": 1', '"CPU": 16, "GPU": 1'),
        ("InstanceType: m6i.4xlarge", "InstanceType: m6i.xlarge"),
        ("InstanceType: g5.2xlarge", "InstanceType: g5.48xlarge"),
    ],
}
SIZE_CHECKS = {"slurm/pipeline.sbatch": check_slurm_sizes, "cloud/cluster.yaml": check_cloud_sizes}


@pytest.mark.parametrize("name", SIZE_CHECKS)
def test_the_sizes_of_slurms_nodes_and_of_the_clouds_machines_are_those_of_the_sizing_function(name: str) -> None:
    text = (DEPLOY / name).read_text()
    SIZE_CHECKS[name](text)
    for right, wrong in SIZE_MISTAKES[name]:
        assert right in text
        with pytest.raises(ValueError, match=r"sizing function|has|not known"):
            SIZE_CHECKS[name](text.replace(right, wrong))


def test_a_machine_with_too_little_memory_for_its_node_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "cloud/cluster.yaml").read_text()
    monkeypatch.setitem(INSTANCES, "g5.2xlarge", (8, 1, node_size(8, 1, *COUNTED).memory - 1))
    with pytest.raises(ValueError, match=r"gpu: \d+ GiB, the sizing function"):
        check_cloud_sizes(text)


def _cluster(text: str) -> Any:
    spec = documents(text)[0].spec
    return getattr(getattr(spec, "job", spec), "cluster", spec)


@pytest.mark.parametrize(("cpus", "gpus"), [(4, 1), (8, 1), (16, 0), (96, 8)])
def test_what_is_in_flight_on_a_node_of_that_size_fits_into_its_store(cpus: int, gpus: int) -> None:
    size = node_size(cpus, gpus, *COUNTED)
    resources = {"CPU": float(cpus), "GPU": float(gpus), "object_store_memory": float(size.object_store * GIB)}
    shares = share_out(EngineSection(gpus_per_actor=1.0 if gpus else None), resources, 256)
    chunk = UnitsSection().chunk * 3 * 256**2
    assert shares.bytes_cap >= size.loads * chunk
    assert size.object_store < size.shared_memory < size.memory
    assert shares.actors == max(1, size.actors)


def test_larger_images_need_larger_nodes() -> None:
    small, large = (node_size(16, 1, ImageContract(size=size), *COUNTED[1:]) for size in (128, 512))
    assert small.object_store < large.object_store and small.memory < large.memory
    assert cpu_actor_size(16, *COUNTED).memory > head_size().memory


POLICY_MISTAKES: list[Callable[[str], str]] = [
    lambda text: text.replace("policyTypes", "policyType"),
    lambda text: text.replace("port: 8265", "port: 6379"),
    lambda text: text.replace("            matchLabels: {app.kubernetes.io/name: kuberay-operator}", "            {}"),
    lambda text: text.replace("      ports:\n        - {protocol: TCP, port: 8265}\n", ""),
    lambda text: text.replace("      - {key: ray.io/cluster, operator: Exists}", "      - {}", 1),
]


def test_the_dashboard_is_reached_by_the_operator_and_the_submitting_pods_alone() -> None:
    check_policy(POLICY.read_text())
    for mistake in POLICY_MISTAKES:
        wrong = mistake(POLICY.read_text())
        assert wrong != POLICY.read_text()
        with pytest.raises(ValueError):
            check_policy(wrong)


def test_no_file_opens_a_port_to_the_outside() -> None:
    ways_in = re.compile("NodePort|LoadBalancer|kind: Ingress|kind: Service|hostPort|hostNetwork")
    for file in DEPLOY.rglob("*.yaml"):
        assert not ways_in.search(file.read_text()), file
    assert "--dashboard-host=127.0.0.1" in (DEPLOY / "cloud" / "cluster.yaml").read_text()
    assert "dashboard" not in (DEPLOY / "slurm" / "pipeline.sbatch").read_text()
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "slurm" / "pipeline.sbatch").read_text()
