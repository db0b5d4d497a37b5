"""What every panel of the page works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import viser
from torch import Tensor

from sparse3d.render import Look
from sparse3d.types import Cameras, PosedViews
from sparse3d.viewer.placement import SCENE_RADIUS, Placement
from sparse3d.viewer.splat_layer import SplatLayer

PICTURE_SIZE = 1280  # longer side of screenshots, pixels


@dataclass
class Board:
    """One scene on one page; its parts are shared by all visitors."""

    server: viser.ViserServer
    views: PosedViews
    placement: Placement
    splats: SplatLayer
    look: Look  # its background is the one that the page shows now
    folder: Path | None  # where camera paths and films are kept; None: they only go to the visitor
    metric: bool  # the world unit is the metre
    metres: float | None = None  # in a world unit, once somebody has said so

    def set_background(self, colour: tuple[float, float, float]) -> None:
        """Another colour behind the scene, sRGB in [0, 1]; films and screenshots get it too."""
        self.look = Look(colour, self.look.antialiased, self.look.near_plane)
        pixel = np.round(255 * np.clip(colour, 0, 1)).astype(np.uint8)
        self.server.scene.set_background_image(np.broadcast_to(pixel, (2, 2, 3)).copy())

    def length(self, world_units: float) -> str:
        """A length for people."""
        if self.metres is not None:
            return f"{world_units * self.metres:.4g} m"
        return f"{world_units:.4g} {'m' if self.metric else 'units'}"

    def camera_of(self, client: viser.ClientHandle) -> Cameras:
        """What a visitor looks at, as a camera of ours with pictures of `PICTURE_SIZE` in the shape of their window."""
        aspect = min(max(float(client.camera.aspect), 0.1), 10.0)  # width / height
        height, width = round(PICTURE_SIZE / max(aspect, 1.0)), round(PICTURE_SIZE * min(aspect, 1.0))
        c2w = self.placement.c2w(client.camera.wxyz, client.camera.position)
        return pinhole(c2w, float(client.camera.fov), height, width)

    def stand(self, client: viser.ClientHandle, c2w: Tensor, fov: float) -> None:
        """Puts a visitor's camera somewhere, to orbit about a point as far ahead as the scene's middle.

        Args:
            client: The visitor.
            c2w: (4, 4) camera to world.
            fov: Vertical, radians.
        """
        wxyz, position = self.placement.pose(c2w)
        forward = c2w[:3, 2].double().numpy()
        with client.atomic():
            client.camera.wxyz = wxyz
            client.camera.position = position
            client.camera.look_at = position + forward * max(float(-position @ forward), 0.2 * SCENE_RADIUS)
            client.camera.fov = fov


def pinhole(c2w: Tensor, fov: float, height: int, width: int) -> Cameras:
    """A camera with square pixels and the principal point in the middle; `fov` is the vertical angle in radians."""
    f = height / 2 / float(np.tan(fov / 2))
    K = torch.tensor([[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(c2w[None].float(), K[None], height, width)
