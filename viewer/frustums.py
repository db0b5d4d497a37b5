"""The cameras of a scene as frustums with thumbnails: click one to fly there."""

from __future__ import annotations

import functools
import time

import numpy as np
import viser
import viser.transforms

from sparse3d.types import PosedViews, View
from sparse3d.viewer.arrays import thumbnail
from sparse3d.viewer.placement import Placement, field_of_view, frustum_depth, orbit_point

THUMBNAIL_PX = 160
PHOTOGRAPHED = (240, 130, 30)  # orange
GENERATED = (150, 80, 240)  # violet


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


def add_frustums(server: viser.ViserServer, views: PosedViews, placement: Placement) -> None:
    """Adds `/cameras/<view>`; photographed and generated ones in different colours."""
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
        frustum.on_click(functools.partial(_fly_on_click, view=view, placement=placement, near=near_of(depth)))


def _fly_on_click(
    event: viser.SceneNodePointerEvent[viser.CameraFrustumHandle], *, view: View, placement: Placement, near: float
) -> None:
    fly_to(event.client, view, placement, near)


def near_of(depth: float) -> float:
    """A near plane behind the thumbnail: who stands in a camera wants to see the scene, not its photo."""
    return 1.05 * depth
