"""Numbers that can be traced: each with the query that gives it and the files that it came from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.catalogue.query import Catalogue
from pipeline.data import CLASSIFIED
from pipeline.storage import without_credentials

SEEN = "status IN ({})".format(", ".join(sorted(f"'{status}'" for status in CLASSIFIED)))
LABEL, CONFIDENCE = "_label", "_confidence"


@dataclass(frozen=True, eq=False)
class Traced:
    """The answer to one question. `pipeline query` gives the same rows to the same words."""

    rows: pa.Table
    query: str  # over the view `catalogue`; "" where the files are no catalogue
    files: str  # as a reader may open them

    def dicts(self) -> list[dict[str, Any]]:
        return self.rows.to_pylist()

    def column(self, name: str) -> list[Any]:
        return self.rows[name].to_pylist()


@dataclass(frozen=True)
class NetworkNames:
    """The columns of one network, as the catalogue's own names give them."""

    prefix: str
    classes: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.prefix + LABEL

    @property
    def confidence(self) -> str:
        return self.prefix + CONFIDENCE


@dataclass(frozen=True)
class Asked:
    """A catalogue that is asked in SQL, and where it lies."""

    catalogue: Catalogue
    url: str  # what a reader gives to `pipeline query`
    version: str  # of the pipeline that asks

    def __call__(self, query: str) -> Traced:
        """Raises CatalogueError for a query that fails."""
        words = re.sub(r"\s+", " ", query).strip()
        table = self.catalogue.table
        return Traced(self.catalogue.sql(words), words, f"{table.storage.shown.rstrip('/')}/{table.folder}".rstrip("/"))

    def command(self, traced: Traced) -> str:
        """What a reader types to see the same rows. Without secrets in the URL: the page goes to others."""
        url = without_credentials(self.url)
        return f"pipeline query {shlex.quote(url)} --sql {shlex.quote(traced.query)}"

    @property
    def networks(self) -> tuple[NetworkNames, ...]:
        """Every network of the catalogue, in the order of its columns."""
        return tuple(_networks(self.catalogue.columns))

    def has(self, *columns: str) -> bool:
        return set(columns) <= set(self.catalogue.columns)


def _networks(columns: tuple[str, ...]) -> Iterator[NetworkNames]:
    known = set(columns)
    for name in columns:
        prefix = name.removesuffix(LABEL)
        if name.endswith(LABEL) and prefix + CONFIDENCE in known:
            start = f"{prefix}_p_"
            yield NetworkNames(prefix, tuple(c.removeprefix(start) for c in columns if c.startswith(start)))
