"""The optimized tensors and their Adam state, which grow, shrink and are saved together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.kernels.cpu_train import Trained
from sparse3d.optimize.adam import Moments, SelectiveAdam, room_like
from sparse3d.types import Gaussians

GUESS_OPACITY = 0.1  # at the first step, so that views which disagree can wear guesses away
NAMES = ("means", "quats", "log_scales", "logit_opacities", "sh")


class Parameters:
    """N Gaussians as leaf tensors and their optimizer (3DGS section 5)."""

    def __init__(
        self, gaussians: Gaussians, config: OptimizeConfig, unit: float, guessed: Tensor | None = None
    ) -> None:
        """Takes a copy of the Gaussians, their SH filled up with zeros to `config.sh_degree`.

        Args:
            gaussians: Where to start, on the device where they stay.
            config: Learning rates.
            unit: World units that the learning rate of means is a multiple of.
            guessed: (N,) bool, those whose depth is a guess and whose opacity starts low and decays by `config.guess_decay` too, if below 1.
        """
        device = gaussians.means.device
        coefficients = (config.sh_degree + 1) ** 2
        sh = torch.zeros(len(gaussians), coefficients, 3, device=device)
        shared = min(coefficients, gaussians.sh.shape[1])
        sh[:, :shared] = gaussians.sh[:, :shared]
        values = (gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.logit_opacities, sh)
        self.tensors = {
            name: room_like(value).copy_(value.detach()).requires_grad_()
            for name, value in zip(NAMES, values, strict=True)
        }
        harmonics = torch.full((coefficients, 3), config.sh_lr / 20)  # what depends on the direction is learned slowly
        harmonics[0] = config.sh_lr
        rates = {
            "means": torch.full((3,), config.means_lr * unit),
            "quats": torch.full((4,), config.quats_lr),
            "log_scales": torch.full((3,), config.scales_lr),
            "logit_opacities": torch.tensor(config.opacities_lr),
            "sh": harmonics,
        }
        self.adam = SelectiveAdam(self.tensors, {name: rate.to(device) for name, rate in rates.items()})
        # what opacities are multiplied by in a step that they take part in, (N,)
        self.decay = torch.full((len(gaussians),), config.opacity_decay, device=device)
        if guessed is not None and config.guess_decay < 1:
            self.decay[guessed] *= config.guess_decay
            with torch.no_grad():
                self.tensors["logit_opacities"][guessed] = math.log(GUESS_OPACITY / (1 - GUESS_OPACITY))
        self._trained: Trained | None = None

    def __len__(self) -> int:
        return self.tensors["means"].shape[0]

    @property
    def gaussians(self) -> Gaussians:
        """The current Gaussians, connected to the graph."""
        t = self.tensors
        return Gaussians(t["means"], t["quats"], t["log_scales"], t["logit_opacities"], t["sh"])

    @property
    def trained(self) -> Trained:
        """The Gaussians and their Adam state for the compiled step; float32 on the CPU."""
        moments = [self.adam.moments[name] for name in NAMES]
        parts = ([self.tensors[name] for name in NAMES], [m.mean for m in moments], [m.square for m in moments])
        current = [tensor for part in parts for tensor in part]
        if self._trained is None or any(a is not b for a, b in zip(self._trained.tensors, current, strict=True)):
            self._trained = Trained(*parts)
        return self._trained

    def set_learning_rate(self, name: str, rate: float) -> None:
        """Changes the learning rate of all numbers of one tensor."""
        self.adam.rates[name].fill_(rate)

    def overwrite(self, rows: Tensor, values: dict[str, Tensor], decay: Tensor | None = None) -> None:
        """Puts new values into some rows and forgets their Adam moments; their decay stays when there is no new one."""
        with torch.no_grad():
            if decay is not None:
                self.decay[rows] = decay
            for name, value in values.items():
                moments = self.adam.moments[name]
                self.tensors[name][rows] = value
                moments.mean[rows] = moments.square[rows] = 0

    def append(self, values: dict[str, Tensor], decay: Tensor) -> None:
        """Adds Gaussians; their Adam moments start at zero."""
        self.decay = torch.cat([self.decay, decay])
        for name, tensor in self.tensors.items():
            moments, zeros = self.adam.moments[name], torch.zeros_like(values[name])
            self.tensors[name] = torch.cat([tensor.detach(), values[name]]).requires_grad_()
            self.adam.moments[name] = Moments(torch.cat([moments.mean, zeros]), torch.cat([moments.square, zeros]))

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on to the same result."""
        return {
            "tensors": {name: tensor.detach() for name, tensor in self.tensors.items()},
            "moments": {name: (moments.mean, moments.square) for name, moments in self.adam.moments.items()},
            "steps": self.adam.steps,
            "decay": self.decay,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state, of whatever number of Gaussians."""
        device = self.decay.device
        for name, tensor in state["tensors"].items():
            self.tensors[name] = tensor.to(device, copy=True).requires_grad_()
            self.adam.moments[name] = Moments(*(moment.to(device) for moment in state["moments"][name]))
        self.adam.steps, self.decay = state["steps"], state["decay"].to(device, copy=True)
