"""Every test imports the installed sparse3d, never the bare source folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does, before torch is imported

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]


def pytest_configure(config: pytest.Config) -> None:
    spec = importlib.util.find_spec("sparse3d")
    if spec is None or spec.origin is None:  # absent, or an empty folder left by an uninstall
        raise pytest.UsageError("sparse3d is not installed; run `pip install -e .` in the repository root")


def pytest_report_header(config: pytest.Config) -> str:
    import sparse3d
    from sparse3d.kernels import cpu

    kernels = f"compiled kernels: {cpu.instruction_set()}" if cpu.available() else "no compiled kernels"
    return f"sparse3d {sparse3d.__version__} from {Path(sparse3d.__file__).parent}; {kernels}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA GPU")
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout, for examples/ and its photos."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real photo sets: SPARSE3D_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("SPARSE3D_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real photo sets in {folder}; set SPARSE3D_DATA")
    return folder


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Stored results of published networks: SPARSE3D_GOLDENS, or ../shared/goldens beside the checkout."""
    folder = Path(os.environ.get("SPARSE3D_GOLDENS", ROOT.parent / "shared" / "goldens"))
    if not folder.is_dir():
        pytest.skip(f"no results of published networks in {folder}; set SPARSE3D_GOLDENS")
    return folder
