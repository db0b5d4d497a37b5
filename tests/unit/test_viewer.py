"""The viewer's server side: what stands in the scene tree, where, and who can reach it. No browser."""

from __future__ import annotations

import math
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
import viser.transforms

from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.types import Gaussians, Points, PosedViews, View
from sparse3d.viewer.arrays import SMALLEST_SCALE, depth_points, splats_from_gaussians
from sparse3d.viewer.frustums import GENERATED, PHOTOGRAPHED, fly_to, node_name
from sparse3d.viewer.placement import SCENE_RADIUS, Placement, camera_up, fit_placement, up_direction
from sparse3d.viewer.server import address, open_server

HEIGHT, WIDTH = 150, 200


def random_gaussians(count: int, seed: int = 0) -> Gaussians:
    random = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(count, 3, generator=random) * 3 + torch.tensor([10.0, -20.0, 30.0]),
        quats=torch.randn(count, 4, generator=random),
        log_scales=torch.randn(count, 3, generator=random) - 2,
        logit_opacities=torch.randn(count, generator=random),
        sh=torch.randn(count, 4, 3, generator=random),
    )


def camera(x: float, yaw_deg: float, pitch_deg: float) -> torch.Tensor:
    """Looks about along +z from near (10 + x, -20, 15), turned right by yaw and then down by pitch."""
    yaw, pitch = math.radians(yaw_deg), math.radians(-pitch_deg)
    about_y = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    c2w = torch.eye(4)
    c2w[:3, :3] = about_y @ about_x
    c2w[:3, 3] = torch.tensor([10.0 + x, -20.0, 15.0])
    return c2w


def three_views(points: int = 50) -> PosedViews:
    random = torch.Generator().manual_seed(1)
    K = torch.tensor([[180.0, 0, WIDTH / 2], [0, 170.0, HEIGHT / 2], [0, 0, 1]])
    poses = [camera(-2, 15, 20), camera(0, 0, 20), camera(2, -15, 20)]
    names = ["left.jpg", "sub/middle.jpg", "drawn"]
    views = tuple(
        View(name, torch.rand(3, HEIGHT, WIDTH, generator=random), K, c2w, generated=name == "drawn")
        for name, c2w in zip(names, poses, strict=True)
    )
    xyz = torch.randn(points, 3, generator=random) * 2 + torch.tensor([10.0, -20.0, 30.0])
    colours = torch.rand(points, 3, generator=random)
    return PosedViews(views, Points(xyz, colours, torch.zeros(points), (("left.jpg",),) * points))


@pytest.fixture
def scene() -> tuple[Gaussians, PosedViews, dict[str, torch.Tensor]]:
    depth = torch.full((75, 100), 14.0)  # half the size of the views
    depth[:, :40] = 0
    return random_gaussians(200), three_views(), {"left.jpg": depth, "sub/middle.jpg": depth[::2, ::2] + 1}


@pytest.fixture
def server(scene: tuple[Gaussians, PosedViews, dict[str, torch.Tensor]]) -> Iterator[viser.ViserServer]:
    gaussians, views, depths = scene
    opened = open_server(gaussians, views, depths=depths, port=0)
    yield opened
    opened.stop()


def nodes(server: viser.ViserServer) -> dict[str, viser.SceneNodeHandle]:
    """The scene tree as the server keeps it, without viser's own axes. viser has no public list of its nodes."""
    return {name: node for name, node in server.scene._handle_from_node_name.items() if name != "/WorldAxes"}


def sent(server: viser.ViserServer, kind: str) -> list[Any]:
    """What every visitor gets on arrival, of one kind of message."""
    messages = server._websock_server._broadcast_buffer.message_from_id.values()
    return [message for message in messages if type(message).__name__ == kind]


def widget(server: viser.ViserServer, label: str) -> viser.GuiInputHandle:
    """The input called `label`. viser has no public list of its inputs."""
    return next(h for h in server.gui._gui_input_handle_from_uuid.values() if getattr(h, "label", None) == label)


def becomes_true(condition: Callable[[], bool], timeout_s: float = 5) -> bool:
    """viser runs callbacks on its own threads."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_page_is_served(server):
    with urllib.request.urlopen(address(server), timeout=10) as reply:
        page = reply.read().decode()
    assert reply.status == 200
    assert "<title>Viser</title>" in page and '<div id="root">' in page


def test_listens_on_this_machine_only(server):
    """A server bound to every interface would answer on 127.0.0.2 too."""
    assert server.get_host() == "127.0.0.1"
    socket.create_connection(("127.0.0.1", server.get_port()), timeout=5).close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", server.get_port()), timeout=5)


def test_share_tunnel_stays_shut(server, monkeypatch):
    """Any page that reaches the socket may ask for a tunnel; none may be built."""

    def refuse(*_: object) -> None:
        raise AssertionError("a tunnel was opened")

    monkeypatch.setattr("viser._viser.ViserTunnel", refuse)
    assert server.request_share_url() is None
    assert [theme.show_share_button for theme in sent(server, "ThemeConfigurationMessage")] == [False]


def test_scene_tree(server):
    tree = nodes(server)
    assert set(tree) == {
        *("/splats", "/splats/0", "/points", "/depth", "/depth/left.jpg", "/depth/sub%2Fmiddle.jpg"),
        *("/cameras", "/cameras/left.jpg", "/cameras/sub%2Fmiddle.jpg", "/cameras/drawn"),
        "/crop",
    }
    assert len(tree["/splats/0"].centers) == 200
    assert tree["/points"].points.shape == (50, 3)
    assert tree["/depth/left.jpg"].points.shape == (75 * 60, 3)
    assert tree["/depth/sub%2Fmiddle.jpg"].points.shape == (38 * 50, 3)
    assert {name for name, node in tree.items() if not node.visible} == {"/points", "/depth", "/crop"}
    assert tree["/cameras/left.jpg"].color == PHOTOGRAPHED and tree["/cameras/drawn"].color == GENERATED
    assert tree["/cameras/left.jpg"].image.shape == (120, 160, 3)
    assert widget(server, "Gaussians").value == 200


def test_boxes_show_and_hide(server):
    tree = nodes(server)
    for label, node in (("Splats", "/splats"), ("Cameras", "/cameras"), ("Points", "/points"), ("Depth", "/depth")):
        box = widget(server, label)
        assert box.value == tree[node].visible and not box.disabled
        for wanted in (not box.value, box.value):
            box.value = wanted
            assert becomes_true(lambda node=node, wanted=wanted: tree[node].visible == wanted), label


def test_dropdown_chooses_the_depth(server):
    left, middle = nodes(server)["/depth/left.jpg"], nodes(server)["/depth/sub%2Fmiddle.jpg"]
    choice = widget(server, "Depth of")
    assert choice.options == ("all", "left.jpg", "sub/middle.jpg")
    for value, wanted in (("left.jpg", (True, False)), ("sub/middle.jpg", (False, True)), ("all", (True, True))):
        choice.value = value
        assert becomes_true(lambda wanted=wanted: (left.visible, middle.visible) == wanted)


def test_frusta_and_splats_stand_where_the_scene_has_them(scene, server):
    gaussians, views, _ = scene
    placement, tree = fit_placement(gaussians, views), nodes(server)
    for view in views.views:
        frustum = tree[f"/cameras/{node_name(view.name)}"]
        c2w = np.eye(4)
        c2w[:3, :3] = viser.transforms.SO3(np.array(frustum.wxyz)).as_matrix()
        c2w[:3, 3] = np.array(frustum.position) / placement.scale + placement.centre
        np.testing.assert_allclose(c2w, view.c2w.numpy(), atol=1e-5)
        # the corner of the picture, drawn at tangents (aspect, 1) times tan(fov / 2), is the corner of the image
        corner = np.array([frustum.aspect, 1.0]) * np.tan(frustum.fov / 2)
        np.testing.assert_allclose(corner, [WIDTH / 2 / 180, HEIGHT / 2 / 170], rtol=1e-6)
    centers = tree["/splats/0"].centers / placement.scale + placement.centre
    np.testing.assert_allclose(centers, gaussians.means.numpy(), atol=1e-4)
    np.testing.assert_allclose(tree["/points"].points, placement.points(views.points.xyz))


def test_colours_and_opacities(scene, server):
    gaussians, _, _ = scene
    splats = nodes(server)["/splats/0"]
    rgb = np.clip(0.5 + gaussians.sh[:, 0].numpy() / (2 * math.sqrt(math.pi)), 0, 1)
    assert np.abs(splats.rgbs - rgb * 255).max() <= 0.5 + 1e-3
    opacity = 1 / (1 + np.exp(-gaussians.logit_opacities.numpy()))
    assert np.abs(splats.opacities[:, 0] - opacity * 255).max() <= 1  # viser rounds down


def test_covariances_agree_with_numpy(scene, server):
    """Rotates the axes of each ellipsoid by q v q* instead of by a matrix, and adds up outer products."""
    gaussians, views, _ = scene
    scale = fit_placement(gaussians, views).scale
    quats = gaussians.quats.double().numpy()
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    w, v = quats[:, :1], quats[:, 1:]
    want = np.zeros((200, 3, 3))
    for axis, log_scale in zip(np.eye(3), gaussians.log_scales.double().numpy().T, strict=True):
        turned = 2 * (v @ axis)[:, None] * v + (w**2 - (v**2).sum(1, keepdims=True)) * axis + 2 * w * np.cross(v, axis)
        turned *= np.exp(log_scale)[:, None] * scale
        want += turned[:, :, None] * turned[:, None, :]
    # float16: half a step is 2^-11 of the value, and 2^-25 below its smallest normal number
    np.testing.assert_allclose(nodes(server)["/splats/0"].covariances, want, rtol=2**-11 + 1e-5, atol=2**-25 + 1e-6)


def test_scene_fits_viser_number_formats():
    gaussians, views = random_gaussians(1000), three_views(500)
    placement = fit_placement(gaussians, views)
    distance = np.linalg.norm(placement.points(views.points.xyz), axis=1)
    assert np.quantile(distance, 0.5) <= SCENE_RADIUS and np.linalg.norm(placement.pose(camera(0, 0, 0))[1]) < 6
    extreme = Gaussians(
        gaussians.means,
        gaussians.quats,
        torch.full((1000, 3), 12.0).index_fill(0, torch.arange(500), -30.0),
        gaussians.logit_opacities,
        gaussians.sh,
    )
    half = splats_from_gaussians(extreme, placement, 1000).covariances.astype(np.float16)
    assert np.isfinite(half).all()
    np.testing.assert_allclose(half[:500].diagonal(axis1=1, axis2=2), SMALLEST_SCALE**2, rtol=0.2)


def test_up_is_away_from_the_cameras_y(server):
    """Yaw cancels over the three views; a pitch of 20 degrees down tilts their up forward, to +z."""
    want = np.array([0, -math.cos(math.radians(20)), math.sin(math.radians(20))])
    yaw_mean = (1 + 2 * math.cos(math.radians(15))) / 3
    want[2] *= yaw_mean
    np.testing.assert_allclose(up_direction(three_views()), want / np.linalg.norm(want), atol=1e-6)
    # viser turns the root of the tree such that this direction becomes +y, up in the browser's axes
    root = next(message for message in sent(server, "SetOrientationMessage") if message.name == "")
    turned = viser.transforms.SO3(np.array(root.wxyz)).as_matrix() @ want / np.linalg.norm(want)
    np.testing.assert_allclose(turned, [0, 1, 0], atol=1e-6)


def test_visitors_start_at_the_first_photo(scene, server):
    gaussians, views, _ = scene
    start, view = server.initial_camera, views.views[0]
    placement = fit_placement(gaussians, views)
    np.testing.assert_allclose(start.position / placement.scale + placement.centre, view.c2w[:3, 3], atol=1e-4)
    forward = (start.look_at - start.position) / np.linalg.norm(start.look_at - start.position)
    np.testing.assert_allclose(forward, view.c2w[:3, 2], atol=1e-6)
    right = np.cross(forward, start.up)  # forward x up = right when up is away from y
    np.testing.assert_allclose(right / np.linalg.norm(right), view.c2w[:3, 0], atol=1e-6)
    assert start.fov == pytest.approx(2 * math.atan(HEIGHT / 2 / 170))


def test_generated_view_is_no_start_when_there_is_a_photo():
    views = three_views()
    reordered = PosedViews(views.views[::-1], views.points)
    server = open_server(random_gaussians(3), reordered, port=0)
    middle = nodes(server)["/cameras/sub%2Fmiddle.jpg"]
    np.testing.assert_allclose(server.initial_camera.position, middle.position)
    server.stop()


def test_camera_up_keeps_its_own_axis_when_lying_on_its_side():
    upright = np.array([1.0, 0, 0, 0])
    np.testing.assert_allclose(camera_up(upright, np.array([0.0, -1, 0])), [0, -1, 0])
    quarter = np.array([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])  # rolled by 90 degrees: its -y is world +x
    np.testing.assert_allclose(camera_up(quarter, np.array([0.0, -1, 0])), [1, 0, 0], atol=1e-9)


def test_click_flies_the_camera_there():
    view, placement = three_views().views[0], Placement(np.array([10.0, -20, 30]), 0.5)
    moves: list[float] = []

    class Camera(SimpleNamespace):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "position":
                moves.append(float(np.linalg.norm(value - placement.pose(view.c2w)[1])))

    start = Camera(wxyz=np.array([1.0, 0, 0, 0]), position=np.array([0.0, 0, 0]))
    fly_to(SimpleNamespace(camera=start, atomic=threading.Lock), view, placement, near=0.1, duration_s=0)
    wxyz, position = placement.pose(view.c2w)
    np.testing.assert_allclose(start.position, position, atol=1e-9)
    assert abs(float(start.wxyz @ wxyz)) == pytest.approx(1)
    ahead = start.look_at - position
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), view.c2w[:3, 2], atol=1e-6)
    assert start.near == 0.1 and len(moves) > 10 and all(np.diff(moves) < 0)


def test_depth_projects_back_to_its_pixels():
    view, placement = three_views().views[0], Placement(np.array([10.0, -20, 30]), 0.5)
    depth = torch.full((75, 100), 14.0)
    depth[10:, :] = 0
    depth[3, 7] = math.nan
    xyz, rgb = depth_points(view, depth, placement, max_points=10_000)
    assert xyz.shape == rgb.shape == (999, 3)
    world = torch.from_numpy(xyz / placement.scale + placement.centre).float()
    pixels, z = project(world, torch.linalg.inv(view.c2w), view.K)
    torch.testing.assert_close(z, torch.full((999,), 14.0), rtol=1e-4, atol=0)
    # pixel (row 0, column 5) of a half-size map is centred on (11, 1) of the view
    torch.testing.assert_close(pixels[5], torch.tensor([11.0, 1.0]), rtol=0, atol=1e-2)
    assert len(depth_points(view, torch.ones(75, 100), placement, max_points=2000)[0]) == 38 * 50


def test_large_scenes_come_in_chunks_and_thinned(monkeypatch):
    """The faint half goes first, and the panel says so."""
    monkeypatch.setattr("sparse3d.viewer.splat_layer.CHUNK_GAUSSIANS", 30)
    gaussians = random_gaussians(200)
    faint = torch.arange(200) % 2 == 0
    gaussians = Gaussians(
        gaussians.means,
        gaussians.quats,
        torch.full((200, 3), -2.0),
        torch.where(faint, torch.tensor(-4.0), torch.tensor(2.0)),
        gaussians.sh,
    )
    views = three_views()
    server = open_server(gaussians, views, port=0, max_gaussians=100)
    tree = nodes(server)
    assert [len(tree[f"/splats/{i}"].centers) for i in range(4)] == [30, 30, 30, 10]
    want = fit_placement(gaussians, views).points(gaussians.means[~faint])
    np.testing.assert_allclose(np.concatenate([tree[f"/splats/{i}"].centers for i in range(4)]), want)
    assert widget(server, "Gaussians").value == 200 and widget(server, "Gaussians drawn").value == 100
    server.stop()


@pytest.mark.parametrize("points", [0, 50])
@pytest.mark.parametrize("count", [0, 20])
@pytest.mark.parametrize("view_count", [0, 1, 3])
def test_any_part_may_be_empty(points, count, view_count):
    views = PosedViews(three_views().views[:view_count], three_views(points).points)
    server = open_server(random_gaussians(count), views, port=0)
    tree = nodes(server)
    assert ("/splats/0" in tree) == (count > 0) and ("/points" in tree) == (points > 0)
    assert sum(name.startswith("/cameras/") for name in tree) == view_count
    assert widget(server, "Splats").disabled == (count == 0)
    assert widget(server, "Points").disabled == (points == 0) and widget(server, "Depth").disabled
    server.stop()


def test_gaussians_that_cannot_be_drawn_are_left_out():
    gaussians = random_gaussians(5)
    gaussians.means[2, 1] = math.nan
    splats = splats_from_gaussians(gaussians, Placement(np.zeros(3), 1.0), 10)
    np.testing.assert_array_equal(splats.centers, gaussians.means[[0, 1, 3, 4]].numpy())


def test_takes_the_next_port_when_taken(server):
    second = open_server(random_gaussians(0), three_views(), port=server.get_port())
    assert second.get_port() != server.get_port() and str(second.get_port()) in address(second)
    second.stop()


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:7"), ("localhost", "http://localhost:7"), ("::1", "http://[::1]:7")],
)
def test_address_can_be_opened(host, url):
    assert address(SimpleNamespace(get_host=lambda: host, get_port=lambda: 7)) == url


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70000), ("127.0.0.1", -1)])
def test_impossible_address_is_a_user_error(host, port):
    """192.0.2.1 is reserved for documentation, no machine has it. viser itself would hang."""
    with pytest.raises(UserError, match="cannot listen on|does not exist"):
        open_server(random_gaussians(1), three_views(), host=host, port=port)


def test_wrong_depths_are_named():
    with pytest.raises(ValueError, match="'left.jp', which is no view; did you mean 'left.jpg'"):
        open_server(random_gaussians(1), three_views(), depths={"left.jp": torch.ones(3, 4)}, port=0)
    with pytest.raises(ValueError, match="depth has shape"):
        open_server(random_gaussians(1), three_views(), depths={"left.jpg": torch.ones(1, 3, 4)}, port=0)
