"""The files that an operator copies: each is checked without a cluster, and each check catches planted mistakes."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from pre_commit.clientlib import load_config  # type: ignore[import-untyped]
from ray._common.usage import usage_constants
from ray._private import ray_constants
from ray._private.authentication import authentication_constants
from ray._private.authentication import authentication_token_setup as token_setup
from ray.dashboard.modules.job import job_supervisor
from ray.scripts import symmetric_run

from pipeline.job import EngineSection
from tests.deploy_checks import (
    ROOT,
    check_against_crds,
    check_cloud,
    check_dockerfile,
    check_kuberay,
    check_pipeline,
    documents,
    make_commands,
    pinned,
    project_version,
)
from tests.deploy_slurm import check_slurm, run_script

DEPLOY = ROOT / "deploy"
RAYJOB, RAYCRONJOB, CRONJOB = (f"kuberay/{name}.yaml" for name in ("rayjob", "raycronjob", "cronjob"))
SLURM, CLOUD, DOCKERFILE = "slurm/pipeline.sbatch", "cloud/cluster.yaml", "Dockerfile"
FILES = (RAYJOB, RAYCRONJOB, CRONJOB, SLURM, CLOUD, DOCKERFILE)

MODULES = (
    symmetric_run,
    job_supervisor,
    usage_constants,
    authentication_constants,
    token_setup,
    ray_constants,
)
# file: (what stands there, the mistake). One of each kind at least: a key, something required, a type or resource.
MISTAKES: dict[str, list[tuple[str, str]]] = {
    RAYJOB: [
        ("ttlSecondsAfterFinished:", "ttlSecondsAfterFinish:"),
        ("  submissionMode: K8sJobMode\n", ""),
        ("backoffLimit: 3", 'backoffLimit: "3"'),
        ("resources:\n", "resource:\n"),
        ("sizeLimit: 4Gi", "sizeLimit: 2Gi"),
        ('limits: {cpu: "8", memory: 14Gi, nvidia.com/gpu: "1"}', 'limits: {cpu: "8", memory: 14Gi}'),
        ('num-cpus: "0"', 'num-cpus: "2"'),
        ("object-store-memory:", "object-store-memmory:"),
        ("rayVersion: 2.60.0", "rayVersion: 2.59.0"),
        ("mountPath: /dev/shm", "mountPath: /dev/smh"),
        ("                envFrom: *credentials\n", ""),
        ("--executor ray", "--executer ray"),
        ("--survey decals", "--survey decal"),
        ("- name: RAY_JOB_STOP_WAIT_TIME_S", "- name: AWS_SECRET_ACCESS_KEY"),
        ("serviceType: ClusterIP", "serviceType: LoadBalancer"),
        ("mode: token", "mode: disabled"),
    ],
    RAYCRONJOB: [
        ("suspend:", "suspended:"),
        ('  schedule: "0 22 * * *"\n', ""),
        ('"0 22 * * *"', '"0 22 * *"'),
        ("suspend: false", "suspend: 0"),
        ("kind: RayCronJob", "kind: RayCronjob"),
        ("activeDeadlineSeconds: 34200", "activeDeadlineSeconds: 3420"),
        ("--max-time 8h", "--max-time 8hours"),
    ],
    CRONJOB: [
        ("concurrencyPolicy: Forbid", "concurrencyPolicy: Forbidden"),
        ("restartPolicy: Never\n", "restartPolicy: Always\n"),
        ("          restartPolicy: Never\n", ""),
        ("startingDeadlineSeconds: 3600", "startingDeadlineSeconds: 1h"),
        ("enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false"),
        ("--submission-id", "--submission"),
        ("galaxy-decals-nightly ||", "galaxy-decals-night ||"),
        ("{name: galaxy, key: auth_token}", "{name: galaxies, key: auth_token}"),
        ("http://galaxy-head-svc:8265", "http://galaxy-head:8265"),
        ("engine.actors=1", "engine.actor=1"),
        ("maxReplicas: 2", "maxReplicas: -1"),
    ],
    SLURM: [
        ("--ntasks-per-node=1\n#", "--ntask-per-node=1\n#"),
        ("#SBATCH --signal=B:TERM@300\n", ""),
        ("#SBATCH --time=24:00:00", "#SBATCH --time=24h"),
        ("set -euo pipefail\n", "set -euo pipefail\n#SBATCH --nodes=8\n"),
        ("--min-nodes", "--nodes"),
        ('"$head:6379" --min', '"$head" --min'),
        ("--num-gpus", "--num-gpu"),
        ("-- \\\n", "\\\n"),
        ("--executor ray", "--executor=dask"),
        ('"$@" &', "$@ &"),
        ("done\n", "\n"),
    ],
    CLOUD: [
        ("max_workers: 3\n", "max_worker: 3\n"),
        ("cluster_name: galaxy-pipeline\n", ""),
        ('resources: {"CPU": 16', 'resources: {"CPU": "16"'),
        ('    resources: {"CPU": 16, "object_store_memory": 3221225472}\n', ""),
        ("ray:2.60.0-py311", "ray:2.60.0-py310"),
        ("InstanceType: g5.2xlarge", "InstanceTyp: g5.2xlarge"),
        ("--object-manager-port", "--object-manger-port"),
        ("-c constraints.txt --no", "--no"),
    ],
    DOCKERFILE: [
        ("FROM python:3.11.14-slim-bookworm", "FROM python:3.11-slim"),
        ("FROM python:3.11.14", "FROM python:3.12.12"),
        ("USER 1000\n", ""),
        ("USER 1000", "USER 0"),
        ("USER 1000", "USERS 1000"),
        ("-c constraints.txt --no-build-isolation", "--no-build-isolation"),
        ('ENTRYPOINT ["pipeline"]', "ENTRYPOINT pipeline"),
        ("COPY jobs jobs", "COPY tests tests"),
        ("; fi", "; if"),
        ("RUN --mount=type=secret,id=pip,target=/etc/pip.conf", "RUN"),
        ("pip install -c constraints.txt torch", "pip install --proxy $PROXY -c constraints.txt torch"),
        ("pip install -c constraints.txt torch", "PIP_PRE=1 pip install -c constraints.txt torch"),
        ("ARG TORCH=cuda", 'ARG TORCH=cuda\nARG PROXY=""'),
    ],
}


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, str], None]:
    """The check of a file, by its name and text."""

    def by_name(name: str, text: str) -> None:
        checks: dict[str, Callable[[str], None]] = {
            SLURM: partial(check_slurm, folder=tmp_path),
            CLOUD: check_cloud,
            DOCKERFILE: check_dockerfile,
        }
        checks.get(name, check_kuberay)(text)

    return by_name


@pytest.mark.parametrize("name", FILES)
def test_a_deployed_file_is_what_its_reader_expects(name: str, check: Callable[[str, str], None]) -> None:
    check(name, (DEPLOY / name).read_text())


@pytest.mark.parametrize(("name", "right", "wrong"), [(name, *mistake) for name in FILES for mistake in MISTAKES[name]])
def test_a_planted_mistake_is_caught(name: str, right: str, wrong: str, check: Callable[[str, str], None]) -> None:
    text = (DEPLOY / name).read_text()
    assert right in text
    with pytest.raises(ValueError):
        check(name, text.replace(right, wrong))


def test_the_three_kubernetes_files_describe_the_same_pods() -> None:
    def pods(name: str) -> list[Any]:
        document = documents((DEPLOY / name).read_text())[0]
        spec = document.spec.job if name == RAYCRONJOB else document.spec
        cluster = spec if name == CRONJOB else spec.cluster
        return [cluster.version, cluster.head] + [(group.start, group.template) for group in cluster.workers]

    assert pods(RAYJOB) == pods(RAYCRONJOB) == pods(CRONJOB)


def test_pods_run_as_the_user_of_the_image() -> None:
    (job,) = documents((DEPLOY / RAYJOB).read_text())
    assert f"\nUSER {job.spec.cluster.head.template.spec.security.user}\n" in (DEPLOY / DOCKERFILE).read_text()


def test_a_stop_gives_open_units_the_time_that_the_job_grants_them() -> None:
    grace = EngineSection().grace
    waits = [int(wait) for name in (RAYJOB, RAYCRONJOB, CRONJOB) for wait in _stop_waits((DEPLOY / name).read_text())]
    waits += [int(wait) for wait in re.findall("RAY_JOB_STOP_WAIT_TIME_S=(\\d+)", (DEPLOY / CLOUD).read_text())]
    waits += [int(wait) for wait in re.findall("B:TERM@(\\d+)", (DEPLOY / SLURM).read_text())]
    waits += [int(wait) for wait in re.findall(r"docker stop -t (\d+)", (DEPLOY / "README.md").read_text())]
    assert len(waits) == 6
    assert min(waits) > grace


def _stop_waits(text: str) -> list[str]:
    return re.findall(r'RAY_JOB_STOP_WAIT_TIME_S\b.*\n\s+value: "(\d+)"', text)


@pytest.mark.parametrize(("code", "restarts", "requeued"), [(0, 0, []), (2, 0, []), (3, 0, []), (75, 0, ["42"])])
def test_slurm_sees_the_exit_code_and_requeues_what_can_be_resumed(
    code: int, restarts: int, requeued: list[str], tmp_path: Path
) -> None:
    ended = run_script((DEPLOY / SLURM).read_text(), tmp_path, code=code, restarts=restarts)
    assert (ended.code, ended.lines("requeued")) == (code, requeued)


def test_a_slurm_job_that_keeps_stopping_is_not_requeued_for_ever(tmp_path: Path) -> None:
    ended = run_script((DEPLOY / SLURM).read_text(), tmp_path, code=75, restarts=50)
    assert (ended.code, ended.lines("requeued")) == (75, [])


def test_a_slurm_job_whose_ray_never_started_is_no_success(tmp_path: Path) -> None:
    ended = run_script((DEPLOY / SLURM).read_text(), tmp_path, ray=False)
    assert (ended.code, ended.lines("pipeline"), ended.lines("requeued")) == (75, [], ["42"])


def test_slurms_signal_reaches_the_driver_alone_and_the_job_is_requeued(tmp_path: Path) -> None:
    ended = run_script((DEPLOY / SLURM).read_text(), tmp_path, stop=True)
    assert ended.lines("signalled") == ["pipeline"]
    assert (ended.code, ended.lines("requeued")) == (75, ["42"])


def test_the_readme_shows_commands_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    before = r"(?:galaxy-pipeline:\S+|-- pipeline|slurm/pipeline.sbatch|bin/pipeline(?= run)) +"
    commands = re.findall(before + r"((?:run |--).*)$", blocks, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        check_pipeline(["pipeline", "run", *shlex.split(command.removeprefix("run ").partition(" >>")[0])])
    named = set(re.findall(r"\bdeploy/[A-Za-z/._-]+[A-Za-z]", text))
    assert named >= {f"deploy/{name}" for name in FILES}
    assert all((ROOT / path).exists() for path in named)


def test_no_file_holds_a_secret() -> None:
    secret = re.compile(r"AKIA[0-9A-Z]{16}|(?i:secret|token|password|access_key\w*)\s*[:=]\s*['\"]?[A-Za-z0-9/+]{12,}")
    assert secret.search("aws_secret_access_key = " + "a" * 40)
    for file in DEPLOY.rglob("*"):
        assert not file.is_file() or not secret.search(file.read_text()), file


def test_the_ray_and_python_of_every_file_are_those_of_the_constraints() -> None:
    assert "Python 3.11" in (ROOT / "constraints.txt").read_text().splitlines()[0]
    texts = "\n".join(file.read_text() for file in DEPLOY.rglob("*") if file.is_file())
    assert set(re.findall(r"(?i)ray(?:version)?[:= ]+(\d+\.\d+\.\d+)", texts)) == {pinned("ray")}
    assert set(re.findall(r"torch==([\d.]+\d)", texts)) == {pinned("torch")}


def test_the_variables_that_tune_ray_are_read_by_this_ray() -> None:
    texts = "\n".join(file.read_text() for file in DEPLOY.rglob("*") if file.is_file())
    sources = [inspect.getsource(module) for module in MODULES]
    variables = set(re.findall(r"\bRAY_[A-Z_]+\b", texts)) - {"RAY_HEAD_IP", "RAY_AUTH_TOKEN"}
    assert len(variables) == 5  # the launcher reads the one, Ray's C++ the other (docs.ray.io, token-auth)
    assert all(any(variable in source for source in sources) for variable in variables)


def test_a_custom_resource_definition_is_read_strictly(tmp_path: Path) -> None:
    spec = {"type": "object", "properties": {"entrypoint": {"type": "string"}}}
    schema = {"type": "object", "properties": {"kind": {"type": "string"}, "spec": spec}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}}
    crd = {"kind": "CustomResourceDefinition", "spec": {"names": {"kind": "RayJob"}, "versions": [version]}}
    (tmp_path / "rayjobs.yaml").write_text(yaml.safe_dump(crd))
    check_against_crds("{kind: RayJob, spec: {entrypoint: x}}", tmp_path)
    with pytest.raises(ValueError, match="entryPoint"):
        check_against_crds("{kind: RayJob, spec: {entryPoint: x}}", tmp_path)
    with pytest.raises(ValueError, match="RayCluster"):
        check_against_crds("{kind: RayCluster, spec: {}}", tmp_path)


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS names no folder of KubeRay's definitions")
@pytest.mark.parametrize("name", [RAYJOB, RAYCRONJOB, CRONJOB])
def test_kuberays_own_definitions_accept_the_files(name: str) -> None:
    check_against_crds((DEPLOY / name).read_text(), Path(os.environ["KUBERAY_CRDS"]))


def test_the_hooks_run_what_make_check_runs() -> None:
    config = load_config(str(ROOT / ".pre-commit-config.yaml"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == make_commands("check")
    assert all(hook["language"] in ("system", "unsupported") and not hook["pass_filenames"] for hook in hooks)


def test_the_citation_names_the_version_the_licence_and_the_networks() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project_version(), "BSD-3-Clause")
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "start", "end", "notes"} <= reference.keys()
        assert all({"family-names", "given-names"} == author.keys() for author in reference["authors"])
    assert [reference["notes"].split(".")[0] for reference in citation["references"]] == ["DMAGNet", "AG-CNN", "MBAN"]
    licence = (ROOT / "LICENSE").read_text()
    assert "BSD 3-Clause" in licence
    assert f"(c) 2026, {citation['authors'][0]['name']}" in licence
