"""Checks of the files in deploy/ that need no cluster. Each takes a file's text and raises ValueError for a fault."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import jsonschema
import ray
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from ray.dashboard.modules.job.cli import delete, submit
from ray.scripts.scripts import start

from pipeline.cli import app
from pipeline.cli.running import seconds
from pipeline.errors import JobError
from pipeline.job import load_job
from tests.deploy_models import CronJob, RayCluster, RayCronJob, RayJob, RayJobSpec

ROOT = Path(__file__).parent.parent
PYTHON = "3.11"
Document = Annotated[RayJob | RayCronJob | RayCluster | CronJob, Field(discriminator="kind")]
PIP_OPTIONS = {"-c", "--no-build-isolation"}
PIP_SETTINGS = "type=secret,id=pip,target=/etc/pip.conf"
DOCKER = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}


def require(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


def pinned(package: str) -> str:
    """The version of `package` in constraints.txt."""
    pins = (ROOT / "constraints.txt").read_text()
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)$", pins, re.MULTILINE)
    return str(version)


def project_version() -> str:
    (version,) = re.findall(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return str(version)


def check_options(command: Any, arguments: list[str]) -> Mapping[str, Any]:
    """The parsed options of a click or typer command; ValueError where it would refuse them."""
    try:
        parsed: Mapping[str, Any] = command.make_context(command.name, list(arguments)).params
    except (click.ClickException, typer.TyperException) as error:  # typer brings a click of its own
        raise ValueError(f"{command.name} {shlex.join(arguments)}: {error}") from error
    return parsed


def check_pipeline(arguments: list[str]) -> Mapping[str, Any]:
    """The options of `pipeline VERB ...`, and of its job every key that --set names."""
    require(arguments[:1] == ["pipeline"] and len(arguments) > 1, f"expected pipeline VERB, got {arguments[:2]}")
    verbs: Any = typer.main.get_command(app)
    require(arguments[1] in verbs.commands, f"pipeline has no verb {arguments[1]}")
    options = check_options(verbs.commands[arguments[1]], arguments[2:])
    try:
        if options.get("survey"):
            load_job(options["survey"], options["set_"] or ())
        if options.get("max_time"):
            seconds(options["max_time"])
    except JobError as error:
        raise ValueError(str(error)) from error
    return options


def check_start(arguments: list[str]) -> None:
    check_options(start, arguments)


def documents(text: str) -> list[Any]:
    """The KubeRay and Kubernetes objects of a file, by the models of deploy_models.py."""
    adapter: TypeAdapter[Any] = TypeAdapter(Document)
    return [adapter.validate_python(tree) for tree in yaml.safe_load_all(text)]


def check_kuberay(text: str) -> None:
    checks: dict[str, Callable[[Any], None]] = {
        "RayJob": lambda job: _check_ray_job(job.spec),
        "RayCronJob": lambda cron: _check_ray_job(cron.spec.job),
        "RayCluster": lambda cluster: _check_ray_cluster(cluster.spec),
    }
    found = {document.kind: document for document in documents(text)}
    for kind in found.keys() & checks.keys():
        checks[kind](found[kind])
    if "CronJob" in found:
        _check_submission(found["CronJob"], found["RayCluster"].metadata.name)


def _check_ray_job(job: RayJobSpec) -> None:
    options = check_pipeline(shlex.split(job.entrypoint))
    require(options["address"] == "auto", "the entrypoint must join the cluster: --address auto")
    if options["max_time"]:
        require(seconds(options["max_time"]) < job.deadline, "--max-time must end before activeDeadlineSeconds")
    _check_ray_cluster(job.cluster)


def _check_ray_cluster(cluster: Any) -> None:
    require(cluster.version == pinned("ray"), f"rayVersion {cluster.version}, constraints.txt {pinned('ray')}")
    for group in (cluster.head, *cluster.workers):
        check_start([f"--{option}={value}" for option, value in group.start.items()])
        _check_image(group.template.spec)


def _check_image(pod: Any) -> None:
    image = pod.containers[0].image
    require(image == f"galaxy-pipeline:{project_version()}", f"image {image} is not of version {project_version()}")


def _check_submission(cron: Any, cluster: str) -> None:
    """The CronJob's `ray job submit ... -- pipeline run ...`, joined to the cluster of the same file."""
    batch = cron.spec.job.spec
    _check_image(batch.template.spec)
    container = batch.template.spec.containers[0]
    require(container.command[-1] == "-c" and len(container.args) == 1, "expected a shell and one script")
    first, _, second = container.args[0].replace("\\\n", " ").partition(" || true\n")
    freed = shlex.split(first)
    require(freed[:3] == ["ray", "job", "delete"], f"expected ray job delete, got {freed[:3]}")
    tokens = [variable.source.secret.name for variable in container.env if variable.source is not None]
    require(tokens == [cluster], f"the submission needs the token of {cluster}, got {tokens}")
    words = shlex.split(second)
    require(words[:4] == ["exec", "ray", "job", "submit"], f"expected ray job submit, got {words[:4]}")
    require("--" in words, "the entrypoint follows --")
    separator = words.index("--")
    options = check_options(submit, words[4:])
    require(options["address"] == f"http://{cluster}-head-svc:8265", f"no cluster at {options['address']}")
    require(check_options(delete, freed[3:])["job_id"] == options["submission_id"], f"frees another id: {freed}")
    limit = check_pipeline(words[separator + 1 :])["max_time"]
    require(seconds(limit) < batch.deadline, "--max-time must end before activeDeadlineSeconds")


def check_against_crds(text: str, folder: Path) -> None:
    """By KubeRay's own CustomResourceDefinitions, one a file in `folder`, with unknown keys as errors."""
    schemas = {}
    for file in sorted(folder.glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())["spec"]
        versions = {version["name"]: version["schema"]["openAPIV3Schema"] for version in crd["versions"]}
        schemas[crd["names"]["kind"]] = _strict(versions["v1"])
    for tree in yaml.safe_load_all(text):
        if str(tree.get("apiVersion", "ray.io/")).startswith("ray.io/"):
            require(tree["kind"] in schemas, f"no definition of {tree['kind']}")
            _check_schema(tree, schemas[tree["kind"]])


def _strict(schema: Any) -> Any:
    """The schema with every object closed that lists its properties."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def _check_schema(tree: Any, schema: Any) -> None:
    try:
        jsonschema.validate(tree, schema)
    except jsonschema.ValidationError as error:
        raise ValueError(f"{error.json_path}: {error.message}") from error


class AwsDisk(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    DeviceName: str
    Ebs: dict[Literal["VolumeSize", "VolumeType"], int | str]


class AwsNode(BaseModel):
    """The options of EC2 create_instances that the file uses; the launcher's schema leaves them open."""

    model_config = ConfigDict(extra="forbid", strict=True)
    InstanceType: Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9]+$")]
    ImageId: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{17}$")]
    BlockDeviceMappings: list[AwsDisk]
    IamInstanceProfile: dict[Literal["Name"], str] | None = None
    InstanceMarketOptions: dict[Literal["MarketType"], Literal["spot"]] | None = None


def check_cloud(text: str) -> None:
    """By the launcher's own schema, which comes with ray, and by what it leaves open."""
    tree = yaml.safe_load(text)
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    _check_schema(tree, json.loads(schema.read_text()))
    image = f"rayproject/ray:{pinned('ray')}-py{PYTHON.replace('.', '')}-gpu"
    require(tree["docker"]["image"] == image, f"image {tree['docker']['image']}, expected {image}")
    types = tree["available_node_types"]
    require(tree["head_node_type"] in types, f"no node type {tree['head_node_type']}")
    require(types[tree["head_node_type"]]["resources"]["CPU"] == 0, "the head runs the driver alone: CPU 0")
    workers = [kind for name, kind in types.items() if name != tree["head_node_type"]]
    require(sum(kind["max_workers"] for kind in workers) == tree["max_workers"], "max_workers is not their sum")
    for kind in types.values():
        AwsNode.model_validate(kind["node_config"])
    require(all("IamInstanceProfile" in kind["node_config"] for kind in workers), "workers need the bucket's role")
    for command in tree["setup_commands"]:
        require("pip install -c constraints.txt " in command, f"unpinned: {command}")
    for command in (*tree["head_start_ray_commands"], *tree["worker_start_ray_commands"]):
        _, starts, options = command.partition("ray start ")
        if starts:
            check_start(shlex.split(options.replace("$RAY_HEAD_IP", "head")))


def docker_instructions(text: str) -> Iterator[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, arguments = line.strip().partition(" ")
            yield instruction, arguments.strip()


def check_dockerfile(text: str) -> None:
    steps = list(docker_instructions(text))
    unknown = {instruction for instruction, _ in steps} - DOCKER
    require(not unknown, f"unknown instructions {sorted(unknown)}")
    of = {name: [arguments for step, arguments in steps if step == name] for name in DOCKER}
    for base in of["FROM"]:
        require(re.fullmatch(rf"python:{PYTHON}\.\d+-slim-[a-z]+", base) is not None, f"base image {base}")
    require(bool(of["USER"]) and re.fullmatch("[1-9][0-9]*", of["USER"][-1]) is not None, "needs a user, not root")
    require(of["ENTRYPOINT"] == ['["pipeline"]'], f"ENTRYPOINT {of['ENTRYPOINT']}")
    require(of["ARG"] == ["TORCH=cuda"], f"build arguments {of['ARG']}")
    copied = {word for arguments in of["COPY"] for word in arguments.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    require("constraints.txt" in copied and copied <= kept, f".dockerignore hides {sorted(copied - kept)}")
    for step in of["RUN"]:
        mounts, script = _mounts(step)
        require("pip install" not in script or PIP_SETTINGS in mounts, f"pip's configuration is a secret: {step}")
        require("PIP_" not in script, f"pip is told by its own configuration: {step}")
        shell = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        require(shell.returncode == 0, shell.stderr)
        for install in re.findall(r"pip install[^;&]*", script):
            require(" -c constraints.txt " in install, f"unpinned: {install}")
            options = set(re.findall(r"(?<=\s)-[\w-]+", install))
            require(options <= PIP_OPTIONS, f"where from is for pip's configuration: {sorted(options - PIP_OPTIONS)}")
    require(any('".[run]"' in script for script in of["RUN"]), "the package itself is not installed")


def _mounts(step: str) -> tuple[list[str], str]:
    """The --mount options of a RUN instruction, and its script."""
    words = step.split(" ")
    mounts = [word.removeprefix("--mount=") for word in words if word.startswith("--mount=")]
    return mounts, " ".join(word for word in words if not word.startswith("--mount="))


def make_commands(target: str) -> list[str]:
    """What `make TARGET` would run, the environment taken as built."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/bin/pipeline", target, "VENV=.venv"]
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
