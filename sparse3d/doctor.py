"""What this machine can run, and what to do about the rest."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from sparse3d import __version__
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.registry import GROUPS
from sparse3d.priors.names import NAMES, why_not


@dataclass(frozen=True)
class Check:
    """One thing that works or does not."""

    name: str
    works: bool
    detail: str  # version, or what is wrong and what to do
    required: bool = True


def checks() -> list[Check]:
    """All checks, in the order in which they matter."""
    results = [
        Check("sparse3d", True, f"{__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores"),
        _try("torch", _torch),
        _try("compiled CPU kernels", _kernels),
        _try("OpenCV", _opencv),
        _try("COLMAP", _pycolmap),
        _try("viewer (viser)", lambda: _version("viser")),
        _try("GPU (CUDA)", _cuda, required=False),
        _try("learned matchers", _matchers, required=False),
    ]
    extras = (
        ("gsplat", "gsplat", "cuda"),
        ("HEIC photos", "pillow_heif", "heic"),
        ("video input", "imageio_ffmpeg", "video"),
        (".ksplat files", "gaussforge", "formats"),
        ("USD files", "pxr", "usd"),
        ("meshes", "open3d", "mesh"),
    )
    for name, module, extra in (
        *extras,
        ("video diffusion", "diffusers", "diffusion"),
        ("cluster engine", "ray", "ray"),
    ):
        results.append(_try(name, lambda module=module, extra=extra: _extra(module, extra), required=False))  # type: ignore[misc]
    return results + [_prior(name) for name in NAMES]


def _try(name: str, check: Callable[[], str], required: bool = True) -> Check:
    try:
        return Check(name, True, check(), required)
    except (UserError, ImportError) as error:
        return Check(name, False, str(error), required)


def _prior(name: str) -> Check:
    """Whether `--prior NAME` can be run as it is."""
    lacking = why_not(name)
    return Check(f"prior {name}", not lacking, f"needs {lacking}" if lacking else f"--prior {name}", required=False)


def _version(package: str) -> str:
    importlib.import_module(package)
    return metadata.version(package)


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _kernels() -> str:
    from sparse3d.kernels import cpu

    if not cpu.available():
        raise UserError(
            "missing: this install was made with SPARSE3D_PURE=1. Install a C++ compiler and reinstall without it"
        )
    return cpu.instruction_set()


def _opencv() -> str:
    from sparse3d.io._pycolmap import cv2

    return str(cv2().__version__)


def _pycolmap() -> str:
    from sparse3d.io._pycolmap import pycolmap

    return str(pycolmap().__version__)


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise UserError("none found; the CPU kernels are used")
    return torch.cuda.get_device_name()


def _matchers() -> str:
    names = GROUPS["matchers"]
    missing = [name for name in names if store.path(name) is None]
    if missing:
        raise UserError(f"not here: {', '.join(missing)}. Cameras start at SIFT; sparse3d models fetch matchers")
    return f"{', '.join(names)} in {store.root()}"


def _extra(module: str, extra: str) -> str:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise UserError(f"not installed; pip install 'sparse3d[{extra}]'")
    return metadata.version(metadata.packages_distributions()[module][0])  # pxr comes with usd-core
