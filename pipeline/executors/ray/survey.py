"""The stages of a survey run, as the work that the Ray engine carries out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.catalogue.commits import Manifest
from pipeline.data import Chunk, Predictions, WorkUnit
from pipeline.executors.watch import Watch
from pipeline.inference import Predictor
from pipeline.stages import Work, commit, load, predict, predictor, quarantine


@dataclass(frozen=True)
class SurveyNetworks:
    """The networks of the job on this process's device."""

    predictor: Predictor

    @property
    def choice(self) -> str:
        return self.predictor.choice

    def __call__(self, chunk: Chunk) -> Predictions:
        return predict(self.predictor, chunk)


@dataclass(frozen=True)
class SurveyWork:
    """The stages, bound to one run."""

    work: Work

    def load(self, unit: WorkUnit, chunk: int) -> Chunk:
        return load(self.work, unit, chunk)

    def networks(self) -> SurveyNetworks:
        return SurveyNetworks(predictor(self.work))

    def commit(self, unit: WorkUnit, parts: Sequence[Predictions]) -> Manifest:
        return commit(self.work, unit, parts)

    def quarantine(self, unit: WorkUnit, reason: str) -> Manifest:
        return quarantine(self.work, unit, reason)
