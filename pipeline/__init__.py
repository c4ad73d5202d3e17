"""Galaxy morphology for whole surveys: positions in, a sky-partitioned Parquet catalogue out.

The public names load on first use, so that `pipeline.models` and `pipeline.inference` import with torch
and numpy alone, and the query client without either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.catalogue.query import open_catalogue
    from pipeline.executors.runner import run
    from pipeline.job import Job

__version__ = "0.1.0"
__all__ = ["Job", "__version__", "open_catalogue", "run"]

_HOME = {"Job": "pipeline.job", "run": "pipeline.executors.runner", "open_catalogue": "pipeline.catalogue.query"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
