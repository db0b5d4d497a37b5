"""What a prior does between the steps of the optimization, and what happens when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.kernels import cpu
from sparse3d.optimize.losses import Target
from sparse3d.optimize.parameters import NAMES, Parameters
from sparse3d.optimize.schedules import sh_degree_at, shrink_at
from sparse3d.optimize.step import Shot, autograd_step, background_of, compiled_step
from sparse3d.progress import StageReporter
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Cameras, Gaussians, Rendering


class Fitting:
    """A scene that is being optimized: it can be looked at and moved. All Gaussians take part: dropout is for photos."""

    def __init__(self, parameters: Parameters, rasterize: Rasterizer, config: OptimizeConfig, look: Look) -> None:
        """Of the loop's own parts. The loop sets `step`, the steps done with photos."""
        self.parameters, self.rasterize, self.config, self.look = parameters, rasterize, config, look
        self.step = 0

    @property
    def progress(self) -> float:
        """Share of the steps that are done."""
        return self.step / self.config.steps

    @property
    def shrunk(self) -> int:
        """By how much pictures are reduced now."""
        return shrink_at(min(self.step, self.config.steps - 1), self.config)

    @property
    def device(self) -> torch.device:
        """Where the Gaussians are."""
        return self.parameters.tensors["means"].device

    @property
    def _degree(self) -> int:
        return sh_degree_at(self.step, self.config)

    def drawn(self, cameras: Cameras) -> Rendering:
        """Pictures of the scene as it is, on the CPU, without gradients."""
        with torch.no_grad():
            parts = [part.cpu() for part in self._draw(cameras)]
        rgb, alpha, depth, median = parts
        return Rendering(rgb.permute(0, 3, 1, 2), alpha, depth, median)

    def compare(self, shot: Shot) -> None:
        """A step towards a picture."""
        if self.rasterize is cpu.rasterize and isinstance(shot.target, Target):
            compiled_step(self.parameters, shot, self._degree, None, self.config, self.look)
        else:
            autograd_step(self.rasterize, self.parameters, shot, self._degree, None, self.config, self.look)

    def add(self, gaussians: Gaussians) -> None:
        """More Gaussians, which opacity decay takes away again where photos see nothing like them."""
        sh = self.parameters.tensors["sh"]
        more = torch.zeros(len(gaussians), *sh.shape[1:])
        shared = min(more.shape[1], gaussians.sh.shape[1])
        more[:, :shared] = gaussians.sh[:, :shared]
        values = dict(zip(NAMES, (*gaussians.values()[:4], more), strict=True))
        decay = torch.full((len(gaussians),), self.config.opacity_decay)
        self.parameters.append({name: value.to(self.device) for name, value in values.items()}, decay.to(self.device))

    def move(self, cameras: Cameras, loss_of: Callable[[Tensor], Tensor]) -> None:
        """A step down a loss of pictures (n, 3, H, W) of the scene, through PyTorch. Nothing decays.

        Raises:
            ValueError: the gradient has values that are not numbers; nothing was moved.
        """
        adam = self.parameters.adam
        adam.zero_grad()
        rgb, *_ = self._draw(cameras)
        loss_of(rgb.permute(0, 3, 1, 2)).backward()
        gradients = [tensor.grad for tensor in self.parameters.tensors.values() if tensor.grad is not None]
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            adam.zero_grad()
            raise ValueError("the gradient of its loss has values that are not numbers")
        opacity = self.parameters.tensors["logit_opacities"].grad
        assert opacity is not None
        adam.step(opacity != 0)
        adam.zero_grad()

    def _draw(self, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        current = self.parameters.gaussians
        return self.rasterize(
            current.means,
            current.quats,
            current.scales,
            current.opacities,
            current.sh,
            cameras.w2c.to(self.device),
            cameras.K.to(self.device),
            cameras.width,
            cameras.height,
            sh_degree=self._degree,
            antialiased=self.look.antialiased,
            background=background_of(self.look, self.device),
            near_plane=self.look.near_plane,
        )


class Way(Protocol):
    """How a prior takes part: by `refresh.Refresh` or `distilled.Distilled`."""

    @property
    def calls(self) -> int:
        """Of the prior's network so far."""
        ...

    def after(self, fitting: Fitting) -> None:
        """What it does after a step with a photo: mostly nothing. It may raise whatever a prior raises."""
        ...

    def facts(self) -> dict[str, Any]:
        """What scene.json says of it: who, under which licence, how often."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on to the same result; tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state."""
        ...


class Regularizer:
    """A way that may fail: then the optimization goes on without it, and says so."""

    def __init__(self, way: Way, progress: StageReporter) -> None:
        """Takes the way and who is told."""
        self.way, self.progress = way, progress
        self.failed = ""

    @property
    def calls(self) -> int:
        """Of the prior's network so far."""
        return self.way.calls

    def after(self, fitting: Fitting) -> None:
        """After a step with a photo."""
        if self.failed:
            return
        try:
            self.way.after(fitting)
        except Exception as error:  # noqa: BLE001 - whatever a prior raises: the photos alone make a scene too
            self.failed = f"step {fitting.step}: {error or type(error).__name__}"
            fitting.parameters.adam.zero_grad()
            self.progress.warning(f"the prior failed at {self.failed}. The optimization goes on without it")

    def facts(self) -> dict[str, Any]:
        """What scene.json says of it."""
        return self.way.facts() | {"calls": self.calls, "failed": self.failed or None}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"failed": self.failed, "way": self.way.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.failed = state["failed"]
        self.way.load_state_dict(state["way"])
