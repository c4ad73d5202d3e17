"""Libraries that only the baselines need: imported where one is built, with a clear word where they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from pipeline.errors import MissingExtra


def from_extra(module: str, extra: str) -> ModuleType:
    """The module, which the named extra of this package installs. Raises MissingExtra where it cannot be imported."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        library = module.partition(".")[0]
        raise MissingExtra(f"this needs {library} ({error}): pip install 'galaxy-pipeline[{extra}]'") from error
