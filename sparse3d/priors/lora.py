"""A low-rank addition (LoRA, arXiv:2106.09685) to the attention of a network of diffusers, by peft; with a token that tells the camera."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import require

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_NAME = "renders"


def has_attention(network: Any) -> bool:
    """Whether there is something to add to: the network takes adapters, and has attention."""
    return hasattr(network, "add_adapter") and any(name.endswith(_ATTENTION) for name, _ in network.named_modules())


class Lora:
    """A `LoraHandle`. It begins as the network: the second of each pair of matrices is zero, and so is the camera's token.

    ProlificDreamer (arXiv:2305.16213) tells the camera as a class embedding, for which published networks have no place: here 4x4
    camera to world, seen from the first photo, becomes one more token of the context.
    """

    def __init__(self, network: Any, context: int, *, rank: int = 4, seed: int = 0) -> None:
        """Adds to a network, once, and leaves it switched off.

        Args:
            network: Of diffusers, with attention; its own weights are frozen.
            context: Numbers in a token of the context.
            rank: Of the matrices that are added.
            seed: Of their first values.
        """
        peft = require("peft", extra="diffusion", purpose="variational score distillation")
        from diffusers.training_utils import cast_training_params

        self.network = network.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network.add_adapter(
                peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(_ATTENTION)),
                adapter_name=_NAME,
            )
        cast_training_params(network, torch.float32)  # steps of 1e-4 would be lost in 16 bits
        device = next(network.parameters()).device
        self.camera = torch.nn.Linear(16, context, device=device)
        torch.nn.init.zeros_(self.camera.weight)
        torch.nn.init.zeros_(self.camera.bias)
        self.active = False
        self.off()

    def parameters(self) -> list[Tensor]:
        """What is trained, float32."""
        return [*(value for value in self.network.parameters() if value.requires_grad), *self.camera.parameters()]

    def on(self) -> None:
        """The network is that with the addition."""
        self.network.enable_adapters()
        self.active = True

    def off(self) -> None:
        """The network is the frozen one, exactly."""
        self.network.disable_adapters()
        self.active = False

    def with_camera(self, context: Tensor, c2w: Tensor) -> Tensor:
        """The context (n, tokens, d) with one token more, of the cameras (n, 4, 4)."""
        token = self.camera(c2w.flatten(1).to(self.camera.weight))
        return torch.cat([context, token[:, None].to(context)], dim=1)
