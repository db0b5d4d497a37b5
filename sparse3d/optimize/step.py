"""One step of the optimization: draw a view, compare it with its photo, move the Gaussians.

`autograd_step` does it with any rasterizer; `compiled_step` means the same, by the compiled kernels alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.kernels.cpu_loss import loss_and_gradient
from sparse3d.kernels.cpu_train import Drawn, Dropout
from sparse3d.optimize.exposure import Exposure
from sparse3d.optimize.losses import Target, photometric_loss, prepare_target
from sparse3d.optimize.parameters import NAMES, Parameters
from sparse3d.optimize.trusted import Trusted
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Gaussians, View


@dataclass(frozen=True)
class Shot:
    """A photo to compare with and the camera to draw it from, where the Gaussians are."""

    target: Tensor | Target  # (3, H, W), or what `prepare_target` made of that
    mask: Tensor | None  # (H, W) bool, True where the photo counts
    w2c: Tensor  # (1, 4, 4)
    K: Tensor  # (1, 3, 3), pixels
    height: int
    width: int
    seen_as: (
        Exposure | Trusted | None
    )  # what is compared instead of the render: with the photo's exposure, or as far as a drawn view is trusted

    @property
    def decays(self) -> bool:
        """Whether what is drawn loses opacity: where a photo can hold it up. A drawn view, trusted a little here and there, cannot."""
        return not isinstance(self.seen_as, Trusted)

    @classmethod
    def of(cls, view: View, gain: Tensor | None, device: torch.device) -> Shot:
        """That of a view whose photo has a gain (3,). Drawn views have none."""
        image = view.image.to(device)
        seen_as: Exposure | Trusted | None = None
        if view.confidence is not None:
            seen_as = Trusted.of(image, view.confidence.to(device))
        elif gain is not None:
            seen_as = Exposure.of(gain, image)
        return cls(
            prepare_target(image),
            None if view.mask is None else view.mask.to(device),
            view.cameras.w2c.to(device),
            view.cameras.K.to(device),
            view.height,
            view.width,
            seen_as,
        )


def autograd_step(
    rasterize: Rasterizer,
    parameters: Parameters,
    shot: Shot,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
) -> Tensor:
    """Moves the Gaussians by the gradients that PyTorch finds. A GPU is nowhere waited for.

    Args:
        rasterize: The renderer.
        parameters: The Gaussians; changed.
        shot: What to compare with. Its camera gets gradients where it asks for them.
        sh_degree: Of the spherical harmonics in use.
        dropout: Who takes part; all when None.
        config: Settings of the loss and of the opacities' decay.
        look: How the scene is drawn.

    Returns:
        The loss before the step, a scalar.
    """
    loss = _loss(rasterize, parameters.gaussians, shot, sh_degree, dropout, config, look)
    parameters.adam.zero_grad()
    loss.backward()
    gradient = parameters.tensors["logit_opacities"].grad
    assert gradient is not None
    drawn = gradient != 0
    parameters.adam.step(drawn)
    if shot.decays:
        _decay_opacities(parameters, drawn)
    return loss.detach()


def camera_gradients(
    rasterize: Rasterizer, parameters: Parameters, shot: Shot, sh_degree: int, config: OptimizeConfig, look: Look
) -> None:
    """Leaves the gradients of the loss on what the shot's camera is made of, and none on the Gaussians. Arguments as above."""
    found = parameters.gaussians
    still = Gaussians(*(getattr(found, field.name).detach() for field in fields(found)))
    _loss(rasterize, still, shot, sh_degree, None, config, look).backward()


def _loss(
    rasterize: Rasterizer,
    current: Gaussians,
    shot: Shot,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
) -> Tensor:
    opacities = current.opacities
    if dropout is not None:
        opacities = opacities * (dropout.kept * dropout.factor)
    rgb, *_ = rasterize(
        current.means,
        current.quats,
        current.scales,
        opacities,
        current.sh,
        shot.w2c,
        shot.K,
        shot.width,
        shot.height,
        sh_degree=sh_degree,
        antialiased=look.antialiased,
        background=background_of(look, current.means.device),
        near_plane=look.near_plane,
    )
    image = rgb.squeeze(0).permute(2, 0, 1)
    return photometric_loss(
        image if shot.seen_as is None else shot.seen_as.applied(image), shot.target, config.ssim_weight, shot.mask
    )


@lru_cache(maxsize=8)
def background_of(look: Look, device: torch.device) -> Tensor:
    """The colour behind everything. (3,)"""
    return torch.tensor(look.background, device=device)


def compiled_step(
    parameters: Parameters,
    shot: Shot,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
) -> float:
    """`autograd_step` with `kernels.cpu.rasterize`: the same arguments, the same result but for rounding."""
    assert isinstance(shot.target, Target)
    drawn = Drawn(
        parameters.trained,
        shot.w2c.detach().contiguous(),
        shot.K.detach().contiguous(),
        shot.width,
        shot.height,
        sh_degree=sh_degree,
        near_plane=look.near_plane,
        antialiased=look.antialiased,
        background=background_of(look, torch.device("cpu")),
        dropout=dropout,
    )
    compare = loss_and_gradient if shot.seen_as is None else shot.seen_as.loss_and_gradient
    loss, gradient = compare(drawn.rgb[0].permute(2, 0, 1), shot.target, config.ssim_weight, shot.mask)
    adam = parameters.adam
    adam.steps += 1
    drawn.update(
        gradient.permute(1, 2, 0)[None],
        [adam.rates[name] for name in NAMES],
        adam.steps,
        opacity_decay=parameters.decay if shot.decays else None,
    )
    return loss


def _decay_opacities(parameters: Parameters, drawn: Tensor) -> None:
    """Multiplies the opacities that took part in the step by their decay (Binocular3DGS, arXiv:2410.18822, section 3.3).

    The paper multiplies all of them at each step. With three views that is the same; with fifty, a Gaussian that ten views see
    would fade five times as fast as they can hold it up.
    """
    with torch.no_grad():
        logits = parameters.tensors["logit_opacities"]
        decayed = torch.logit(logits.sigmoid().mul_(parameters.decay), eps=1e-7)
        logits.addcmul_(decayed.sub_(logits), drawn.to(logits.dtype))
