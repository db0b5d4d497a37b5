"""One step of the optimization: draw a view, compare it with its photo, move the Gaussians.

`autograd_step` does it with any rasterizer; `compiled_step` means the same, by the compiled kernels alone.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.kernels.cpu_loss import loss_and_gradient
from sparse3d.kernels.cpu_train import Drawn, Dropout
from sparse3d.optimize.exposure import Exposure
from sparse3d.optimize.losses import Target, photometric_loss
from sparse3d.optimize.parameters import NAMES, Parameters
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Gaussians, View


def autograd_step(
    rasterize: Rasterizer,
    parameters: Parameters,
    view: View,
    camera: tuple[Tensor, Tensor],
    target: Tensor | Target,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
    exposure: Exposure | None = None,
) -> float:
    """Moves the Gaussians by the gradients that PyTorch finds.

    Args:
        rasterize: The renderer.
        parameters: The Gaussians; changed.
        view: The view, for its size and mask.
        camera: World to camera (1, 4, 4) and K (1, 3, 3), which get gradients where they ask for them.
        target: The view's image, or what `prepare_target` made of that.
        sh_degree: Of the spherical harmonics in use.
        dropout: Who takes part; all when None.
        config: Settings of the loss and of the opacities' decay.
        look: How the scene is drawn.
        exposure: What the photo makes of the scene's colours; None: nothing.

    Returns:
        The loss before the step.
    """
    loss = _loss(rasterize, parameters.gaussians, view, camera, target, sh_degree, dropout, config, look, exposure)
    parameters.adam.zero_grad()
    loss.backward()
    gradient = parameters.tensors["logit_opacities"].grad
    assert gradient is not None
    drawn = gradient != 0
    parameters.adam.step(drawn)
    _decay_opacities(parameters, drawn)
    return float(loss.detach())


def camera_gradients(
    rasterize: Rasterizer,
    parameters: Parameters,
    view: View,
    camera: tuple[Tensor, Tensor],
    target: Tensor | Target,
    sh_degree: int,
    config: OptimizeConfig,
    look: Look,
    exposure: Exposure | None = None,
) -> None:
    """Leaves the gradients of the loss on what `camera` is made of, and none on the Gaussians. Arguments as above."""
    found = parameters.gaussians
    still = Gaussians(*(getattr(found, field.name).detach() for field in fields(found)))
    _loss(rasterize, still, view, camera, target, sh_degree, None, config, look, exposure).backward()


def _loss(
    rasterize: Rasterizer,
    current: Gaussians,
    view: View,
    camera: tuple[Tensor, Tensor],
    target: Tensor | Target,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
    exposure: Exposure | None = None,
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
        *camera,
        view.width,
        view.height,
        sh_degree=sh_degree,
        antialiased=look.antialiased,
        background=torch.tensor(look.background),
        near_plane=look.near_plane,
    )
    image = rgb.squeeze(0).permute(2, 0, 1)
    return photometric_loss(
        image if exposure is None else exposure.applied(image), target, config.ssim_weight, view.mask
    )


def compiled_step(
    parameters: Parameters,
    view: View,
    camera: tuple[Tensor, Tensor],
    target: Target,
    sh_degree: int,
    dropout: Dropout | None,
    config: OptimizeConfig,
    look: Look,
    exposure: Exposure | None = None,
) -> float:
    """`autograd_step` with `kernels.cpu.rasterize`: the same arguments, the same result but for rounding."""
    w2c, K = camera
    drawn = Drawn(
        parameters.trained,
        w2c.detach().contiguous(),
        K.detach().contiguous(),
        view.width,
        view.height,
        sh_degree=sh_degree,
        near_plane=look.near_plane,
        antialiased=look.antialiased,
        background=torch.tensor(look.background),
        dropout=dropout,
    )
    compare = loss_and_gradient if exposure is None else exposure.loss_and_gradient
    loss, gradient = compare(drawn.rgb[0].permute(2, 0, 1), target, config.ssim_weight, view.mask)
    adam = parameters.adam
    adam.steps += 1
    drawn.update(
        gradient.permute(1, 2, 0)[None],
        [adam.rates[name] for name in NAMES],
        adam.steps,
        opacity_decay=parameters.decay,
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
