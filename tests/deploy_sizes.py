"""The sizes of the Slurm and cloud files against the sizing function; those of pods: `deploy_kustomize`."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipeline.data import ImageContract
from pipeline.executors.sizing import GIB, SHM_MARGIN, NodeSize, head_size, node_size, with_driver
from pipeline.job import EngineSection, UnitsSection
from tests.deploy_checks import require

COUNTED = (ImageContract(), UnitsSection(), EngineSection())
# CPUs, GPUs and GiB of memory (aws.amazon.com/ec2/instance-types: M6i, G5)
INSTANCES = {"m6i.xlarge": (4, 0, 16), "m6i.4xlarge": (16, 0, 64), "g5.2xlarge": (8, 1, 32)}
LAUNCHER_SHM = 0.3  # of a machine's memory, and SHM_MARGIN: what the launcher's container gets (ray, command_runner.py)


def check_slurm_sizes(text: str) -> None:
    """Memory and object store of a node are those of a worker that runs the driver too."""
    cpus, gpus, memory = (_directive(text, name) for name in ("cpus-per-task", "gpus-per-node", "mem"))
    size = with_driver(node_size(int(cpus), int(gpus), *COUNTED))
    require(memory == f"{size.memory}G", f"--mem={memory}, the sizing function says {size.memory}G")
    (store,) = re.findall(r"--object-store-memory[ =](\S+)", text) or [""]
    wanted = str(size.object_store * GIB)
    require(store == wanted, f"--object-store-memory {store}, the sizing function says {wanted}")


def _directive(text: str, name: str) -> str:
    found = re.findall(rf"^#SBATCH --{name}=(\S+)$", text, re.MULTILINE)
    require(len(found) == 1, f"expected one --{name}, got {found}")
    return str(found[0])


def check_cloud_sizes(text: str) -> None:
    """Each kind of machine has what its resources say, and the memory and shared memory that they need."""
    tree = yaml.safe_load(text)
    for name, kind in tree["available_node_types"].items():
        instance, resources = kind["node_config"]["InstanceType"], kind["resources"]
        require(instance in INSTANCES, f"{name}: the size of {instance} is not known to this check")
        cpus, gpus, memory = INSTANCES[instance]
        if name == tree["head_node_type"]:
            size = head_size()
        else:
            given = (resources.get("CPU"), resources.get("GPU", 0))
            require(given == (cpus, gpus), f"{name}: {given} CPUs and GPUs, {instance} has {cpus, gpus}")
            size = node_size(cpus, gpus, *COUNTED)
        _check_machine(name, resources, memory, size)


def _check_machine(name: str, resources: dict[str, Any], memory: int, size: NodeSize) -> None:
    store, wanted = resources.get("object_store_memory"), size.object_store * GIB
    require(store == wanted, f"{name}: object_store_memory {store}, the sizing function says {wanted}")
    require(memory >= size.memory, f"{name}: {memory} GiB, the sizing function says {size.memory}")
    shared = LAUNCHER_SHM * SHM_MARGIN * memory
    require(shared >= size.shared_memory, f"{name}: /dev/shm of {shared:.1f} GiB, the sizing function says {size}")
