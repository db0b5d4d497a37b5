"""The live viewer in a real browser: what is drawn, what clicks and buttons do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from support.browser import picture, settled_screenshot, wait_for
from support.viewer_scenes import HEIGHT, LOOK, WIDTH, around, ball

from sparse3d.geometry import project
from sparse3d.io.nerfstudio import read_camera_path
from sparse3d.io.video import extract_frames
from sparse3d.kernels.reference import sh_to_rgb
from sparse3d.metrics.image import psnr
from sparse3d.render import drawer
from sparse3d.types import Gaussians
from sparse3d.viewer.board import pinhole
from sparse3d.viewer.frustums import node_name
from sparse3d.viewer.placement import fit_placement
from sparse3d.viewer.serve import serve
from sparse3d.viewer.server import address, open_server
from sparse3d.viewer.sources import Source

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(page) -> Iterator[Callable]:
    """Opens a server's page and gives the visitor as the server knows them."""
    servers = []

    def open_page(server, width=WIDTH, height=HEIGHT, url=None):
        servers.append(server)
        page.set_viewport_size({"width": width, "height": height})
        page.goto(url or address(server))
        page.wait_for_selector("canvas")
        return next(iter(wait_for(page, server.get_clients, "somebody is connected").values()))

    yield open_page
    for server in servers:
        server.stop()


def shot(page, client) -> torch.Tensor:
    """What the visitor's browser draws, without the panel. (3, H, W)"""
    done = []
    worker = threading.Thread(target=lambda: done.append(client.get_render(HEIGHT, WIDTH, timeout=60)))
    worker.start()
    wait_for(page, lambda: not worker.is_alive(), "the browser drew a picture")
    return torch.from_numpy(done[0][..., :3].copy()).movedim(2, 0) / 255


def pose_of(view, gaussians, posed) -> dict:
    wxyz, position = fit_placement(gaussians, posed).pose(view.c2w)
    return {"wxyz": wxyz, "position": position, "fov": 2 * np.arctan(view.height / 2 / float(view.K[1, 1]))}


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def field(page, label: str):
    """The input beside a label; viser ties the two together for some kinds only."""
    row = page.locator("label", has_text=re.compile(f"^{re.escape(label)}$"))
    return row.locator("xpath=ancestor::div[contains(@class, 'mantine-Flex-root')][1]//input").first


def enter(page, label: str, value: float) -> None:
    box = field(page, label)
    box.fill(str(value))
    box.press("Enter")
    page.wait_for_timeout(300)


def test_splats_are_drawn_as_we_draw_them(page, visit, keep):
    """Two cameras at the size of the canvas. viser has no harmonics, so the scene has none; 8 bits blend less exactly."""
    gaussians, posed = ball(4000, 0), around()
    server = open_server(gaussians, posed, look=LOOK, port=0)
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    client = visit(server)
    server.scene.get_handle_by_name("/cameras").visible = False
    before, now = torch.zeros(1), torch.ones(1)
    while before.shape != now.shape or now.std() < 0.03 or not before.equal(now):  # they come, fade in and are sorted
        before, now = now, shot(page, client)
        page.wait_for_timeout(500)
    for index in (0, 1):
        view = posed.views[index]
        pose = pose_of(view, gaussians, posed)
        client.camera.wxyz, client.camera.position, client.camera.fov = (
            pose["wxyz"],
            pose["position"],
            float(pose["fov"]),
        )
        page.wait_for_timeout(2000)  # sorted again
        shown = shot(page, client)
        keep(f"view_{index}", shown)
        ours = drawer(gaussians, LOOK)(view.cameras.scaled_to(HEIGHT, WIDTH)).image[0].clamp(0, 1)
        keep(f"ours_{index}", ours)
        assert psnr(shown, ours) > 25  # 20 is asked for
    server.scene.get_handle_by_name("/splats").visible = False
    page.wait_for_timeout(1000)
    empty = shot(page, client)
    assert psnr(empty, ours) < 20
    background = torch.tensor(LOOK.background)[:, None, None].expand(3, HEIGHT, WIDTH)
    assert psnr(empty, background) > 35  # nothing else is drawn but the colour behind the scene
    assert any("WebGL support: true" in text for text in messages)


def test_click_on_a_frustum_flies_there(page, visit, keep):
    gaussians, posed = ball(1000, 0), around()
    server = open_server(gaussians, posed, look=LOOK, port=0)
    client = visit(server, 1000, 640)
    placement = fit_placement(gaussians, posed)
    # from behind the first camera, above the ball, all four are in the picture
    start = torch.tensor([1.0, -3.0, -6.0])
    client.camera.position = placement.points(start[None])[0].astype(float)
    client.camera.look_at = placement.points(torch.tensor([[1.0, 2.0, 3.0]]))[0].astype(float)
    wait_for(page, lambda: np.linalg.norm(client.camera.position - placement.points(start[None])[0]) < 1e-3, "moved")
    page.wait_for_timeout(1500)
    keep("frustums", settled_screenshot(page))
    view = posed.views[3]  # the panel covers the one on the right
    handle = server.scene.get_handle_by_name(f"/cameras/{node_name(view.name)}")
    depth = 0.05 * 5 / placement.scale  # about where the thumbnail is
    thumbnail = view.c2w[:3, 3] + 0.9 * depth * view.c2w[:3, 2]
    c2w = placement.c2w(client.camera.wxyz, client.camera.position)
    f = 320 / np.tan(client.camera.fov / 2)
    K = torch.tensor([[f, 0, 500], [0, f, 320], [0, 0, 1]], dtype=torch.float32)
    (pixel,), _ = project(thumbnail[None], torch.linalg.inv(c2w), K)
    page.mouse.move(float(pixel[0]), float(pixel[1]))
    page.wait_for_timeout(300)
    page.mouse.click(float(pixel[0]), float(pixel[1]))
    wait_for(
        page, lambda: np.linalg.norm(client.camera.position - handle.position) < 1e-3, "the camera is at the view", 30
    )
    assert abs(float(client.camera.wxyz @ handle.wxyz)) > 1 - 1e-4


def test_film_from_the_page(page, visit, keep, tmp_path):
    """Two keyframes, pressed together in the page, become a camera path and an MP4 that shows them."""
    gaussians, posed = ball(1000, 1), around()
    (tmp_path / "scene").mkdir()
    server = open_server(gaussians, posed, look=LOOK, folder=tmp_path / "scene", port=0)
    client = visit(server, 900, 640)
    tab(page, "Film")
    poses = [pose_of(posed.views[index], gaussians, posed) for index in (0, 1)]
    placement = fit_placement(gaussians, posed)
    middle = placement.points(torch.tensor([[1.0, 2.0, 3.0]]))[0].astype(float)
    for pose in poses:
        client.camera.position, client.camera.look_at, client.camera.fov = pose["position"], middle, float(pose["fov"])
        wait_for(page, lambda pose=pose: np.linalg.norm(client.camera.position - pose["position"]) < 1e-4, "moved")
        page.wait_for_timeout(500)
        press(page, "Add keyframe")
        page.wait_for_timeout(700)
    for label, value in (("Seconds to next", 0.5), ("Width", 160), ("Height", 96), ("Frames per second", 10)):
        enter(page, label, value)
    press(page, "Go to it")  # the first is not chosen, the last is
    with page.expect_download(timeout=60_000) as saved:
        press(page, "Save path")
    assert saved.value.suggested_filename == "path-001.json"
    path = tmp_path / "scene" / "camera_paths" / "path-001.json"
    along = read_camera_path(path)
    assert (along.cameras.height, along.cameras.width) == (96, 160)
    first = placement.points(along.cameras.c2w[0, :3, 3][None])[0]
    np.testing.assert_allclose(first, poses[0]["position"], atol=1e-3)
    np.testing.assert_allclose(placement.points(along.cameras.c2w[-1:, :3, 3])[0], poses[1]["position"], atol=1e-3)
    assert json.loads(path.read_text())["keyframes"][1]["override_transition_sec"] == 0.5
    with page.expect_download(timeout=120_000) as film:
        press(page, "Render film")
    keep("panel", settled_screenshot(page))
    assert film.value.suggested_filename == "path-001.mp4"
    data = (tmp_path / "scene" / "renders" / "path-001.mp4").read_bytes()
    assert film.value.path().read_bytes() == data
    from sparse3d.io.images import read_image

    (tmp_path / "frames").mkdir()
    frames = extract_frames(tmp_path / "scene" / "renders" / "path-001.mp4", 20, tmp_path / "frames")
    for index in (0, -1):
        camera = type(along.cameras)(along.cameras.c2w[[index]], along.cameras.K[[index]], 96, 160)
        assert psnr(read_image(frames[index]).image, drawer(gaussians, LOOK)(camera).image[0].clamp(0, 1)) > 28
    with page.expect_download(timeout=60_000) as picture_file:
        press(page, "Screenshot")
    taken = picture(picture_file.value.path().read_bytes())
    assert taken.shape[2] == 1280 and abs(taken.shape[1] - 1280 * 640 / 900) < 2
    here = fit_placement(gaussians, posed).c2w(client.camera.wxyz, client.camera.position)
    camera = pinhole(here, float(client.camera.fov), taken.shape[1], 1280)
    assert psnr(taken, drawer(gaussians, LOOK)(camera).image[0].clamp(0, 1)) > 45  # 8 bits


def test_photo_lies_over_the_render(page, visit, keep):
    """Half opaque, it is the mean of photo and render; a step away it is gone."""
    gaussians, posed = ball(1000, 0), around()
    server = open_server(gaussians, posed, look=LOOK, port=0)
    client = visit(server, 900, 600)
    page.wait_for_timeout(3000)
    field(page, "Photo").click()
    page.get_by_role("option", name="view_1.jpg").click()
    page.wait_for_selector("#sparse3d-photo", state="attached", timeout=30_000)
    page.wait_for_timeout(1500)
    box = page.locator("#sparse3d-photo").bounding_box()
    assert box is not None and abs(box["height"] - 600) < 1 and abs(box["x"] + box["width"] / 2 - 450) < 1
    shown = settled_screenshot(page)
    keep("overlay", shown)
    colour = posed.views[1].image[:, 0, 0]
    corner = shown[:, 560:590, 60:200].mean((1, 2))  # no Gaussian there, no panel
    torch.testing.assert_close(corner, (colour + torch.tensor(LOOK.background)) / 2, rtol=0, atol=0.03)
    client.camera.position = client.camera.position + np.array([0.5, 0.0, 0.0])
    page.wait_for_selector("#sparse3d-photo", state="detached", timeout=30_000)


def test_view_dependent_colour_follows_the_visitor(page, visit, keep):
    """Baked for where the visitor stands: as our own picture with harmonics, and unlike the one without."""
    gaussians, posed = ball(3000, 2), around()
    server = open_server(gaussians, posed, look=LOOK, port=0)
    client = visit(server, 900, 600)
    field(page, "Colour").click()
    page.get_by_role("option", name="view-dependent").click()
    page.wait_for_timeout(3000)
    nodes = server.scene.get_handle_by_name("/splats/0")
    eye = posed.views[0].c2w[:3, 3]
    want = sh_to_rgb(2, gaussians.means - eye, gaussians.sh).clamp(0, 1)
    wait_for(
        page, lambda: np.abs(nodes.rgbs / 255 - want.numpy()).max() < 0.02, "the colours are those seen from here", 20
    )
    plain = sh_to_rgb(0, gaussians.means, gaussians.sh).clamp(0, 1)
    assert float((want - plain).abs().mean()) > 0.05
    keep("view_dependent", settled_screenshot(page))
    eye = posed.views[1].c2w[:3, 3]
    pose = pose_of(posed.views[1], gaussians, posed)
    client.camera.position = pose["position"]
    want = sh_to_rgb(2, gaussians.means - eye, gaussians.sh).clamp(0, 1)
    wait_for(page, lambda: np.abs(nodes.rgbs / 255 - want.numpy()).max() < 0.02, "they follow", 20)


def test_measure_two_clicked_points(page, visit, keep):
    """Left and right rim of the ball as seen from the first view, found again to a few percent."""
    gaussians, posed = ball(6000, 0), around()
    opaque = Gaussians(*gaussians.values()[:3], torch.full((6000,), 6.0), gaussians.sh)
    server = open_server(opaque, posed, look=LOOK, port=0)
    client = visit(server, 1000, 640)
    tab(page, "Tools")
    press(page, "Measure")
    c2w = posed.views[0].c2w
    points = [
        torch.tensor([1.0, 2.0, 3.0]) + offset
        for offset in (torch.tensor([-0.5, 0, -0.866]), torch.tensor([0.5, 0, -0.866]))
    ]
    f = 320 / np.tan(client.camera.fov / 2)
    K = torch.tensor([[f, 0, 500], [0, f, 320], [0, 0, 1]], dtype=torch.float32)
    pixels, _ = project(torch.stack(points), torch.linalg.inv(c2w), K)
    for u, v in pixels.tolist():
        page.wait_for_timeout(700)
        page.mouse.click(u, v)
    box = field(page, "Distance")
    wait_for(page, lambda: box.input_value(), "a distance", 30)
    assert float(box.input_value().split()[0]) == pytest.approx(1.0, abs=0.08)  # Gaussians are 0.02 thick or more
    keep("measure", settled_screenshot(page))
    enter(page, "True length (m)", 2.5)
    press(page, "Set the scale")
    wait_for(page, lambda: field(page, "Distance").input_value() == "2.5 m", "metres", 10)


def test_two_scenes_side_by_side_move_together(page, visit, keep):
    gaussians, posed = ball(1000, 0), around()
    paler = Gaussians(*gaussians.values()[:4], gaussians.sh * 0.3)
    sources = [Source("left", gaussians, posed, look=LOOK), Source("right", paler, posed, look=LOOK)]
    servers, url = serve(sources, port=0, auth=True)
    page.set_viewport_size({"width": 1000, "height": 420})
    page.goto(url)
    clients = [next(iter(wait_for(page, server.get_clients, "both are connected").values())) for server in servers]
    page.wait_for_timeout(4000)
    assert page.locator("figcaption").all_inner_texts() == ["left", "right"]
    before = np.array(clients[1].camera.position)
    page.mouse.move(100, 300)
    page.mouse.down()
    page.mouse.move(220, 330, steps=5)
    page.mouse.up()
    wait_for(page, lambda: np.linalg.norm(clients[1].camera.position - before) > 0.5, "the right one moves too", 20)
    page.wait_for_timeout(2000)
    np.testing.assert_allclose(clients[1].camera.position, clients[0].camera.position, atol=0.02)
    keep("side_by_side", settled_screenshot(page))
    for server in servers:
        server.stop()


def test_page_needs_its_token(page, browser):
    servers, url = serve([Source("ball", ball(50, 0), around())], port=0, auth=True)
    page.goto(url)
    page.wait_for_selector("canvas")
    wait_for(page, servers[0].get_clients, "let in")
    assert "token" not in page.url
    other = browser.new_context().new_page()
    assert other.goto(url.partition("?")[0]).status == 401
    other.context.close()
    servers[0].stop()
