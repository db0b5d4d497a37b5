"""The viewer in a real browser."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from support.browser import page, settled

from sparse3d.frames import to_degree
from sparse3d.io.images import read_image
from sparse3d.io.load import load_scene
from sparse3d.metrics.image import psnr
from sparse3d.render import render
from sparse3d.viewer.placement import fit_placement
from sparse3d.viewer.server import address, open_server

pytestmark = pytest.mark.browser
H, W = 240, 320


@pytest.fixture
def shown(known_scene):
    scene = load_scene(known_scene)
    server = open_server(scene.gaussians, scene.posed, background=scene.look.background, port=0, token="words")
    yield scene, server
    server.stop()


def visitor(server, seconds: float = 30):
    until = time.monotonic() + seconds
    while not server.get_clients() and time.monotonic() < until:
        time.sleep(0.2)
    (client,) = server.get_clients().values()
    return client


def test_the_splats_are_what_we_render(shown, tmp_path):
    """Without view dependence, which viser does not draw; by the visitor's own browser, from a photo's camera."""
    scene, server = shown
    placement = fit_placement(scene.gaussians, scene.posed)
    view = scene.posed.views[1]
    camera = view.cameras.scaled_to(H, W)
    for name in ("/cameras", "/depth", "/points"):
        if (handle := server.scene.get_handle_by_name(name)) is not None:
            handle.visible = False
    with page(address(server), 640, 480) as opened:
        client = visitor(server)
        settled(opened, tmp_path / "page.png")
        wxyz, position = placement.pose(view.c2w)
        fov = 2 * float(torch.atan(H / 2 / camera.K[0, 1, 1]))
        array = client.get_render(H, W, wxyz=wxyz, position=position, fov=fov, transport_format="png")
    found = torch.from_numpy(np.array(array[..., :3])).permute(2, 0, 1) / 255
    wanted = render(to_degree(scene.gaussians, 0), camera, background=torch.tensor(scene.look.background)).image[0]
    assert psnr(found, wanted.clamp(0, 1)) > 20


def test_a_click_on_a_frustum_flies_there(shown, tmp_path):
    scene, server = shown
    placement = fit_placement(scene.gaussians, scene.posed)
    target = scene.posed.views[-1]
    _, wanted = placement.pose(target.c2w)
    with page(address(server), 640, 480) as opened:
        client = visitor(server)
        settled(opened, tmp_path / "page.png")
        before = np.linalg.norm(client.camera.position - wanted)
        # look at the frustum from behind, then click the middle of the window, left of the panel
        back = placement.pose(target.c2w)
        axis = target.c2w[:3, 2].numpy()
        client.camera.wxyz, client.camera.position = back[0], wanted - 0.6 * axis
        time.sleep(1.0)
        opened.mouse.click(320, 240)
        until = time.monotonic() + 15
        while np.linalg.norm(client.camera.position - wanted) > 0.02 and time.monotonic() < until:
            time.sleep(0.2)
        after = np.linalg.norm(client.camera.position - wanted)
    assert after < 0.05 < before


def test_a_visitor_who_leaves_midway_stops_nothing(shown, tmp_path):
    _, server = shown
    with page(address(server), 320, 240):
        visitor(server)
    with page(address(server), 640, 480) as opened:
        picture = settled(opened, tmp_path / "page.png")
    assert float(picture.std()) > 0.05


def test_the_reports_slider_goes_from_render_to_photo(known_scene, tmp_path):
    """From disk, by mouse and by keyboard, in light and dark."""
    report = known_scene / "report.html"
    assert "http" not in report.read_text(encoding="utf-8").replace("http://www.w3.org", "")
    with page(f"file://{report}", 900, 700) as opened:
        first = opened.locator(".ab").first
        slider = first.locator("input")
        render, photo = (first.locator("img").nth(i) for i in (0, 1))
        assert render.get_attribute("alt") == "render" and photo.get_attribute("alt") == "photo"
        shots = []
        for value in ("0", "100"):
            slider.fill(value)
            shots.append(first.screenshot())
        slider.focus()
        for _ in range(20):
            slider.press("ArrowLeft")
        assert int(slider.input_value()) == 80
        box = first.bounding_box()
        opened.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
        assert abs(int(slider.input_value()) - 25) <= 3
        opened.emulate_media(color_scheme="dark")
        opened.screenshot(path=str(tmp_path / "dark.png"), full_page=True)
        assert opened.locator("h2", has_text="Loss").count() == 1 and opened.locator("h2", has_text="Time").count() == 1
    (tmp_path / "all-photo.png").write_bytes(shots[0])
    (tmp_path / "all-render.png").write_bytes(shots[1])
    left, right = (read_image(tmp_path / name).image for name in ("all-photo.png", "all-render.png"))
    assert 15 < psnr(left, right) < 45  # two pictures of one place
