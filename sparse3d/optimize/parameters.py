"""The optimized tensors and their Adam state, which grow, shrink and are saved together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.optimize.adam import SelectiveAdam
from sparse3d.types import Gaussians

NAMES = ("means", "quats", "log_scales", "logit_opacities", "sh")


class Parameters:
    """N Gaussians as leaf tensors, one Adam group each (3DGS section 5)."""

    def __init__(self, gaussians: Gaussians, config: OptimizeConfig, extent: float) -> None:
        """Takes a copy of the Gaussians, their SH filled up with zeros to `config.sh_degree`.

        Args:
            gaussians: Where to start.
            config: Learning rates.
            extent: Scene extent in world units; the learning rate of means is a multiple of it.
        """
        coefficients = (config.sh_degree + 1) ** 2
        sh = torch.zeros(len(gaussians), coefficients, 3)
        shared = min(coefficients, gaussians.sh.shape[1])
        sh[:, :shared] = gaussians.sh[:, :shared]
        values = (gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.logit_opacities, sh)
        self.tensors = {
            name: value.detach().clone().contiguous().requires_grad_()
            for name, value in zip(NAMES, values, strict=True)
        }
        rates = {
            "means": config.means_lr * extent,
            "quats": config.quats_lr,
            "log_scales": config.scales_lr,
            "logit_opacities": config.opacities_lr,
            "sh": config.sh_lr,
        }
        groups = [{"params": [self.tensors[name]], "lr": rates[name], "name": name} for name in NAMES]
        harmonics = torch.full((coefficients, 3), 1 / 20)  # detail that depends on the direction is learned slowly
        harmonics[0] = 1
        self.adam = SelectiveAdam(groups, {"sh": harmonics})

    def __len__(self) -> int:
        return self.tensors["means"].shape[0]

    @property
    def gaussians(self) -> Gaussians:
        """The current Gaussians, connected to the graph."""
        t = self.tensors
        return Gaussians(t["means"], t["quats"], t["log_scales"], t["logit_opacities"], t["sh"])

    def set_learning_rate(self, name: str, rate: float) -> None:
        """Changes the learning rate of one group."""
        for group in self.adam.param_groups:
            if group["name"] == name:
                group["lr"] = rate

    def overwrite(self, rows: Tensor, values: dict[str, Tensor]) -> None:
        """Puts new values into some rows and forgets their Adam moments."""
        with torch.no_grad():
            for name, value in values.items():
                self.tensors[name][rows] = value
                state = self.adam.state.get(self.tensors[name], {})
                for moment in ("exp_avg", "exp_avg_sq"):
                    if moment in state:
                        state[moment][rows] = 0

    def append(self, values: dict[str, Tensor]) -> None:
        """Adds Gaussians; their Adam moments start at zero."""
        for group in self.adam.param_groups:
            name = group["name"]
            old = self.tensors[name]
            new = torch.cat([old.detach(), values[name]]).requires_grad_()
            state = self.adam.state.pop(old, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:
                    state[moment] = torch.cat([state[moment], torch.zeros_like(values[name])])
            if state:
                self.adam.state[new] = state
            group["params"] = [new]
            self.tensors[name] = new

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on to the same result."""
        return {
            "tensors": {name: tensor.detach() for name, tensor in self.tensors.items()},
            "adam": self.adam.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state, of whatever number of Gaussians."""
        for group in self.adam.param_groups:
            tensor = state["tensors"][group["name"]].clone().requires_grad_()
            group["params"] = [tensor]
            self.tensors[group["name"]] = tensor
        self.adam.state.clear()
        self.adam.load_state_dict(state["adam"])
