"""Checkpoints: safetensors with a JSON contract in the header. Nothing here ever unpickles.

A safetensors file is eight bytes of header length, little-endian, a JSON header and the tensors. The contract
is one string under the key `contract` of the header's `__metadata__`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.data import ImageContract
from pipeline.errors import CheckpointError
from pipeline.models import NETWORKS
from pipeline.models.calibration import Prior
from pipeline.models.header import read_fields
from pipeline.models.images import IMAGES, MORPHOLOGY, Images
from pipeline.models.network import NetworkConfig
from pipeline.models.novelty import PREFIX as NOVELTY
from pipeline.models.novelty import Novelty, novelty_of

VERSION = 1
CLASSES = MORPHOLOGY
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
NAMED = 3  # tensors that a message names


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
class Checkpoint(Contract):
    """A contract and the weights that keep it."""

    sha256: str  # of the whole file
    weights: Mapping[str, Tensor]
    novelty: Novelty | None = None  # None: the checkpoint cannot tell novel images

    def build(self) -> nn.Module:
        """The network with its weights, on the CPU in eval mode. The weights are shared, not copied."""
        module = _empty(self.config)
        module.load_state_dict(dict(self.weights), assign=True)
        return module.eval().requires_grad_(False)


def read_checkpoint(data: bytes, name: str) -> Checkpoint:
    """The checkpoint in `data`; `name` is what messages call it.

    Raises CheckpointError where the bytes are no safetensors or are cut off, where the contract is missing,
    malformed or of an unknown network, and where the tensors are not those of its network or not finite. What
    older files lack (ADDED) has its default.
    """
    contract = _read_contract(_metadata(data, name), name)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{name}: the file is damaged or cut off: {error}") from error
    weights = {key: _whole(value) for key, value in tensors.items() if not key.startswith(NOVELTY)}
    _check_weights(contract.config, weights, name)
    novelty = _read_novelty({key: value for key, value in tensors.items() if key.startswith(NOVELTY)}, contract, name)
    kept = {field.name: getattr(contract, field.name) for field in fields(contract)}
    return Checkpoint(**kept, sha256=hashlib.sha256(data).hexdigest(), weights=weights, novelty=novelty)


def write_checkpoint(
    contract: Contract, weights: Mapping[str, Tensor], novelty: Novelty | None = None, *, half: int | None = None
) -> bytes:
    """The file that `read_checkpoint` reads; the same contract, weights and model of novelty give the same bytes.

    `half` stores tensors of so many values or more in float16: they are read as the float32 nearest to them.
    """
    promised = {field.name: getattr(contract, field.name) for field in fields(Contract)}
    promised["config"] = asdict(contract.config)  # type: ignore[call-overload]
    promised["image"] = asdict(contract.image)
    promised["metrics"] = dict(contract.metrics)
    promised["prior"] = None if contract.prior is None else asdict(contract.prior)
    text = json.dumps({"version": VERSION, **promised}, sort_keys=True, allow_nan=False)
    kept = {key: value.half() if _halved(value, half) else value for key, value in weights.items()}
    every = {**kept, **({} if novelty is None else novelty.tensors())}
    tensors = {key: value.detach().cpu().contiguous() for key, value in every.items()}
    return save(tensors, {"contract": text})


def _halved(tensor: Tensor, least: int | None) -> bool:
    return least is not None and tensor.dtype == torch.float32 and tensor.numel() >= least


def untrained_checkpoint(
    network: str, seed: int, config: NetworkConfig | None = None, images: str = "decals"
) -> Checkpoint:
    """Random weights, the same for the same seed and torch, and marked untrained.

    `config` replaces the network's own, for a smaller one; `images`, a key of IMAGES, says what it sees and calls
    it. Torch's global generator is left as it was. Raises CheckpointError for an unknown network or images.
    """
    if images not in IMAGES:
        raise CheckpointError(f"unknown images {images!r}, expected one of {', '.join(IMAGES)}")
    seen = IMAGES[images]
    config = config or _fitted(_known(network, "checkpoint"), seen)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        weights = config.build().state_dict()
    contract = Contract(
        network=network,
        config=config,
        classes=seen.classes,
        image=seen.contract,
        training=f"none: random weights of seed {seed}",
        metrics={},
        temperature=1.0,
        untrained=True,
    )
    return read_checkpoint(write_checkpoint(contract, weights), f"untrained {network}")


def _fitted(config: NetworkConfig, images: Images) -> NetworkConfig:
    """A network for other images: its planes, pixels and classes are theirs."""
    contract = images.contract
    return replace(config, bands=len(contract.planes), classes=len(images.classes), size=contract.size)  # type: ignore[type-var]


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


def _metadata(data: bytes, name: str) -> dict[str, Any]:
    """The `__metadata__` of a safetensors file, before any tensor is touched."""
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
        header = json.loads(data[8 : 8 + length])
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{name} is no safetensors file: {error}") from error
    metadata = header.get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _read_contract(metadata: dict[str, Any], name: str) -> Contract:
    if "contract" not in metadata:
        raise CheckpointError(f"{name} has no contract in its header: it was not written by this pipeline")
    try:
        promised = json.loads(metadata["contract"])
    except (RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: the contract is no JSON: {error}") from error
    if not isinstance(promised, dict):
        raise CheckpointError(f"{name}: expected a contract, got {promised!r}")
    if (version := promised.pop("version", None)) != VERSION:
        raise CheckpointError(f"{name}: expected a contract of version {VERSION}, got {version}")
    types = get_type_hints(Contract) | {"config": type(_known(promised.get("network"), name))}
    if isinstance(promised.get("image"), dict):
        promised["image"] = ADDED_TO_IMAGES | promised["image"]
    contract = Contract(**read_fields(types, {**ADDED, **promised}, f"{name}: contract"))
    _check_numbers(contract, name)
    return contract


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


def _known(network: object, name: str) -> NetworkConfig:
    if not isinstance(network, str) or network not in NETWORKS:
        raise CheckpointError(f"{name}: unknown network {network!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[network]


def _empty(config: NetworkConfig) -> nn.Module:
    """The network with weights that nobody reads.

    On the CPU: 0.15 s for DMAGNet-F, where torch's device `meta` imports its compiler first and takes 1.8 s.
    """
    with torch.random.fork_rng(devices=[]):
        return config.build()


def _check_weights(config: NetworkConfig, weights: Mapping[str, Tensor], name: str) -> None:
    expected = _shapes(_empty(config).state_dict())
    found = _shapes(weights)
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    complaints = {
        "missing tensors": [key for key in expected if key not in found],
        "unknown tensors": sorted(found.keys() - expected.keys()),
        "tensors that do not fit": [f"{key} (expected {expected[key]}, got {found[key]})" for key in wrong],
        "tensors that are not finite": [key for key, value in weights.items() if not value.isfinite().all()],
    }
    texts = [f"{what}: {_few(keys)}" for what, keys in complaints.items() if keys]
    if texts:
        raise CheckpointError(f"{name}: {'; '.join(texts)}")


def _read_novelty(tensors: Mapping[str, Tensor], contract: Contract, name: str) -> Novelty | None:
    if not tensors:
        return None
    try:
        found = novelty_of(tensors)
    except ValueError as error:
        raise CheckpointError(f"{name}: {error}") from error
    if (width := len(found.centre)) != contract.config.features:
        raise CheckpointError(f"{name}: {contract.config.features} features for a model of novelty of {width}")
    return found


def _whole(tensor: Tensor) -> Tensor:
    """A stored tensor as networks have it: float16 and bfloat16 are ways to store float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: f"{list(value.shape)} {value.dtype}" for key, value in tensors.items()}


def _few(keys: list[str]) -> str:
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")
