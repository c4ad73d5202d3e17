"""What a checkpoint promises, read from its header alone: without torch, so that a plan need not wait for it.

A safetensors file is eight bytes of header length, little-endian, a JSON header and the tensors. The contract
is one string under the key `contract` of the header's `__metadata__`. Nothing here ever unpickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from pipeline.data import ImageContract
from pipeline.errors import CheckpointError
from pipeline.models import NETWORKS
from pipeline.models.header import read_fields
from pipeline.models.network import NetworkConfig
from pipeline.models.prior import Prior

VERSION = 1
PICKLES = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
)  # torch.save's zip; pickle 2 to 5
ADDED: Mapping[str, Any] = {"calibrated_on": "", "prior": None, "experimental": []}  # keys younger than VERSION 1
ADDED_TO_IMAGES: Mapping[str, Any] = {"mapping": "arcsinh", "clip_sigma": 3.0, "surroundings": 1.0}
VIEW = ("size", "fov", "min_bands", "min_coverage", "full_coverage")  # of ImageContract: harmless where they differ
LONGEST_HEADER = 10_000_000  # bytes: a tenth of what the format allows, and far more than any network needs


@dataclass(frozen=True, eq=False, kw_only=True)
class Contract:
    """What a checkpoint promises: which network, for which images, from which training."""

    network: str  # a key of NETWORKS, whose file builds `config`
    config: NetworkConfig
    classes: tuple[str, ...]  # in the order of the logits
    image: ImageContract
    training: str  # the data that the weights were fitted to
    metrics: Mapping[str, float]  # on held-out data
    temperature: float  # logits are divided by it before the softmax
    calibrated_on: str = ""  # the data that the temperature was fitted to; empty where it was not fitted
    prior: Prior | None = None  # None: the probabilities take the classes to be as the training saw them
    experimental: tuple[str, ...] = ()  # classes that too few galaxies stand behind
    untrained: bool  # the weights are random: whatever they say means nothing


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredContract(Contract):
    """A contract as it lies in a file."""

    sha256: str  # of the whole file


def read_contract(data: bytes, name: str) -> StoredContract:
    """The contract of the checkpoint in `data`; `name` is what messages call it. The weights are not looked at.

    Raises CheckpointError where the bytes are no safetensors or are cut off, and where the contract is missing,
    malformed or of an unknown network. What older files lack (ADDED) has its default.
    """
    header = _header(data, name)
    contract = StoredContract(**_promised(header, name), sha256=hashlib.sha256(data).hexdigest())
    _check_numbers(contract, name)
    _check_length(header, data, name)
    return contract


def contract_differences(wanted: ImageContract, other: ImageContract) -> tuple[list[str], list[str]]:
    """What differs between a checkpoint's image contract and another: (errors, warnings).

    Other channels or another value range are errors: the network would see what it was never trained on.
    Another view of the same values is a warning: a network's size is met by resizing on the device.
    """
    errors: list[str] = []
    warnings: list[str] = []
    for name in (field.name for field in fields(ImageContract)):
        want, got = getattr(wanted, name), getattr(other, name)
        if want != got:
            (warnings if name in VIEW else errors).append(f"{name}: expected {want}, got {got}")
    return errors, warnings


def _header(data: bytes, name: str) -> dict[str, Any]:
    """The header of a safetensors file, before any tensor is touched."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        if data.startswith(PICKLES):
            raise CheckpointError(f"{name} is a pickle (torch.save); pickles run code and are never read")
        raise CheckpointError(f"{name} is no safetensors file")
    if length > LONGEST_HEADER:
        raise CheckpointError(f"{name}: a header of {length} bytes, {LONGEST_HEADER} is the most")
    if len(data) < 8 + length:
        raise CheckpointError(f"{name} is cut off: expected {8 + length} bytes of header, got {len(data)}")
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{name} is no safetensors file: {error}") from error
    return header


def _promised(header: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields of the contract in a header."""
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or "contract" not in metadata:
        raise CheckpointError(f"{name} has no contract in its header: it was not written by this pipeline")
    try:
        promised = json.loads(metadata["contract"])
    except (RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: the contract is no JSON: {error}") from error
    if not isinstance(promised, dict):
        raise CheckpointError(f"{name}: expected a contract, got {promised!r}")
    if (version := promised.pop("version", None)) != VERSION:
        raise CheckpointError(f"{name}: expected a contract of version {VERSION}, got {version}")
    types: dict[str, Any] = get_type_hints(Contract) | {"config": type(known(promised.get("network"), name))}
    if isinstance(promised.get("image"), dict):
        promised["image"] = ADDED_TO_IMAGES | promised["image"]
    return read_fields(types, {**ADDED, **promised}, f"{name}: contract")


def _check_length(header: dict[str, Any], data: bytes, name: str) -> None:
    """Whether the tensors that the header lists end where the file does (safetensors README, format)."""
    try:
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
        expected = max(ends, default=0) + 8 + int.from_bytes(data[:8], "little")
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{name}: the file is damaged: its header lists no tensors") from error
    if len(data) != expected:
        raise CheckpointError(f"{name}: the file is damaged or cut off: expected {expected} bytes, got {len(data)}")


def _check_numbers(contract: Contract, name: str) -> None:
    config, image = contract.config, contract.image
    if len(contract.classes) != config.classes:
        raise CheckpointError(f"{name}: {config.classes} logits for the classes {contract.classes}")
    if len(image.planes) != config.bands:
        raise CheckpointError(f"{name}: {config.bands} channels for the planes {image.planes}")
    if contract.temperature <= 0:
        raise CheckpointError(f"{name}: expected a temperature above 0, got {contract.temperature}")
    if contract.prior is not None and len(contract.prior.target) != config.classes:
        raise CheckpointError(f"{name}: {config.classes} logits for a prior of {len(contract.prior.target)} shares")
    if unknown := sorted(set(contract.experimental) - set(contract.classes)):
        raise CheckpointError(f"{name}: the experimental classes {', '.join(unknown)} are none of {contract.classes}")


def known(network: object, name: str) -> NetworkConfig:
    if not isinstance(network, str) or network not in NETWORKS:
        raise CheckpointError(f"{name}: unknown network {network!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[network]
