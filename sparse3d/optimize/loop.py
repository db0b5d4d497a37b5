"""The optimization loop: one view a step, L1 + D-SSIM, Adam."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.config import OptimizeConfig
from sparse3d.errors import UserError
from sparse3d.geometry import near_plane
from sparse3d.kernels import cpu
from sparse3d.kernels.cpu_train import Dropout
from sparse3d.optimize import mcmc
from sparse3d.optimize.cameras import RefinedCameras, Trust, rate_at, refines_cameras
from sparse3d.optimize.exposure import described, find_gains
from sparse3d.optimize.losses import Target
from sparse3d.optimize.parameters import Parameters
from sparse3d.optimize.regularize import Fitting, Regularizer
from sparse3d.optimize.schedules import dropout_at, exponential, sh_degree_at, shrink_at
from sparse3d.optimize.state import State
from sparse3d.optimize.step import Shot, autograd_step, camera_gradients, compiled_step
from sparse3d.optimize.units import means_unit
from sparse3d.progress import StageReporter
from sparse3d.render import Look, Rasterizer
from sparse3d.types import Gaussians, View
from sparse3d.valid_pixels import check_masks, with_numbers

_REPORT_EVERY = 10
_CAMERAS_EVERY = 4  # steps of which one moves cameras, four times as far: they cost a pass of their own


@dataclass(frozen=True)
class Fit:
    """What `optimize` made."""

    gaussians: Gaussians
    views: tuple[View, ...]  # the same objects as were given, or the views with their refined cameras
    camera_changes: dict[str, float] | None = None  # how far the cameras went; None: they were not refined


def look_of(views: tuple[View, ...], config: OptimizeConfig) -> Look:
    """How the scene of these views is drawn: black, white or the views' mean colour (where not masked) behind it."""
    if config.background == "mean":
        shown = with_numbers([view for view in views if not view.generated] or views, lambda _: None)
        means = [view.image.mean((1, 2)) if view.mask is None else view.image[:, view.mask].mean(1) for view in shown]
        means = [mean for mean in means if mean.isfinite().all()] or [torch.full((3,), 0.5)]  # masks may leave nothing
        red, green, blue = torch.stack(means).mean(dim=0).tolist()
    else:
        red = green = blue = 1.0 if config.background == "white" else 0.0
    near = near_plane(torch.stack([view.c2w for view in views]))
    return Look((red, green, blue), config.antialiased, near)


def optimize(
    gaussians: Gaussians,
    views: tuple[View, ...],
    config: OptimizeConfig,
    rasterize: Rasterizer,
    *,
    generator: torch.Generator,
    progress: StageReporter,
    checkpoint: Path | None = None,
    key: str = "",
    on_step: Callable[[int, Gaussians], None] | None = None,
    estimated: bool = False,
    guessed: Tensor | None = None,
    weights: Sequence[float] | None = None,
    device: torch.device | None = None,
    regularizer: Regularizer | None = None,
) -> Fit:
    """Gaussians fitted to the views (3DGS, arXiv:2308.04079, section 5, without its densification by default).

    Few views are memorized quickly, so by default no Gaussian is added, each step leaves a random share out
    (dropout, arXiv:2504.09491) and opacities decay unless the views hold them up (arXiv:2410.18822).

    Args:
        gaussians: Where to start.
        views: At least one view with its camera.
        config: Steps, learning rates, regularization.
        rasterize: The renderer.
        generator: All randomness of the stage; on the CPU.
        progress: Told loss and count every few steps.
        checkpoint: File to save to and resume from; None saves nothing.
        key: Content hash that a checkpoint must have to be resumed.
        on_step: Called after each step with its number and the Gaussians; for a live view.
        guessed: (N,) bool, Gaussians whose depth is a guess (`init.Origin.GUESSED`); none when None.
        weights: How much each view counts, in (0, 1]: the share of the rounds that it takes part in. All count fully when None.
        estimated: The cameras are estimates, which `config.refine_cameras` "auto" refines with the scene.
        device: Where the Gaussians are while they are optimized, and the photos with them; where they were given when None.
            A GPU is not waited for within a step, except by the camera of every fourth one where cameras are refined.
        regularizer: A prior that takes steps of its own between those with photos, which stay the same as without it.

    Returns:
        The Gaussians after the last step, faint ones removed, and the views with their cameras.

    Raises:
        UserError: nothing to optimize, or nothing left, or views without a pixel to compare with.
    """
    if len(gaussians) == 0:
        raise UserError(
            "there is nothing to optimize: initialization gave no Gaussians. The photos may not overlap; try --set init.method=sfm"
        )
    views = with_numbers(views, progress.warning)
    check_masks(views, progress.warning)
    device = gaussians.means.device if device is None else device
    gaussians = gaussians.to(torch.device("cpu"))  # as the views are, until they are optimized
    unit = means_unit(gaussians, views, config)
    look = look_of(views, config)
    state = State(
        Parameters(gaussians.to(device), config, unit, None if guessed is None else guessed.to(device)),
        RefinedCameras(views, gaussians, Trust(config.cameras_max_deg, config.cameras_max_focal))
        if refines_cameras(config, estimated)
        else None,
        find_gains(gaussians, views, config, rasterize, look),
        generator,
        generator if device.type == "cpu" else torch.Generator(device).manual_seed(generator.initial_seed()),
        regularizer,
    )
    spent_s = state.resume(checkpoint, key) if checkpoint else None
    if spent_s is not None:
        progress.note(f"resuming at step {state.step} of {config.steps}")
    began = time.monotonic() - (spent_s or 0.0)

    parameters, cameras, gains = state.parameters, state.cameras, state.gains
    fitting = Fitting(parameters, rasterize, config, look)
    shots: list[Shot] = []
    shrunk = 0  # by how much the pictures in `shots` are reduced
    progress.start(f"{len(parameters)} Gaussians, {len(views)} views", total=config.steps)
    while state.step < config.steps:
        if not state.order:
            state.order = round_of_views(len(views), weights, generator)
        if shrink_at(state.step, config) != shrunk:
            shrunk = shrink_at(state.step, config)
            shots = _at_size(views, gains, shrunk, device)
        loss = _step(state, shots, config, rasterize, look, unit)
        state.step = fitting.step = done = state.step + 1
        if regularizer is not None:
            regularizer.after(fitting)
        if done % _REPORT_EVERY == 0 or done == config.steps:
            told = {} if regularizer is None else {"prior_calls": float(regularizer.calls)}
            progress.step(done, config.steps, "", loss=float(loss), gaussians=len(parameters), **told)
        if on_step is not None:
            on_step(done, parameters.gaussians)
        if checkpoint is not None and done % config.checkpoint_interval == 0 and done < config.steps:
            state.save(checkpoint, key, time.monotonic() - began)
        if config.time_limit_s is not None and time.monotonic() - began > config.time_limit_s:
            progress.warning(
                f"stopped at step {done} of {config.steps}: optimize.time_limit_s = {config.time_limit_s:g} is reached"
            )
            break
    fitted = _without_faint(parameters.gaussians.to(torch.device("cpu")), config.prune_opacity)
    if gains is not None and (changes := described(views, gains)):
        progress.note(f"photos of another exposure or white balance, made up for: {changes}")
    return Fit(fitted, views) if cameras is None else Fit(fitted, cameras.refined(), cameras.summary())


def round_of_views(count: int, weights: Sequence[float] | None, generator: torch.Generator) -> list[int]:
    """Each view once, in random order; of those with a weight below 1 only so large a share of the rounds."""
    while True:
        order: list[int] = torch.randperm(count, generator=generator).tolist()
        if weights is None or min(weights) >= 1:
            return order
        drawn = torch.rand(count, generator=generator).tolist()
        if chosen := [view for view in order if drawn[view] < weights[view]]:
            return chosen


def _at_size(views: tuple[View, ...], gains: Tensor | None, shrunk: int, device: torch.device) -> list[Shot]:
    """The views reduced by a whole factor, on a device."""
    small = [view.resized(-(-view.height // shrunk), -(-view.width // shrunk)) for view in views]
    return [Shot.of(view, None if gains is None else gains[index], device) for index, view in enumerate(small)]


def _step(
    state: State,
    shots: Sequence[Shot],
    config: OptimizeConfig,
    rasterize: Rasterizer,
    look: Look,
    unit: float,
) -> float | Tensor:
    """The next view: render, compare, update. Returns the loss."""
    parameters, cameras, step, index = state.parameters, state.cameras, state.step, state.order.pop()
    means_lr = exponential(config.means_lr, config.means_lr_final, step, config.steps) * unit
    parameters.set_learning_rate("means", means_lr)
    share = dropout_at(step, config)
    dropout = _dropout(len(parameters), share, state.draws) if share > 0 else None
    shot = shots[index]
    degree = sh_degree_at(step, config)
    rate = 0.0 if cameras is None or step % _CAMERAS_EVERY else _CAMERAS_EVERY * rate_at(step, config)
    moves = cameras is not None and rate > 0
    if cameras is not None:
        w2c, K = cameras.camera(index, shot.height, shot.width)
        shot = replace(shot, w2c=w2c if moves else w2c.detach(), K=K)
    whole = (
        cameras is not None and moves and cameras.focal_unit > 0
    )  # focal lengths want the gradient of the colours too
    loss: float | Tensor
    if rasterize is cpu.rasterize and isinstance(shot.target, Target) and not whole:
        if moves:
            camera_gradients(rasterize, parameters, shot, degree, config, look)
        loss = compiled_step(parameters, shot, degree, dropout, config, look)
    else:
        loss = autograd_step(rasterize, parameters, shot, degree, dropout, config, look)
    if cameras is not None:
        cameras.step(index, rate, parameters.gaussians, degree)
    if config.strategy == "mcmc" and step < config.refine_stop * config.steps:
        if step > 0 and step % config.refine_interval == 0:
            mcmc.refine(parameters, config, state.draws)
        mcmc.explore(parameters, config, means_lr, state.draws)
    return loss


def _dropout(count: int, share: float, generator: torch.Generator) -> Dropout:
    """Leaves out a random share of the Gaussians, a whole multiple of 2^-16; the factor keeps the mean of opacities."""
    # four numbers from each draw of 64 bits, which takes the generator as long as one
    draws = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    return Dropout(draws.view(torch.int16)[:count] >= round(2**16 * share) - 2**15, 1 / (1 - share))


def _without_faint(gaussians: Gaussians, opacity: float) -> Gaussians:
    """The Gaussians that show: finite and above an opacity.

    Raises:
        UserError: none is.
    """
    with torch.no_grad():
        finite = torch.isfinite(gaussians.means).all(1) & torch.isfinite(gaussians.log_scales).all(1)
        keep = finite & (gaussians.opacities > opacity)
        if not keep.any():
            raise UserError(
                f"no Gaussian is left above optimize.prune_opacity = {opacity:g}: the views hold none of them up. The "
                "cameras may not belong to these photos; else raise optimize.opacity_decay towards 1"
            )
        parts = (gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.logit_opacities, gaussians.sh)
        return Gaussians(*(part.detach()[keep].contiguous() for part in parts))
