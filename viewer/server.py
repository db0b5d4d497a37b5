"""Serve a scene to the browser: splats, cameras, sparse points and depth, with a panel to show and hide them.

The server has no login, so it listens on this machine only unless told otherwise, and no page it serves can upload,
name a file or open a tunnel.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Mapping, Sequence

import numpy as np
import viser
import viser.transforms
from torch import Tensor

from sparse3d.errors import UserError, did_you_mean
from sparse3d.types import Gaussians, PosedViews, View
from sparse3d.viewer.arrays import Splats, depth_points, splats_from_gaussians, thumbnail
from sparse3d.viewer.placement import (
    SCENE_RADIUS,
    Placement,
    camera_up,
    field_of_view,
    fit_placement,
    frustum_depth,
    orbit_point,
    up_direction,
)

MAX_GAUSSIANS = 1_000_000  # 32 bytes each, so 32 MB to the browser
CHUNK_GAUSSIANS = 300_000  # one message each: the page fills in steps instead of at once
MAX_DEPTH_POINTS = 200_000  # of one view
THUMBNAIL_PX = 160
PHOTOGRAPHED = (240, 130, 30)  # orange
GENERATED = (150, 80, 240)  # violet
ALL_VIEWS = "all"


class _Server(viser.ViserServer):
    """A viser server that never opens viser's public tunnel, whichever message a page sends."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: a scene made of somebody's photos is not published from here."""
        return None


def open_server(
    gaussians: Gaussians,
    views: PosedViews,
    *,
    depths: Mapping[str, Tensor] | None = None,
    background: Sequence[float] | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    max_gaussians: int = MAX_GAUSSIANS,
) -> viser.ViserServer:
    """A running server of the scene; it serves from its own thread until `stop()`.

    The scene tree, in viewer coordinates (`fit_placement`): `/splats/0`, `/splats/1` ... of at most 300k Gaussians,
    `/cameras/<view>` and, hidden at first, `/points` (unless there are no splats) and `/depth/<view>`. A slash in a view's name is written `%2F`
    there. Any part may be empty.

    Args:
        gaussians: N Gaussians, world units; none is fine.
        views: Cameras, photos and sparse points in the same world.
        depths: View name to (h, w) z-depth in world units, 0 where unknown; may be smaller than the view.
        background: sRGB in [0, 1] of what lies behind the scene, as it was optimized; the page's own white when None.
        host: Address to listen on. Anything but this machine's own lets others in: there is no login.
        port: Port to listen on; the next free one is taken when it is in use, and any free one for 0. See `address`.
        max_gaussians: Draw at most this many, the most visible ones.

    Raises:
        UserError: nothing can listen on `host`, or `port` is no port.
        ValueError: a depth belongs to no view or is no (h, w) map, or `max_gaussians` is below 1.
    """
    if max_gaussians < 1:
        raise ValueError(f"max_gaussians is {max_gaussians}, needed at least 1")
    by_name = {view.name: view for view in views.views}
    for name in depths or {}:
        if name not in by_name:
            raise ValueError(f"depth for {name!r}, which is no view{did_you_mean(name, by_name)}")
    placement = fit_placement(gaussians, views)
    splats = splats_from_gaussians(gaussians, placement, max_gaussians)
    clouds = {
        name: depth_points(by_name[name], depth, placement, MAX_DEPTH_POINTS) for name, depth in (depths or {}).items()
    }

    _check_address(host, port)
    server = _Server(host=host, port=port, label="sparse3d", verbose=False)
    try:
        server.gui.configure_theme(show_share_button=False)
        server.scene.set_up_direction(up_direction(views))
        _add_splats(server, splats)
        _add_cameras(server, views, placement)
        _add_points(server, views, placement, visible=len(splats) == 0)
        if background is not None:
            server.scene.set_background_image(np.full((2, 2, 3), np.round(np.multiply(background, 255)), np.uint8))
        _add_depths(server, clouds)
        _add_panel(server, len(gaussians), len(splats), list(clouds))
        _set_initial_camera(server, views, placement)
    except BaseException:
        server.stop()
        raise
    return server


def address(server: viser.ViserServer) -> str:
    """The http URL to open, with the port that the server really got."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.get_host(), server.get_host())
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"


def node_name(view_name: str) -> str:
    """A view's name as one step of the scene tree.

    viser takes a slash as parent and child, and would move `a.jpg/1` along with the camera `a.jpg`.
    """
    return view_name.replace("%", "%25").replace("/", "%2F")


def fly_to(client: viser.ClientHandle, view: View, placement: Placement, near: float, duration_s: float = 0.4) -> None:
    """Moves one visitor's camera to a view along a screw motion, ending with its pose and field of view.

    Args:
        client: The visitor.
        view: Where to.
        placement: Of the viewer.
        near: Near plane to set, viewer units.
        duration_s: Seconds the flight takes.
    """
    transforms = viser.transforms
    wxyz, position = placement.pose(view.c2w)
    start = transforms.SE3.from_rotation_and_translation(transforms.SO3(client.camera.wxyz), client.camera.position)
    end = transforms.SE3.from_rotation_and_translation(transforms.SO3(wxyz), position)
    motion = (start.inverse() @ end).log()
    steps = 20
    for step in range(1, steps + 1):
        pose = start @ transforms.SE3.exp(motion * step / steps)
        with client.atomic():
            client.camera.wxyz = pose.rotation().wxyz
            client.camera.position = pose.translation()
        time.sleep(duration_s / steps)
    with client.atomic():
        client.camera.near = near
        client.camera.fov = field_of_view(view)[0]
        client.camera.look_at = orbit_point(view, placement)


def _add_splats(server: viser.ViserServer, splats: Splats) -> None:
    server.scene.add_frame("/splats", show_axes=False)
    # viser itself leaves out what is smaller than a pixel or so: opacity * det(covariance in pixels + 0.3) < 0.25
    for number, start in enumerate(range(0, len(splats), CHUNK_GAUSSIANS)):
        part = splats.chunk(start, CHUNK_GAUSSIANS)
        server.scene.add_gaussian_splats(f"/splats/{number}", part.centers, part.covariances, part.rgbs, part.opacities)


def _add_cameras(server: viser.ViserServer, views: PosedViews, placement: Placement) -> None:
    server.scene.add_frame("/cameras", show_axes=False)
    depth = frustum_depth(views, placement)
    for view in views.views:
        fov, aspect = field_of_view(view)
        wxyz, position = placement.pose(view.c2w)
        # viser divides a frustum's size by the cube root of a third of its half-width times half-height at depth 1
        half_height = np.tan(fov / 2)
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{node_name(view.name)}",
            fov,
            aspect,
            scale=depth * float(np.cbrt(aspect * half_height**2 / 3)),
            thickness=2.0,
            thickness_units="screen",
            color=GENERATED if view.generated else PHOTOGRAPHED,
            image=thumbnail(view, THUMBNAIL_PX),
            format="jpeg",
            jpeg_quality=85,
            wxyz=wxyz,
            position=position,
            cast_shadow=False,
            receive_shadow=False,
        )
        frustum.on_click(functools.partial(_fly_on_click, view=view, placement=placement, near=_near(depth)))


def _fly_on_click(
    event: viser.SceneNodePointerEvent[viser.CameraFrustumHandle], *, view: View, placement: Placement, near: float
) -> None:
    fly_to(event.client, view, placement, near)


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


def _add_panel(server: viser.ViserServer, gaussian_count: int, drawn_count: int, depth_names: list[str]) -> None:
    """The folder "Show": one box for each part of the tree, off and greyed where there is nothing to show."""
    with server.gui.add_folder("Show"):
        for label, node, there, on in (
            ("Splats", "/splats", drawn_count > 0, True),
            ("Cameras", "/cameras", True, True),
            ("Points", "/points", server.scene.get_handle_by_name("/points") is not None, drawn_count == 0),
            ("Depth", "/depth", bool(depth_names), False),
        ):
            box = server.gui.add_checkbox(label, initial_value=there and on, disabled=not there)
            box.on_update(functools.partial(_show_node, server=server, node=node))
        if depth_names:
            choice = server.gui.add_dropdown("Depth of", [ALL_VIEWS, *depth_names], initial_value=ALL_VIEWS)
            choice.on_update(functools.partial(_show_depth_of, server=server, names=depth_names))
        server.gui.add_number("Gaussians", gaussian_count, disabled=True)
        if drawn_count < gaussian_count:
            hint = "The least visible Gaussians are left out to keep the page fast; files hold all of them."
            server.gui.add_number("Gaussians drawn", drawn_count, disabled=True, hint=hint)


def _show_node(event: viser.GuiEvent[viser.GuiCheckboxHandle], *, server: viser.ViserServer, node: str) -> None:
    handle = server.scene.get_handle_by_name(node)
    if handle is not None:
        handle.visible = event.target.value


def _show_depth_of(
    event: viser.GuiEvent[viser.GuiDropdownHandle[str]], *, server: viser.ViserServer, names: list[str]
) -> None:
    for name in names:
        handle = server.scene.get_handle_by_name(f"/depth/{node_name(name)}")
        if handle is not None:
            handle.visible = event.target.value in (ALL_VIEWS, name)


def _set_initial_camera(server: viser.ViserServer, views: PosedViews, placement: Placement) -> None:
    """Visitors start where the first photo was taken: from there the scene looks best."""
    if not views.views:
        return
    view = next((view for view in views.views if not view.generated), views.views[0])
    wxyz, position = placement.pose(view.c2w)
    server.initial_camera.position = position
    server.initial_camera.look_at = orbit_point(view, placement)
    server.initial_camera.up = camera_up(wxyz, up_direction(views))
    server.initial_camera.fov = field_of_view(view)[0]
    server.initial_camera.near = _near(frustum_depth(views, placement))


def _near(frustum_depth: float) -> float:
    """A near plane behind the thumbnail: who stands in a camera wants to see the scene, not its photo."""
    return 1.05 * frustum_depth


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
