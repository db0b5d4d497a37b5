"""Serve a scene to the browser: splats, cameras, sparse points and depth, and the panels that work on them.

The server listens on this machine only unless told otherwise, every request passes a `Gate`, and no page it serves can
upload, name a file or open a tunnel.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import viser
from torch import Tensor

from sparse3d.errors import UserError, did_you_mean
from sparse3d.render import Look
from sparse3d.types import Gaussians, PosedViews
from sparse3d.viewer.arrays import depth_points
from sparse3d.viewer.board import Board
from sparse3d.viewer.crop_panel import add_crop_panel
from sparse3d.viewer.frame_panel import add_frame_panel
from sparse3d.viewer.frustums import add_frustums, near_of, node_name
from sparse3d.viewer.gate import Gate, own_names
from sparse3d.viewer.measure import Ruler
from sparse3d.viewer.path_panel import PathPanel
from sparse3d.viewer.photo_overlay import add_photo_panel
from sparse3d.viewer.placement import (
    SCENE_RADIUS,
    Placement,
    camera_up,
    field_of_view,
    fit_placement,
    frustum_depth,
    orbit_point,
    overview,
    up_direction,
)
from sparse3d.viewer.show_panel import Stages, add_show_panel
from sparse3d.viewer.splat_layer import SplatLayer

MAX_GAUSSIANS = 1_000_000  # 32 bytes each, so 32 MB to the browser
MAX_DEPTH_POINTS = 200_000  # of one view


class _Server(viser.ViserServer):
    """A viser server that never opens viser's public tunnel, whichever message a page sends."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: a scene made of somebody's photos is not published from here."""
        return None


def start_server(host: str = "127.0.0.1", port: int = 8080, gate: Gate | None = None) -> viser.ViserServer:
    """A running server with an empty page; it serves from its own thread until `stop()`.

    Args:
        host: Address to listen on. Anything but this machine's own lets others in, if the gate does.
        port: Port to listen on; the next free one is taken when it is in use, and any free one for 0. See `address`.
        gate: Who is let in; whoever asks for this machine by a name of its own, when None.

    Raises:
        UserError: nothing can listen on `host`, or `port` is no port.
    """
    _check_address(host, port)
    gate = gate or Gate(hosts=own_names(host))
    with gate.installed():
        server = _Server(host=host, port=port, label="sparse3d", verbose=False)
    try:
        reached = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        gate.check(reached, server.get_port())
        server.gui.configure_theme(show_share_button=False)
    except BaseException:
        server.stop()
        raise
    return server


def open_server(
    gaussians: Gaussians,
    views: PosedViews,
    *,
    depths: Mapping[str, Tensor] | None = None,
    look: Look | None = None,
    stages: Stages | None = None,
    folder: Path | None = None,
    metric: bool = False,
    host: str = "127.0.0.1",
    port: int = 8080,
    max_gaussians: int = MAX_GAUSSIANS,
    gate: Gate | None = None,
) -> viser.ViserServer:
    """A running server of a scene: `start_server` and `show_scene` in one.

    Raises:
        UserError: as `start_server`.
        ValueError: as `show_scene`.
    """
    server = start_server(host, port, gate)
    try:
        show_scene(
            server,
            gaussians,
            views,
            depths=depths,
            look=look,
            stages=stages,
            folder=folder,
            metric=metric,
            max_gaussians=max_gaussians,
        )
    except BaseException:
        server.stop()
        raise
    return server


def show_scene(
    server: viser.ViserServer,
    gaussians: Gaussians,
    views: PosedViews,
    *,
    depths: Mapping[str, Tensor] | None = None,
    look: Look | None = None,
    stages: Stages | None = None,
    folder: Path | None = None,
    metric: bool = False,
    max_gaussians: int = MAX_GAUSSIANS,
) -> Board:
    """Puts a scene and its panels on an empty page.

    The scene tree, in viewer coordinates (`fit_placement`): `/splats/0`, `/splats/1` ... of at most 300k Gaussians,
    `/cameras/<view>` and, hidden at first, `/points` (unless there are no splats) and `/depth/<view>`. A slash in a view's
    name is written `%2F` there. Any part may be empty.

    Args:
        server: Of `start_server`.
        gaussians: N Gaussians, world units; none is fine.
        views: Cameras, photos and sparse points in the same world.
        depths: View name to (h, w) z-depth in world units, 0 where unknown; may be smaller than the view.
        look: How the scene was optimized and is drawn; on white when None.
        stages: By name, what else there is to show, read when it is chosen; the last one is `gaussians`.
        folder: Of the scene, for camera paths and films; None keeps none.
        metric: The world unit is the metre.
        max_gaussians: Draw at most this many, the most visible ones.

    Raises:
        ValueError: a depth belongs to no view or is no (h, w) map, or `max_gaussians` is below 1.
    """
    if max_gaussians < 1:
        raise ValueError(f"max_gaussians is {max_gaussians}, needed at least 1")
    by_name = {view.name: view for view in views.views}
    for name in depths or {}:
        if name not in by_name:
            raise ValueError(f"depth for {name!r}, which is no view{did_you_mean(name, by_name)}")
    placement = fit_placement(gaussians, views)
    clouds = {
        name: depth_points(by_name[name], depth, placement, MAX_DEPTH_POINTS) for name, depth in (depths or {}).items()
    }
    layer = SplatLayer(server, placement, max_gaussians)
    shown = look or Look((1.0, 1.0, 1.0), False, 0.002 * SCENE_RADIUS / placement.scale)
    board = Board(server, views, placement, layer, shown, folder, metric)
    layer.show(gaussians)
    add_frustums(server, views, placement)
    _add_points(server, views, placement, visible=layer.drawn == 0)
    if look is not None:
        board.set_background(look.background)
    _add_depths(server, clouds)
    tabs = server.gui.add_tab_group()
    with tabs.add_tab("Scene"):
        add_show_panel(board, list(clouds), stages or {})
        if views.views:
            add_photo_panel(board)
    with tabs.add_tab("Tools"):
        add_frame_panel(board, Ruler(board))
        add_crop_panel(board)
    if layer.drawn:
        with tabs.add_tab("Film"):
            PathPanel(board)
    _set_initial_camera(server, views, placement)
    return board


def address(server: viser.ViserServer) -> str:
    """The http URL to open, with the port that the server really got."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.get_host(), server.get_host())
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"


def _add_points(server: viser.ViserServer, views: PosedViews, placement: Placement, visible: bool) -> None:
    # on top of splats the dots hide more than they show
    if len(views.points) == 0:
        return
    server.scene.add_point_cloud(
        "/points",
        placement.points(views.points.xyz),
        views.points.rgb.detach().cpu().numpy(),
        point_size=0.004 * SCENE_RADIUS,
        point_shape="circle",
        point_shading="flat",
        precision="float32",
        visible=visible,
    )


def _add_depths(server: viser.ViserServer, clouds: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    server.scene.add_frame("/depth", show_axes=False, visible=False)
    for name, (xyz, rgb) in clouds.items():
        server.scene.add_point_cloud(
            f"/depth/{node_name(name)}",
            xyz,
            rgb,
            point_size=0.002 * SCENE_RADIUS,
            point_shading="flat",
            precision="float32",
        )


def _set_initial_camera(server: viser.ViserServer, views: PosedViews, placement: Placement) -> None:
    """Visitors start where the first photo was taken: from there the scene looks best."""
    up = up_direction(views)
    first = views.views[0] if views.views else overview(placement, up)
    view = next((view for view in views.views if not view.generated), first)
    wxyz, position = placement.pose(view.c2w)
    server.initial_camera.position = position
    server.initial_camera.look_at = orbit_point(view, placement)
    server.initial_camera.up = camera_up(wxyz, up)
    server.initial_camera.fov = field_of_view(view)[0]
    server.initial_camera.near = near_of(frustum_depth(views, placement))


def _check_address(host: str, port: int) -> None:
    """Stops early where viser would hang: it takes every failure for a port in use and never reports back."""
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} does not exist. Choose one from 1024 to 65535, or 0 for any free one")
    try:
        for family, kind, protocol, _, found in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(found)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host!r}: {error.strerror or error}. Use 127.0.0.1 for this machine only, "
            "or the address of one of its network interfaces"
        ) from error
