"""An evaluation as JSON: every figure that is shown anywhere, with where, when and on what it was measured."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.catalogue.recommended import published_cuts
from pipeline.evaluation.evaluate import Evaluation, Material
from pipeline.evaluation.recommendation import Recommendation, recommendations
from pipeline.models.checkpoint import Checkpoint

CPU = Path("/proc/cpuinfo")


def record(evaluation: Evaluation, given: Material, name: str, device: str) -> dict[str, Any]:
    """One checkpoint's evaluation as JSON can hold it, NaN as null; `name` is the checkpoint's file."""
    labels = {"train": given.train, "validation": given.validation, "test": given.test, "other": given.others}
    counts = {
        side: {one.name: _counts(one.examples.labels, evaluation.checkpoint.classes) for one in sets}
        for side, sets in labels.items()
    }
    return {
        "name": name,
        "checkpoint": contract_facts(evaluation.checkpoint),
        "made": made(device),
        "recipe": given.recipe.name,
        "data": given.recipe.data.source,
        "folders": list(given.recipe.data.images),
        "headline": given.headline,
        "images": counts,
        "sets": plain(evaluation.judgements),
        "fields": plain(evaluation.fields),
        "leaks": plain(evaluation.leaks),
        "separations": plain(evaluation.separations),
        "recommended": plain(_recommended(evaluation, given)),
    }


def contract_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint promises, and its parameters."""
    return {
        "network": checkpoint.network,
        "classes": list(checkpoint.classes),
        "parameters": sum(tensor.numel() for tensor in checkpoint.build().parameters()),
        "size": checkpoint.config.size,
        "training": checkpoint.training,
        "temperature": checkpoint.temperature,
        "calibrated_on": checkpoint.calibrated_on,
        "prior": plain(checkpoint.prior),
        "experimental": list(checkpoint.experimental),
        "novelty": checkpoint.novelty is not None,
        "untrained": checkpoint.untrained,
        "sha256": checkpoint.sha256,
        "image": plain(checkpoint.image),
    }


def made(device: str) -> dict[str, Any]:
    """When and on what machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as JSON has them; a number that is not finite is null."""
    if is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _recommended(evaluation: Evaluation, given: Material) -> dict[str, tuple[Recommendation, ...]]:
    """Set of images -> what a catalogue would recommend of it."""
    classes, cuts = evaluation.checkpoint.classes, published_cuts()
    return {
        one.name: recommendations(evaluation.said[one.name], one.examples.labels, classes, cuts)
        for one in (*given.test, *given.others)
    }


def _counts(labels: Any, classes: Sequence[str]) -> dict[str, int]:
    return {name: int((labels == k).sum()) for k, name in enumerate(classes)}


def _processor() -> str:
    """The processor's name where Linux tells it."""
    lines = CPU.read_text().splitlines() if CPU.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
