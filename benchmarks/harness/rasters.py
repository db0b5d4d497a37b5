"""One forward and backward pass of a rasterizer, the unit of most tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from harness.timing import Stopwatch, Time
from sparse3d.kernels import cpu
from sparse3d.kernels.reference import Raster
from sparse3d.render import Rasterizer
from sparse3d.types import Cameras, Gaussians


class PassTime(NamedTuple):
    """Of one pass."""

    forward: Time
    backward: Time


class Pass:
    """Gaussians drawn from the first of some cameras, and the gradient of a random weighted sum of the colours."""

    def __init__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        sh_degree: int,
        device: str = "cpu",
        wait: Callable[[], None] | None = None,
    ) -> None:
        """Puts all arguments of the rasterizer in place.

        Args:
            gaussians, cameras: What to draw; only the first camera counts.
            sh_degree: Of the spherical harmonics in use, at most what the Gaussians have.
            device: Where the tensors lie.
            wait: Returns when the device has done everything it was told to; None where calls return when done.
        """
        sh = gaussians.sh[:, : (sh_degree + 1) ** 2]
        values = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh)
        self.leaves = [value.detach().to(device).contiguous().requires_grad_() for value in values]
        self.camera = [cameras.w2c[:1].to(device), cameras.K[:1].to(device)]
        self.size = (cameras.width, cameras.height)
        self.sh_degree = sh_degree
        generator = torch.Generator().manual_seed(1)
        self.weights = torch.randn(1, cameras.height, cameras.width, 3, generator=generator).to(device)
        self.wait = wait or (lambda: None)

    def draw(self, rasterize: Rasterizer = cpu.rasterize) -> Raster:
        """The forward pass."""
        return Raster(*rasterize(*self.leaves, *self.camera, *self.size, sh_degree=self.sh_degree))

    def gradients(self, raster: Raster) -> tuple[Tensor, ...]:
        """The backward pass: of means, quats, scales, opacities and spherical harmonics."""
        return torch.autograd.grad(raster.rgb, self.leaves, self.weights)

    def run(self, rasterize: Rasterizer = cpu.rasterize) -> PassTime:
        """Both, and what they took."""
        watch = Stopwatch()
        raster = self.draw(rasterize)
        self.wait()
        forward = watch.lap()
        self.gradients(raster)
        self.wait()
        return PassTime(forward, watch.lap())
