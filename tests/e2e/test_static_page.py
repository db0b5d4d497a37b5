"""The page that `sparse3d export --format html` writes, opened from disk in a real browser and held to our own renders."""

from __future__ import annotations

import pytest
import torch
from support.browser import page, settled

from sparse3d.frames import to_degree
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.metrics.image import psnr
from sparse3d.paths import look_at
from sparse3d.render import render
from sparse3d.types import Cameras, Gaussians
from sparse3d.viewer.static_page import write_html

pytestmark = pytest.mark.browser
H, W = 180, 240
BACKGROUND = (0.1, 0.15, 0.2)


def ball() -> Gaussians:
    """Discs on a sphere of radius 1, whose colours change strongly with the direction they are seen from."""
    g = torch.Generator().manual_seed(1)
    normals = torch.nn.functional.normalize(torch.randn(1500, 3, generator=g), dim=1)
    sh = torch.zeros(len(normals), 16, 3)
    sh[:, 0] = 0.3 * torch.randn(len(normals), 3, generator=g)
    sh[:, 1:4] = torch.tensor([[0.9, 0, 0], [0, 0.9, 0], [0, 0, -0.9]])[None]
    sh[:, 4:] = 0.15 * torch.randn(len(normals), 12, 3, generator=g)
    quats = torch.nn.functional.normalize(torch.randn(len(normals), 4, generator=g), dim=1)
    return Gaussians(normals, quats, torch.full((len(normals), 3), -2.8), torch.full((len(normals),), 3.0), sh)


def camera(x: float) -> Cameras:
    """A level camera 3.5 away that looks at the middle."""
    c2w = look_at(torch.tensor([x, -0.8, -3.3]), torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    K = torch.tensor([[200.0, 0, W / 2], [0, 200.0, H / 2], [0, 0, 1]])
    return Cameras(c2w[None], K[None], H, W)


@pytest.mark.parametrize("x", [-1.5, 1.0])
def test_it_shows_what_we_render_with_view_dependence(tmp_path, x):
    scene, start = ball(), camera(x)
    write_html(tmp_path / "scene.html", scene, start, torch.zeros(3), background=BACKGROUND)
    draw = lambda gaussians: render(gaussians, start, background=torch.tensor(BACKGROUND)).image[0].clamp(0, 1)
    with page(f"file://{tmp_path}/scene.html?noui&noanim", W, H) as opened:
        shown = settled(opened, tmp_path / "shown.png")
    assert shown.shape == (3, H, W)
    found = psnr(shown, draw(scene))
    assert found > 22, found  # it smooths a little otherwise, and its splats are compressed
    assert found > psnr(shown, draw(to_degree(scene, 0))) + 3


def test_a_scene_opens_from_one_file_with_its_controls(known_scene, run, tmp_path):
    done = run("export", known_scene, "--format", "html", "-o", tmp_path / "scene.html")
    assert done.exit_code == 0, done.output
    assert len(read_transforms(known_scene / "cameras" / "transforms.json")) > 1
    text = (tmp_path / "scene.html").read_text(encoding="utf-8")
    assert "http://" not in text.split("<script")[0] and "src=" not in text.split('id="scene"')[0]
    with page(f"file://{tmp_path}/scene.html?noanim", 480, 320) as opened:
        shown = settled(opened, tmp_path / "shown.png")
        assert opened.title() == known_scene.name
        assert opened.locator("canvas").count() == 1 and opened.locator("button, [role=button], .button").count() > 0
    colours = (shown * 15).round().flatten(1).T.unique(dim=0)
    assert len(colours) > 100
