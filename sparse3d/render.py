"""Draw Gaussians: one call, several rasterizers behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.types import Cameras, Gaussians, Rendering


class Rasterizer(Protocol):
    """Draws Gaussians. Must agree with kernels/reference.py; tests/parity holds every backend to it."""

    def __call__(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        *,
        sh_degree: int | None = None,
        near_plane: float = 0.01,
        far_plane: float = 1e10,
        eps2d: float = 0.3,
        antialiased: bool = False,
        background: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...


def _reference() -> Rasterizer:
    from sparse3d.kernels.reference import rasterize

    return rasterize


def _cpu() -> Rasterizer:
    from sparse3d.kernels import cpu

    if not cpu.available():
        raise UserError(
            "the compiled CPU kernels are missing: this install was made with SPARSE3D_PURE=1. Reinstall without it, or pass --renderer reference"
        )
    return cpu.rasterize


def _gsplat() -> Rasterizer:
    from sparse3d.errors import require

    require("gsplat", extra="cuda", purpose="rendering on a GPU")
    if not torch.cuda.is_available():
        raise UserError("renderer gsplat needs a CUDA GPU and this machine shows none. Use --renderer cpu, or auto")
    from sparse3d.kernels.cuda import rasterize

    return rasterize


_LOADERS: dict[str, Callable[[], Rasterizer]] = {"gsplat": _gsplat, "cpu": _cpu, "reference": _reference}

NAMES = ("auto", *_LOADERS)


def choose(name: str) -> str:
    """The backend that `name` stands for: itself, or what suits this machine when it is `auto`.

    Raises:
        UserError: no such backend.
    """
    if name not in NAMES:
        raise UserError(f"unknown renderer {name!r}; choose one of: {', '.join(NAMES)}")
    if name != "auto":
        return name
    from importlib.util import find_spec

    if torch.cuda.is_available() and find_spec("gsplat") is not None:
        return "gsplat"
    from sparse3d.kernels import cpu

    return "cpu" if cpu.available() else "reference"


def rasterizer(name: str) -> Rasterizer:
    """The backend called `name`. A named backend that cannot run is an error; only "auto" chooses.

    Raises:
        UserError: no such backend, or it cannot run here; says what to install.
    """
    return _LOADERS[choose(name)]()


def device_of(name: str) -> torch.device:
    """Where the backend called `name` draws, so that Gaussians which are drawn often should be there: a GPU or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if choose(name) == "gsplat" else torch.device("cpu")


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    backend: str = "auto",
    background: Tensor | None = None,
    antialiased: bool = False,
    near_plane: float = 0.01,
) -> Rendering:
    """Draws Gaussians from cameras.

    Args:
        gaussians: N Gaussians.
        cameras: V cameras of one image size.
        backend: auto, gsplat, cpu or reference.
        background: (3,) sRGB behind everything; black when None.
        antialiased: Compensate the 0.3 px dilation in opacity (Mip-Splatting, arXiv:2311.16493, eq. 8).
        near_plane: Gaussians nearer than this are not drawn. World units, above 0.

    Returns:
        Image, alpha, expected and median depth for each camera.
    """
    draw = rasterizer(backend)
    rgb, alpha, depth, median = draw(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
        cameras.w2c,
        cameras.K,
        cameras.width,
        cameras.height,
        sh_degree=gaussians.sh_degree,
        antialiased=antialiased,
        background=background,
        near_plane=near_plane,
    )
    return Rendering(rgb.permute(0, 3, 1, 2), alpha, depth, median)


Draw = Callable[[Cameras], Rendering]


@dataclass(frozen=True)
class Look:
    """How a scene is drawn, apart from its Gaussians; they were optimized for this and no other."""

    background: tuple[float, float, float]  # sRGB behind everything
    antialiased: bool
    near_plane: float  # world units


def drawer(gaussians: Gaussians, look: Look, backend: str = "auto") -> Draw:
    """Draws a finished scene without gradients, as it was optimized. `backend`: auto, gsplat, cpu or reference."""

    def draw(cameras: Cameras) -> Rendering:
        with torch.no_grad():
            return render(
                gaussians,
                cameras,
                backend=backend,
                background=torch.tensor(look.background),
                antialiased=look.antialiased,
                near_plane=look.near_plane,
            )

    return draw
