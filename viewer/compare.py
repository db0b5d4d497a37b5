"""Several scenes side by side: a page of frames, one viewer in each, whose cameras move together."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import viser

from sparse3d.viewer.board import Board
from sparse3d.viewer.placement import SCENE_RADIUS

PATH = "/compare"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>sparse3d: side by side</title>
<style>html,body{{margin:0;height:100%;background:#14191f;color:#dfe6ec;font:14px system-ui,sans-serif}}
body{{display:flex}}figure{{flex:1;margin:0;display:flex;flex-direction:column;min-width:0}}
figcaption{{padding:4px 10px;height:20px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}}iframe{{flex:1;border:0;border-left:1px solid #000}}</style>
<body>{frames}<script>
for (const frame of document.querySelectorAll("iframe"))
  frame.src = location.protocol + "//" + location.hostname + ":" + frame.dataset.port + "/" + (frame.dataset.token ? "?token=" + frame.dataset.token : "");
</script></body></html>
"""


def compare_page(names: Sequence[str], ports: Sequence[int], token: str | None) -> bytes:
    """The HTML page with a frame for each scene. It is behind the gate, so it may hold the token."""
    frames = "".join(
        f'<figure><figcaption>{html.escape(name)}</figcaption><iframe data-port="{port}" data-token="{html.escape(token or "")}"></iframe></figure>'
        for name, port in zip(names, ports, strict=True)
    )
    return _PAGE.format(frames=frames).encode()


@dataclass
class _Pose:
    """Where all cameras are to be, in world units."""

    c2w: np.ndarray  # (4, 4)
    fov: float


class Linked:
    """Moves the cameras of all visitors of several scenes together: the world's axes and units are taken to be the same."""

    def __init__(self, boards: Sequence[Board]) -> None:
        self._boards = list(boards)
        self._moved: dict[tuple[int, int], _Pose] = {}  # by scene and visitor, what was last set there by us
        for index, board in enumerate(self._boards):
            self._listen(index, board)

    def _listen(self, index: int, board: Board) -> None:
        @board.server.on_client_connect
        def _(client: viser.ClientHandle) -> None:
            @client.camera.on_update
            def _(camera: viser.CameraHandle) -> None:
                pose = _Pose(board.placement.c2w(camera.wxyz, camera.position).double().numpy(), float(camera.fov))
                if not self._is_echo((index, client.client_id), pose, board):
                    self._moved.pop((index, client.client_id), None)
                    self._move_others(index, pose)

        @board.server.on_client_disconnect
        def _(client: viser.ClientHandle) -> None:
            self._moved.pop((index, client.client_id), None)

    def _is_echo(self, key: tuple[int, int], pose: _Pose, board: Board) -> bool:
        """Whether a visitor only reports what was set here: passing that on would go around for ever."""
        was = self._moved.get(key)
        if was is None:
            return False
        unit = SCENE_RADIUS / board.placement.scale
        close = np.abs(was.c2w[:3, 3] - pose.c2w[:3, 3]).max() < 1e-3 * unit
        return bool(close and np.abs(was.c2w[:3, :3] - pose.c2w[:3, :3]).max() < 2e-3)

    def _move_others(self, index: int, pose: _Pose) -> None:
        for other, board in enumerate(self._boards):
            if other == index:
                continue
            for client in board.server.get_clients().values():
                self._moved[(other, client.client_id)] = pose
                board.stand(client, torch.from_numpy(pose.c2w), pose.fov)
