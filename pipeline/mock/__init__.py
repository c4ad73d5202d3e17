"""The mock sky: a miniature of DECaLS that the pipeline cannot tell from the real archive. Needs GalSim."""

from pipeline.mock.bricks import MockSky
from pipeline.mock.tree import MockSummary, write_mock

__all__ = ["MockSky", "MockSummary", "write_mock"]
