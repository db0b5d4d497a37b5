"""What every panel of the page works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import viser
from torch import Tensor

from sparse3d.geometry import fitted_size
from sparse3d.render import Look
from sparse3d.types import Cameras, PosedViews
from sparse3d.viewer.placement import Placement
from sparse3d.viewer.splat_layer import SplatLayer

PICTURE_SIZE = 1280  # longest side of what is rendered for a visitor, pixels


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

    def camera_of(self, client: viser.ClientHandle, height: int | None = None, width: int | None = None) -> Cameras:
        """What a visitor looks at, as a camera of ours; of the size of their window, or smaller, unless one is given."""
        if height is None or width is None:
            sizes = client.camera.image_height, client.camera.image_width
            height, width = fitted_size(max(sizes[0], 1), max(sizes[1], 1), PICTURE_SIZE)
        c2w = self.placement.c2w(client.camera.wxyz, client.camera.position)
        return pinhole(c2w, float(client.camera.fov), height, width)


def pinhole(c2w: Tensor, fov: float, height: int, width: int) -> Cameras:
    """A camera with square pixels and the principal point in the middle; `fov` is the vertical angle in radians."""
    f = height / 2 / float(np.tan(fov / 2))
    K = torch.tensor([[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(c2w[None].float(), K[None], height, width)
