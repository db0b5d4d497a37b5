"""Cameras of held-out photos, aligned to a finished scene before it is measured on them.

Where cameras were refined with the scene, those of held-out photos are left behind: a render from them is shifted against
the photo by a pixel or two, whatever the scene is worth. NeRF-- (arXiv:2102.07064), BARF (arXiv:2104.06405) and InstantSplat
(arXiv:2403.20309) therefore optimize each test camera on its own photo, the scene fixed, before they measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from sparse3d.optimize.cameras import RefinedCameras, Trust
from sparse3d.optimize.losses import photometric_loss, prepare_target
from sparse3d.optimize.schedules import exponential
from sparse3d.render import Look, Rasterizer, rasterizer
from sparse3d.types import Gaussians, View

_STEPS = 150
_COARSE = 50  # of these at half the size
_RATE_DEG = (0.05, 5e-4)  # learning rate at the first and the last step, degrees of view
_TRUST = Trust(angle_deg=2.0, focal=0.0)  # the focal length was found with the other views
_SSIM_WEIGHT = 0.2


def aligner(gaussians: Gaussians, look: Look, backend: str = "auto") -> Callable[[View], View]:
    """`align_view` for one scene, drawn by the renderer of this name."""
    draw = rasterizer(backend)
    return lambda view: align_view(view, gaussians, look, draw)


def align_view(view: View, gaussians: Gaussians, look: Look, rasterize: Rasterizer) -> View:
    """The view with its camera moved to where the scene looks most like the photo. The scene stays as it is.

    Args:
        view: A held-out photo, its camera about right.
        gaussians: The scene.
        look: How it is drawn.
        rasterize: The renderer.
    """
    means, quats, sh = (tensor.detach() for tensor in (gaussians.means, gaussians.quats, gaussians.sh))
    scales, opacities = gaussians.scales.detach(), gaussians.opacities.detach()
    camera = RefinedCameras([replace(view, generated=False)], gaussians, _TRUST, common_motion=True)
    small = view.resized(-(-view.height // 2), -(-view.width // 2))
    for step in range(_STEPS):
        if step in (0, _COARSE):
            current = small if step < _COARSE else view
            target = prepare_target(current.image)
        w2c, K = camera.camera(0, current.height, current.width)
        rgb, *_ = rasterize(
            means,
            quats,
            scales,
            opacities,
            sh,
            w2c,
            K,
            current.width,
            current.height,
            sh_degree=gaussians.sh_degree,
            antialiased=look.antialiased,
            background=torch.tensor(look.background),
            near_plane=look.near_plane,
        )
        photometric_loss(rgb.squeeze(0).permute(2, 0, 1), target, _SSIM_WEIGHT, current.mask).backward()
        camera.step(0, math.radians(exponential(*_RATE_DEG, step, _STEPS)), gaussians, gaussians.sh_degree)
    return replace(camera.refined()[0], generated=view.generated)
