"""A photo laid over the page, as opaque as one likes, to compare it with what is drawn behind it."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import viser

from sparse3d.geometry import fitted_size
from sparse3d.io.images import jpeg_bytes
from sparse3d.types import View
from sparse3d.viewer.board import Board
from sparse3d.viewer.frustums import fly_to, near_of
from sparse3d.viewer.placement import SCENE_RADIUS, frustum_depth

NO_PHOTO = "none"
_SIZE = 1280  # longer side of what is sent, pixels

# viser draws pictures in the scene behind or in front of splats, never blended with them; the page itself can.
_STYLE = (
    "position:fixed;top:0;left:50%;height:100vh;transform:translateX(-50%);max-width:none;pointer-events:none;z-index:1"
)


@dataclass
class _Overlay:
    """What one visitor has in front of the scene."""

    view: View
    picture: viser.GuiHtmlHandle
    opacity: viser.GuiHtmlHandle
    arrived: bool = False  # the flight is over: whoever moves now leaves the photo's place


def add_photo_panel(board: Board) -> None:
    """A choice of views and a slider; each visitor has a photo of their own, which goes away when they move on."""
    gui = board.server.gui
    by_name = {view.name: view for view in board.views.views}
    near = near_of(frustum_depth(board.views, board.placement))
    overlays: dict[int, _Overlay] = {}
    with gui.add_folder("Compare with a photo"):
        choice = gui.add_dropdown("Photo", (NO_PHOTO, *by_name), initial_value=NO_PHOTO)
        opacity = gui.add_slider("Opacity", 0.0, 1.0, 0.05, initial_value=0.5)

    def remove(client_id: int) -> None:
        overlay = overlays.pop(client_id, None)
        if overlay is not None:
            overlay.picture.remove()
            overlay.opacity.remove()

    @choice.on_update
    def _(event: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
        client = event.client
        if client is None:
            return
        remove(client.client_id)
        view = by_name.get(choice.value)
        if view is None:
            return
        fly_to(client, view, board.placement, near)
        picture = client.gui.add_html(f'<img id="sparse3d-photo" style="{_STYLE}" src="{_address(view)}">')
        overlay = _Overlay(view, picture, client.gui.add_html(_opacity(opacity.value)), arrived=True)
        overlays[client.client_id] = overlay

    @opacity.on_update
    def _(event: viser.GuiEvent[viser.GuiSliderHandle[float]]) -> None:
        for overlay in list(overlays.values()):
            overlay.opacity.content = _opacity(opacity.value)

    @board.server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        @client.camera.on_update
        def _(camera: viser.CameraHandle) -> None:
            overlay = overlays.get(client.client_id)
            if overlay is None or not overlay.arrived:
                return
            wxyz, position = board.placement.pose(overlay.view.c2w)
            away = np.linalg.norm(camera.position - position) > 0.01 * SCENE_RADIUS
            if away or abs(float(np.dot(camera.wxyz, wxyz))) < np.cos(np.radians(0.5) / 2):
                remove(client.client_id)
                choice.value = NO_PHOTO

    @board.server.on_client_disconnect
    def _(client: viser.ClientHandle) -> None:
        overlays.pop(client.client_id, None)


def _opacity(value: float) -> str:
    return f"<style>#sparse3d-photo{{opacity:{value:.2f}}}</style>"


def _address(view: View) -> str:
    small = view.resized(*fitted_size(view.height, view.width, _SIZE))
    return "data:image/jpeg;base64," + base64.b64encode(jpeg_bytes(small.image, 90)).decode("ascii")
