"""The part of the cluster files' formats that deploy/ uses; unknown or missing keys and wrong types are errors.

Written by hand after the KubeRay 1.7 API (ray.io/v1: RayJobSpec, RayCronJobSpec, RayClusterSpec) and the
Kubernetes API (v1 PodSpec, batch/v1 CronJobSpec). Beyond the types they hold what makes a Ray pod work: shared
memory larger than the object store, mounts that exist, credentials from a secret.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[KMGT]i?)?$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(gt=0)]
_CRON_FIELD = r"(\*|\d+(-\d+)?(,\d+(-\d+)?)*)(/\d+)?"
Cron = Annotated[str, Field(pattern=rf"^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$")]
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Metadata(_Strict):
    name: Name


class Amounts(_Strict):
    cpu: Quantity
    memory: Quantity
    gpu: Annotated[Annotated[str, Field(pattern=r"^\d+$")] | None, Field(alias="nvidia.com/gpu")] = None

    @property
    def memory_bytes(self) -> int:
        return _bytes(self.memory)


class Resources(_Strict):
    requests: Amounts
    limits: Amounts

    @model_validator(mode="after")
    def _gpus_are_whole(self) -> Self:
        if self.requests.gpu != self.limits.gpu:
            raise ValueError(f"GPUs: expected requests = limits, got {self.requests.gpu} and {self.limits.gpu}")
        return self


class SecretKey(_Strict):
    name: Name
    key: str


class ValueSource(_Strict):
    secret: Annotated[SecretKey, Field(alias="secretKeyRef")]


class Variable(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    value: str | None = None
    source: Annotated[ValueSource | None, Field(alias="valueFrom")] = None

    @model_validator(mode="after")
    def _is_no_secret(self) -> Self:
        if (self.value is None) == (self.source is None):
            raise ValueError(f"{self.name} needs a value or a source of it")
        if self.value is not None and any(word in self.name for word in ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY")):
            raise ValueError(f"{self.name} must come from a secret")
        return self


class SecretName(_Strict):
    name: Name


class EnvironmentSource(_Strict):
    secret: Annotated[SecretName, Field(alias="secretRef")]


class Mount(_Strict):
    name: Name
    path: Annotated[str, Field(alias="mountPath", pattern="^/")]


class Container(_Strict):
    name: Name
    image: Annotated[str, Field(pattern=r"^[a-z0-9./_-]+:[A-Za-z0-9._-]+$")]
    resources: Resources
    command: Annotated[list[str], Field(min_length=1)] | None = None
    args: list[str] | None = None
    env: list[Variable] = []
    environment: Annotated[list[EnvironmentSource], Field(alias="envFrom")] = []
    mounts: Annotated[list[Mount], Field(alias="volumeMounts")] = []


class EmptyDir(_Strict):
    medium: Literal["Memory"]
    limit: Annotated[Quantity, Field(alias="sizeLimit")]


class Volume(_Strict):
    name: Name
    memory: Annotated[EmptyDir, Field(alias="emptyDir")]


class PodSecurity(_Strict):
    not_root: Annotated[Literal[True], Field(alias="runAsNonRoot")]
    user: Annotated[Seconds, Field(alias="runAsUser")]
    group: Annotated[Seconds, Field(alias="fsGroup")]


class Pod(_Strict):
    security: Annotated[PodSecurity, Field(alias="securityContext")]
    containers: Annotated[list[Container], Field(min_length=1, max_length=1)]
    volumes: list[Volume] = []
    restart: Annotated[Literal["Never", "OnFailure"] | None, Field(alias="restartPolicy")] = None

    @model_validator(mode="after")
    def _mounts_are_volumes(self) -> Self:
        volumes = {volume.name for volume in self.volumes}
        missing = {mount.name for mount in self.containers[0].mounts} - volumes
        if missing:
            raise ValueError(f"mounts without a volume: {sorted(missing)}")
        return self


class PodTemplate(_Strict):
    spec: Pod


class RayGroup(_Strict):
    """What head and workers share: `ray start` options and the pod."""

    start: Annotated[dict[str, str], Field(alias="rayStartParams")]
    template: PodTemplate

    @model_validator(mode="after")
    def _object_store_fits(self) -> Self:
        store = int(self.start.get("object-store-memory", 0))
        pod = self.template.spec
        shared = {mount.name for mount in pod.containers[0].mounts if mount.path == "/dev/shm"}
        limits = [_bytes(volume.memory.limit) for volume in pod.volumes if volume.name in shared]
        memory = pod.containers[0].resources.limits.memory_bytes
        if not limits or not 0 < store < limits[0] < memory:
            raise ValueError(f"expected object store {store} < /dev/shm {limits} < memory {memory} bytes")
        return self

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if not self.template.spec.containers[0].environment:
            raise ValueError("a Ray pod needs the storage credentials (envFrom)")
        return self


class Head(RayGroup):
    service: Annotated[Literal["ClusterIP"], Field(alias="serviceType")]  # the dashboard stays inside the cluster

    @model_validator(mode="after")
    def _runs_no_tasks(self) -> Self:
        if self.start.get("num-cpus") != "0":
            raise ValueError("the head runs the driver: num-cpus must be 0")
        return self


class Workers(RayGroup):
    name: Annotated[Name, Field(alias="groupName")]
    replicas: Count
    fewest: Annotated[Count, Field(alias="minReplicas")]
    most: Annotated[Count, Field(alias="maxReplicas")]

    @model_validator(mode="after")
    def _counts_are_in_order(self) -> Self:
        if not self.fewest <= self.replicas <= self.most or self.most == 0:
            raise ValueError(f"replicas: expected {self.fewest} <= {self.replicas} <= {self.most} > 0")
        return self


class Autoscaler(_Strict):
    idle_timeout: Annotated[Seconds, Field(alias="idleTimeoutSeconds")]


class Authentication(_Strict):
    mode: Literal["token"]


class RayClusterSpec(_Strict):
    version: Annotated[str, Field(alias="rayVersion")]
    authentication: Annotated[Authentication, Field(alias="authOptions")]
    head: Annotated[Head, Field(alias="headGroupSpec")]
    workers: Annotated[list[Workers], Field(alias="workerGroupSpecs", min_length=1)]
    autoscaling: Annotated[bool, Field(alias="enableInTreeAutoscaling")] = False
    autoscaler: Annotated[Autoscaler | None, Field(alias="autoscalerOptions")] = None

    @model_validator(mode="after")
    def _grows_only_with_an_autoscaler(self) -> Self:
        fixed = all(group.fewest == group.replicas == group.most for group in self.workers)
        if fixed == self.autoscaling:
            raise ValueError(f"fixed sizes {fixed} and autoscaling {self.autoscaling} exclude each other")
        return self


class RayJobSpec(_Strict):
    entrypoint: Annotated[str, Field(min_length=1)]
    submission: Annotated[
        Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"], Field(alias="submissionMode")
    ]
    retries: Annotated[Count, Field(alias="backoffLimit")]
    deadline: Annotated[Seconds, Field(alias="activeDeadlineSeconds")]
    id: Annotated[Name | None, Field(alias="jobId")] = None
    shutdown: Annotated[Literal[True], Field(alias="shutdownAfterJobFinishes")]
    keep: Annotated[Count, Field(alias="ttlSecondsAfterFinished")]
    cluster: Annotated[RayClusterSpec, Field(alias="rayClusterSpec")]


class RayJob(_Strict):
    api: Annotated[Literal["ray.io/v1"], Field(alias="apiVersion")]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


class RayCronJobSpec(_Strict):
    schedule: Cron
    zone: Annotated[str, Field(alias="timeZone")]
    suspend: bool
    job: Annotated[RayJobSpec, Field(alias="jobTemplate")]


class RayCronJob(_Strict):
    api: Annotated[Literal["ray.io/v1"], Field(alias="apiVersion")]
    kind: Literal["RayCronJob"]
    metadata: Metadata
    spec: RayCronJobSpec


class RayCluster(_Strict):
    api: Annotated[Literal["ray.io/v1"], Field(alias="apiVersion")]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: RayClusterSpec


class BatchJobSpec(_Strict):
    retries: Annotated[Count, Field(alias="backoffLimit")]
    deadline: Annotated[Seconds, Field(alias="activeDeadlineSeconds")]
    template: PodTemplate

    @model_validator(mode="after")
    def _says_what_ends_a_pod(self) -> Self:
        if self.template.spec.restart is None:
            raise ValueError("restartPolicy: a job's pod needs Never or OnFailure")
        return self


class BatchJob(_Strict):
    spec: BatchJobSpec


class CronJobSpec(_Strict):
    schedule: Cron
    zone: Annotated[str, Field(alias="timeZone")]
    concurrency: Annotated[Literal["Forbid"], Field(alias="concurrencyPolicy")]
    late: Annotated[Seconds, Field(alias="startingDeadlineSeconds")]
    keep_good: Annotated[Count, Field(alias="successfulJobsHistoryLimit")]
    keep_bad: Annotated[Count, Field(alias="failedJobsHistoryLimit")]
    job: Annotated[BatchJob, Field(alias="jobTemplate")]


class CronJob(_Strict):
    api: Annotated[Literal["batch/v1"], Field(alias="apiVersion")]
    kind: Literal["CronJob"]
    metadata: Metadata
    spec: CronJobSpec


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]] if quantity[-2:] in _UNITS else int(quantity)
