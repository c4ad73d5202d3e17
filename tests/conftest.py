"""Fixtures that many tests share: the mock sky, as small as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest


def _tiny_mock(root: Path, noiseless: bool) -> Path:
    from pipeline.mock import MockSky, write_mock  # GalSim takes half a second to import

    sky = MockSky(columns=2, rows=2, brick_pixels=500, galaxies=24, stars=16, max_radius=5.0)
    return write_mock(root, sky=sky, noiseless=noiseless).root


@pytest.fixture(scope="session")
def mock_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a mock DR10 tree: 2x2 bricks of 500 pixels, 24 galaxies. Read only: copy it to change it."""
    return _tiny_mock(tmp_path_factory.mktemp("mock") / "sky", noiseless=False)


@pytest.fixture(scope="session")
def noiseless_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sky without noise."""
    return _tiny_mock(tmp_path_factory.mktemp("mock") / "noiseless", noiseless=True)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network that is small enough for tests."""
    from tests.runs import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory, mock_tree: Path, checkpoint: Path) -> Path:
    """The output of a run of two networks, with its report beside it. Read only."""
    from tests.reported import reported_run

    return reported_run(mock_tree, checkpoint, tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, mock_tree: Path, checkpoint: Path) -> Path:
    """The output of one undisturbed local run over the mock tree. Read only."""
    from tests.runs import undisturbed

    output = tmp_path_factory.mktemp("whole") / "catalogue"
    undisturbed(mock_tree, checkpoint, output)
    return output


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled images whose class is their colour; see tests/evaluated.py. Read only."""
    from tests.evaluated import labelled_folder

    return labelled_folder(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="session")
def discs_checkpoint(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned its colours."""
    from tests.evaluated import trained

    return trained(discs, tmp_path_factory.mktemp("trained"))
