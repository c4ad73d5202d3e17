"""What the engine needs to know of a run: four calls. It never looks inside what they return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from pipeline.data import WorkUnit


class Loaded(Protocol):
    """The result of a load: arrays that lie in the object store."""

    @property
    def rows(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


LoadedT = TypeVar("LoadedT", bound=Loaded)
LoadedT_contra = TypeVar("LoadedT_contra", bound=Loaded, contravariant=True)
PartT = TypeVar("PartT")
PartT_co = TypeVar("PartT_co", covariant=True)
ReportT_co = TypeVar("ReportT_co", covariant=True)


class Networks(Protocol[LoadedT_contra, PartT_co]):
    """The networks of a run on the device of this process."""

    @property
    def choice(self) -> str:
        """One line: device, precision, batch, and why."""
        ...

    def __call__(self, loaded: LoadedT_contra, /) -> PartT_co: ...


class UnitWork(Protocol[LoadedT, PartT, ReportT_co]):
    """The stages of a run, bound to it. Picklable and small: it travels to every worker by value.

    A UnitError, OSError or MemoryError out of a call fails the unit, which is tried again; any other
    exception stops the run.
    """

    def load(self, unit: WorkUnit, chunk: int) -> LoadedT:
        """One chunk of the unit; the same again however often it is called."""
        ...

    def networks(self) -> Networks[LoadedT, PartT]:
        """Called once in the process of each actor."""
        ...

    def commit(self, unit: WorkUnit, parts: Sequence[PartT]) -> ReportT_co:
        """Publish the unit from its parts in chunk order. A second call changes nothing."""
        ...

    def quarantine(self, unit: WorkUnit, reason: str) -> ReportT_co:
        """Publish the unit as failed. A second call changes nothing."""
        ...


AnyWork: TypeAlias = UnitWork[Any, Any, Any]
