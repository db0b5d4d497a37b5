"""The distance between two points of the scene, as clicked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import viser
from torch import Tensor

from sparse3d.paths import look_at
from sparse3d.render import Draw
from sparse3d.viewer.board import Board, pinhole
from sparse3d.viewer.placement import SCENE_RADIUS

_COLOUR = (255, 60, 120)


class Ruler:
    """Takes two clicks, marks the points that they hit and the line between them; the same for all visitors."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.points: list[Tensor] = []  # (3,) each, world units; at most two
        self.waiting = False  # for a click
        self.on_change: list[Callable[[], None]] = []

    @property
    def length(self) -> float | None:
        """World units; None before both points are there."""
        return float((self.points[1] - self.points[0]).norm()) if len(self.points) == 2 else None

    def begin(self) -> None:
        """Forgets the points and waits for two clicks."""
        for index in range(len(self.points)):
            self._board.server.scene.remove_by_name(f"/ruler/{index}")
        if len(self.points) == 2:
            self._board.server.scene.remove_by_name("/ruler/line")
            self._board.server.scene.remove_by_name("/ruler/label")
        self.points = []
        if not self.waiting:
            self.waiting = True
            self._board.server.scene.on_click()(self._clicked)
        self._tell()

    def label(self, text: str) -> None:
        """Writes the length beside the line."""
        if len(self.points) == 2:
            middle = self._board.placement.points(torch.stack(self.points).mean(dim=0)[None])[0]
            self._board.server.scene.add_label("/ruler/label", text, position=middle)

    def _clicked(self, event: viser.SceneClickEvent) -> None:
        if not self.waiting:
            return
        origin = self._board.placement.world(event.ray_origin)
        point = point_on_ray(
            self._board.splats.draw(self._board.look), torch.from_numpy(origin), torch.tensor(event.ray_direction)
        )
        if point is None:
            event.client.add_notification(
                "Nothing there", "No surface is under that point; click another.", auto_close_seconds=3.0
            )
            return
        scene, index = self._board.server.scene, len(self.points)
        self.points.append(point)
        marks = self._board.placement.points(torch.stack(self.points))
        scene.add_icosphere(f"/ruler/{index}", 0.006 * SCENE_RADIUS, _COLOUR, position=marks[index])
        if len(self.points) == 2:
            self.waiting = False
            scene.remove_click_callback(self._clicked)
            scene.add_line_segments(
                "/ruler/line", marks[None], np.array(_COLOUR, np.uint8), thickness=3.0, thickness_units="screen"
            )
        self._tell()

    def _tell(self) -> None:
        for callback in self.on_change:
            callback()


def point_on_ray(draw: Draw, origin: Tensor, direction: Tensor) -> Tensor | None:
    """Where a ray meets the scene: where less than half of its light is left. (3,) world units; None where it does not."""
    origin, direction = origin.float(), torch.nn.functional.normalize(direction.float(), dim=0)
    helper = torch.eye(3)[int(direction.abs().argmin())]
    c2w = look_at(origin, origin + direction, helper)
    # three pixels, of which the middle one is seen along the ray, each a twentieth of a degree wide
    depth = draw(pinhole(c2w, float(np.radians(0.15)), 3, 3)).median_depth[0, 1, 1]
    return origin + float(depth) * direction if float(depth) > 0 else None
