"""The checkpoints of a job: where their bytes come from, and whether they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

import fsspec

from pipeline.data import ImageContract
from pipeline.errors import CheckpointError
from pipeline.job import Job
from pipeline.models.contract import Contract, StoredContract, contract_differences, read_contract
from pipeline.models.images import IMAGES
from pipeline.sources.tables import network_errors
from pipeline.storage import without_credentials

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Checkpoint

UNTRAINED, SHIPPED = "untrained", "shipped"
WEIGHTS = "weights"  # folder of the package `pipeline.models`
Promise = TypeVar("Promise", bound=Contract)


def job_checkpoints(job: Job) -> dict[str, Checkpoint]:
    """Column prefix -> checkpoint, for every network of the job. Raises CheckpointError."""
    return {prefix: read(section.checkpoint) for prefix, section in job.networks.items()}


def job_contracts(job: Job) -> dict[str, StoredContract]:
    """Column prefix -> what its checkpoint promises: without torch, but where weights are to be drawn.

    Raises CheckpointError for all that `job_checkpoints` does, but the weights are not looked at.
    """
    return {prefix: _contract(section.checkpoint) for prefix, section in job.networks.items()}


def read(address: str) -> Checkpoint:
    """The checkpoint at a path or URL. Raises CheckpointError.

    `shipped:NAME` is one that comes with the package, `shipped:NAME:IMAGES` the same for the images of another survey
    of models/images.py, with as many planes. `untrained:NETWORK:SEED` draws random weights, for the images
    of DECaLS, `untrained:NETWORK:SEED:IMAGES` for others.
    """
    from pipeline.models.checkpoint import read_checkpoint, untrained_checkpoint

    if address.startswith(f"{UNTRAINED}:"):
        network, seed, images = _split(address)
        return untrained_checkpoint(network, seed, images=images)
    return _serving(read_checkpoint(*_stored(address)), address)


def _contract(address: str) -> StoredContract:
    """As `read`, without the weights."""
    if address.startswith(f"{UNTRAINED}:"):
        return read(address)
    return _serving(read_contract(*_stored(address)), address)


def _stored(address: str) -> tuple[bytes, str]:
    """A checkpoint's bytes, and what messages call it."""
    if address.startswith(f"{SHIPPED}:"):
        return _shipped(address.split(":")[1]), address
    name = without_credentials(address)
    try:
        filesystem, path = fsspec.core.url_to_fs(address)  # fsspec.open would take the ? of a token for a pattern
        data: bytes = filesystem.cat_file(path)
    except (OSError, ValueError, ImportError, *network_errors()) as error:  # type: ignore[misc]
        # Not the error's own words, nor the error itself: they repeat the URL with its secrets.
        missing = isinstance(error, FileNotFoundError)
        raise CheckpointError(
            f"cannot read checkpoint {name}: {'there is no such file' if missing else type(error).__name__}"
        ) from None
    return data, name


def shipped_names() -> list[str]:
    """The checkpoints that come with the package."""
    folder = files("pipeline.models") / WEIGHTS
    names = (file.name for file in folder.iterdir()) if folder.is_dir() else ()
    return sorted(name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors"))


def _shipped(name: str) -> bytes:
    if name not in shipped_names():
        raise CheckpointError(f"{SHIPPED}:{name}: expected one of {', '.join(shipped_names()) or 'none'}")
    return (files("pipeline.models") / WEIGHTS / f"{name}.safetensors").read_bytes()


def _serving(checkpoint: Promise, address: str) -> Promise:
    """The checkpoint, for other images than its own where the address names them."""
    images = address.split(":", 2)[2:] if address.startswith(f"{SHIPPED}:") else []
    if not images:
        return checkpoint
    fitting = [name for name, one in IMAGES.items() if (one.classes, len(one.contract.planes)) == _kind(checkpoint)]
    if images[0] not in fitting:
        raise CheckpointError(f"{address}: unknown images {images[0]!r}, expected one of {', '.join(fitting)}")
    return replace(checkpoint, image=IMAGES[images[0]].contract)


def _kind(checkpoint: Contract) -> tuple[tuple[str, ...], int]:
    return checkpoint.classes, len(checkpoint.image.planes)


def common_image(checkpoints: Mapping[str, Contract], bands: tuple[str, ...]) -> tuple[ImageContract, list[str]]:
    """The one image contract of a job's networks, and warnings about what differs without harm.

    Raises CheckpointError where channels or value range differ, or where the survey lacks a band.
    """
    (first_name, first), *others = checkpoints.items()
    warnings = []
    for name, checkpoint in others:
        wrong, harmless = contract_differences(first.image, checkpoint.image)
        if wrong:
            raise CheckpointError(f"{name} and {first_name} cannot share one preprocessing: {'; '.join(wrong)}")
        warnings += [f"{name} differs from {first_name}: {text}" for text in harmless]
    if first.image.bands != bands:
        raise CheckpointError(
            f"{first_name} was made for bands {'+'.join(first.image.bands)}, the job's survey gives {'+'.join(bands)}"
        )
    return first.image, warnings


def _split(address: str) -> tuple[str, int, str]:
    _, *parts = address.split(":")
    if len(parts) == 2:
        parts.append("decals")
    if len(parts) != 3 or not parts[1].isdigit():
        raise CheckpointError(
            f"{address}: expected untrained:NETWORK:SEED or untrained:NETWORK:SEED:IMAGES, as untrained:dmagnet_f:0"
        )
    return parts[0], int(parts[1]), parts[2]
