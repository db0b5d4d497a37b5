"""A box that the scene is cut to. Nothing is deleted: files keep all Gaussians."""

from __future__ import annotations

import numpy as np
import torch
import viser

from sparse3d.viewer.board import Board
from sparse3d.viewer.latest import Latest
from sparse3d.viewer.placement import SCENE_RADIUS
from sparse3d.viewer.splat_layer import Box

_EDGES = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]


def add_crop_panel(board: Board) -> None:
    """Switch, centre and size of the box; the centre can be dragged in the scene. World units along world axes."""
    gui, scene = board.server.gui, board.server.scene
    if len(board.splats.all) == 0:
        return
    lower, upper = _extent(board)
    with gui.add_folder("Crop", expand_by_default=False):
        on = gui.add_checkbox("Crop box", False)
        centre = gui.add_vector3("Box centre", tuple((lower + upper) / 2), step=0.001)
        size = gui.add_vector3("Box size", tuple(upper - lower), min=(0.0, 0.0, 0.0), step=0.001)
    handle = scene.add_transform_controls(
        "/crop",
        scale=0.15 * SCENE_RADIUS,
        disable_rotations=True,
        disable_sliders=True,
        depth_test=False,
        visible=False,
    )

    def box() -> Box:
        middle, half = torch.tensor(centre.value), torch.tensor(size.value) / 2
        return (middle - half).float(), (middle + half).float()

    def draw() -> None:
        corners = board.placement.points(torch.stack(box()))
        points = np.array([[corners[index >> axis & 1, axis] for axis in range(3)] for index in range(8)])
        scene.add_line_segments(
            "/crop_box",
            points[np.array(_EDGES)],
            (255, 60, 120),
            thickness=2.0,
            thickness_units="screen",
            visible=on.value,
        )
        handle.visible = on.value

    latest = Latest(board.splats.crop, pause_s=0.2)

    def changed(_: object) -> None:
        draw()
        latest.give(box() if on.value else None)

    def placed(_: object) -> None:
        handle.position = board.placement.points(torch.tensor(centre.value)[None])[0]
        changed(None)

    on.on_update(placed)
    centre.on_update(placed)
    size.on_update(changed)

    @handle.on_update
    def _(_: viser.TransformControlsEvent) -> None:
        x, y, z = board.placement.world(handle.position)
        centre.value = (float(x), float(y), float(z))
        changed(None)


def _extent(board: Board) -> tuple[np.ndarray, np.ndarray]:
    """Around all but the outermost hundredth of the centres, rounded to what can be read. (3,) each, world units"""
    means = board.splats.all.means.cpu().double().numpy()
    means = means[np.isfinite(means).all(axis=1)]
    lower, upper = np.quantile(means, 0.01, axis=0), np.quantile(means, 0.99, axis=0)
    digits = 3 - int(np.floor(np.log10(max(float((upper - lower).max()), 1e-9))))
    return np.round(lower, digits), np.round(upper, digits)
