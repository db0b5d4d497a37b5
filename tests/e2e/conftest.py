"""Small, fast scenes made by the real command."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import SMALL
from typer.testing import CliRunner, Result

from sparse3d.cli import app


@pytest.fixture(scope="session")
def photos(repository: Path) -> Path:
    folder = repository / "examples" / "photos"
    assert len(list(folder.glob("*.jpg"))) == 8
    return folder


@pytest.fixture(scope="session")
def run():
    """Runs a sparse3d command in this process."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture(scope="session")
def scene(photos, run, tmp_path_factory) -> Path:
    """A scene of the bundled photos, poses estimated, every 4th view held out."""
    folder = tmp_path_factory.mktemp("recon") / "scene"
    result = run("recon", photos, "-o", folder, *SMALL, "--holdout", "4")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def known_scene(photos, repository, run, tmp_path_factory) -> Path:
    """A scene of the bundled photos in the frame of their true cameras."""
    folder = tmp_path_factory.mktemp("known") / "scene"
    cameras = repository / "examples" / "ground_truth" / "transforms.json"
    result = run("recon", photos, "-o", folder, *SMALL, "--poses", cameras)
    assert result.exit_code == 0, result.output
    return folder
