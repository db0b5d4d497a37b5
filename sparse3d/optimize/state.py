"""All that changes over the steps, saved and resumed together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.optimize.cameras import RefinedCameras
from sparse3d.optimize.checkpoint import load_checkpoint, save_checkpoint
from sparse3d.optimize.parameters import Parameters
from sparse3d.optimize.regularize import Regularizer


@dataclass
class State:
    """An optimization after some steps."""

    parameters: Parameters
    cameras: RefinedCameras | None  # None: they stay as they are
    gains: Tensor | None  # (V, 3) of the photos' exposures; None: they have none
    generator: torch.Generator  # of the order of the views
    draws: torch.Generator  # of what is drawn for each Gaussian, where these are
    regularizer: Regularizer | None = None  # None: photos alone
    step: int = 0  # steps done
    order: list[int] = field(default_factory=list)  # views that the round still has to come to, last first

    def save(self, path: Path, key: str, spent_s: float) -> None:
        """Writes a checkpoint.

        Args:
            path: File.
            key: Content hash that `resume` has to be given.
            spent_s: Seconds that the steps took so far.
        """
        saved = {
            "key": key,
            "spent_s": spent_s,
            "step": self.step,
            "order": self.order,
            "gains": self.gains,
            "generator": self.generator.get_state(),
            "draws": self.draws.get_state(),
            "parameters": self.parameters.state_dict(),
        }
        if self.cameras is not None:
            saved["cameras"] = self.cameras.state_dict()
        if self.regularizer is not None:
            saved["regularizer"] = self.regularizer.state_dict()
        save_checkpoint(path, saved)

    def resume(self, path: Path, key: str) -> float | None:
        """Goes on from a checkpoint of the same key.

        Returns:
            Seconds that its steps took; None where there is no such checkpoint, and nothing is changed.
        """
        saved = load_checkpoint(path, key)
        if saved is None:
            return None
        self.parameters.load_state_dict(saved["parameters"])
        if self.cameras is not None:
            self.cameras.load_state_dict(saved["cameras"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(saved["regularizer"])
        self.gains = saved["gains"]
        self.generator.set_state(saved["generator"])
        self.draws.set_state(saved["draws"])
        self.step, self.order = saved["step"], list(saved["order"])
        return float(saved["spent_s"])
