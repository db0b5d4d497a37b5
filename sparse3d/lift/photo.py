"""A single photo: whether it can be lifted, its camera, its depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.config import LiftConfig
from sparse3d.errors import UserError
from sparse3d.lift.depth import DepthModel, PhotoDepth
from sparse3d.lift.depth_file import depth_of_file
from sparse3d.lift.depth_networks import NetworkDepth
from sparse3d.lift.depth_packages import by_package
from sparse3d.lift.geometric import geometric_depth
from sparse3d.lift.horizon import DEFAULT_FOV, focal_of, segments
from sparse3d.models import store
from sparse3d.models.registry import lookup
from sparse3d.types import Photo

NETWORK = "depth-anything-v2-small"
_LEAST_SIDE = 32  # pixels
_SAME = 0.02  # mean difference of the outer columns of a panorama, which meet


def check_photo(photo: Photo) -> None:
    """Refuses what no pinhole camera took, and what is too small.

    Raises:
        UserError: it is a panorama, or a side has fewer than 32 pixels.
    """
    height, width = photo.image.shape[1:]
    if min(height, width) < _LEAST_SIDE:
        raise UserError(f"{photo.name} is {width}x{height} pixels: needed {_LEAST_SIDE} or more on each side")
    meets = float((photo.image[..., 0] - photo.image[..., -1]).abs().mean()) < _SAME
    if abs(width / height - 2) < 0.01 and meets and float(photo.image.std()) > _SAME:
        raise UserError(
            f"{photo.name} looks like an equirectangular panorama (2:1, and its left edge goes on at its right one), which no pinhole camera "
            "takes. Cut perspective views out of it, and give one of them here or several to sparse3d recon"
        )


def depth_and_camera(
    photo: Photo, config: LiftConfig, network: DepthModel | None, warn: Callable[[str], None]
) -> tuple[PhotoDepth, Tensor, str]:
    """Depth of a photo, its intrinsics, and where these come from.

    The focal length is the one given or EXIF's, else the depth network's, else that of vanishing points, else a horizontal field of view of 55
    degrees. Depth is that of the file given, else the network's (`network_of`), else geometric.

    Returns:
        Depth; K (3, 3) in pixels of the photo; a few words.

    Raises:
        UserError: the depth map or the network cannot be used.
    """
    image = photo.image
    height, width = image.shape[1:]
    told = float(photo.K[0, 0]) if photo.intrinsics != "default" else None
    found = _told_depth(image, told, config, network, warn)
    if told is not None:
        K, source = photo.K, {"exif": "EXIF"}.get(photo.intrinsics, photo.intrinsics)
    else:
        focal, source = found.focal if found is not None else None, found.source if found is not None else ""
        if focal is None:
            focal, source = focal_of(segments(image), height, width), "vanishing points"
        if focal is None:
            focal = 0.5 * width / math.tan(math.radians(DEFAULT_FOV) / 2)
            source = f"a supposed field of view of {DEFAULT_FOV:g} degrees"
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    if found is None:
        found = geometric_depth(image, K)
        warn(
            "depth is guessed from the picture's geometry (ground, walls, sky): a stage set, right in order and not in measure. For better give a "
            f"depth map with --depth, or fetch a network with: sparse3d models fetch {NETWORK}"
        )
    if photo.mask is not None:
        found = replace(found, depth=torch.where(photo.mask, found.depth, torch.inf))
    return found, K, source


def network_of(config: LiftConfig) -> DepthModel | None:
    """The depth network that the settings name, or the default one where its weights are here; None for geometric depth.

    Raises:
        UserError: it cannot be loaded.
    """
    if config.depth_model == "geometric":
        return None
    if (found := by_package(config.depth_model)) is not None:
        return found
    if config.depth_model not in ("auto", NETWORK):
        return NetworkDepth.load(config.depth_model)
    folder = store.path(NETWORK) if config.depth_model == "auto" else store.require(NETWORK)
    return None if folder is None else NetworkDepth.load(str(folder), lookup(NETWORK).licence)


def _told_depth(
    image: Tensor, focal: float | None, config: LiftConfig, network: DepthModel | None, warn: Callable[[str], None]
) -> PhotoDepth | None:
    """By file or network; None where the picture's geometry has to do."""
    if config.depth:
        return depth_of_file(Path(config.depth), image.shape[1], image.shape[2], warn)
    return None if network is None else network(image, focal)
