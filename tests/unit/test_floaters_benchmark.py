"""What benchmarks/floaters.py measures, on Gaussians and points made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from harness.contact_sheet import LABEL_PX, frame_sheet
from harness.flight import swing, write_flight
from harness.haze import Surface, alpha_in_front, surface_from, surfaces_of, without_hidden

from sparse3d.geometry import pixel_rays, project
from sparse3d.init.sfm import round_gaussians
from sparse3d.io.images import read_image
from sparse3d.io.video import extract_frames
from sparse3d.paths import focus_point, look_at
from sparse3d.render import Look, rasterizer
from sparse3d.types import Cameras, Gaussians, Points, View

HEIGHT, WIDTH = 30, 40
K = torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])
CAMERA = Cameras(torch.eye(4)[None], K[None], HEIGHT, WIDTH)
LOOK = Look((0.0, 0.0, 0.0), antialiased=False, near_plane=0.01)


def grey(centres: torch.Tensor, sigma: float, opacity: float) -> Gaussians:
    """Round Gaussians of one size."""
    return round_gaussians(centres, torch.full((len(centres),), sigma), opacity, torch.full_like(centres, 0.5))


def wall(depth: float) -> Gaussians:
    """Opaque, across the whole picture and more."""
    rays = pixel_rays(K, HEIGHT, WIDTH)[::2, ::2].reshape(-1, 3)
    return grey(rays * depth, depth / 25, 0.99)


def sheet(depth: float, alpha: float) -> Gaussians:
    """One Gaussian so much wider than the picture that its alpha is the same everywhere in it."""
    return grey(torch.tensor([[0, 0, depth]]), 100 * depth, alpha)


def everywhere(depth: float) -> Surface:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return Surface(torch.stack([columns, rows], -1).reshape(-1, 2), torch.full((HEIGHT * WIDTH,), depth))


def haze(parts: list[Gaussians], surface: Surface) -> torch.Tensor:
    return alpha_in_front(Gaussians.joined(parts), CAMERA, surface, LOOK, rasterizer("reference"))


@pytest.mark.parametrize("alphas, want", [([], 0.0), ([0.3], 0.3), ([0.3, 0.3], 0.51), ([0.9], 0.9)])
def test_haze_is_the_alpha_of_what_is_in_front_of_the_wall(alphas, want):
    """Two sheets of 0.3 leave 0.7 * 0.7 of the light."""
    sheets = [sheet(2.0 + index, alpha) for index, alpha in enumerate(alphas)]
    found = haze([wall(6.0), *sheets], everywhere(6.0))
    torch.testing.assert_close(found, torch.full_like(found, want), rtol=0, atol=1e-3)


@pytest.mark.parametrize("depth, counts", [(0.85, True), (0.91, False), (1.2, False)])
@pytest.mark.parametrize("truth", [0.3, 1.0, 4.0, 57.0])
def test_what_is_near_the_surface_or_behind_it_is_no_haze(truth, depth, counts):
    found = haze([sheet(depth * truth, 0.3)], everywhere(truth))
    torch.testing.assert_close(found, torch.full_like(found, 0.3 * counts), rtol=0, atol=1e-3)


def test_each_pixel_is_judged_by_its_own_truth():
    """A sheet at depth 3 is in front of the surface on the right, at 6, and behind that on the left, at 2."""
    surface = everywhere(2.0)
    right = surface.pixels[:, 0] >= 20
    found = haze([sheet(3.0, 0.3)], Surface(surface.pixels, torch.where(right, 6.0, 2.0)))
    torch.testing.assert_close(found, 0.3 * right, rtol=0, atol=1e-3)


def test_a_floater_counts_where_it_is():
    """A small opaque Gaussian on the optical axis hides the middle of the wall and no corner."""
    floater = grey(torch.tensor([[0.0, 0, 2]]), 0.2, 0.99)
    found = haze([wall(6.0), floater], everywhere(6.0)).reshape(HEIGHT, WIDTH)
    assert found[15, 20] > 0.9 and found[0, 0] == 0 and found[-1, -1] == 0


def points_at(places: list[list[float]], tracks: list[tuple[str, ...]] | None = None) -> Points:
    count = len(places)
    return Points(
        torch.tensor(places), torch.zeros(count, 3), torch.zeros(count), tuple(tracks or [("a", "b")] * count)
    )


def test_points_hide_what_is_behind_them():
    """1 % of 400 px is 4 px: the second is hidden by the first, the third is 6 px beside it, the last two are out of the picture."""
    places = [[0.0, 0, 2], [0.02, 0, 4], [0.05, 0, 4], [0, 0, -1], [4, 0, 4]]
    found = surface_from(CAMERA.scaled_to(300, 400), points_at(places))
    assert found.pixels.tolist() == [[200, 150], [206, 150]] and found.depths.tolist() == [2, 4]


def test_a_slanted_surface_does_not_hide_itself():
    surface = Surface(torch.tensor([[10, 10], [11, 10], [12, 10]]), torch.tensor([1.0, 1.09, 1.3]))
    assert without_hidden(surface, CAMERA, 1).depths.tolist() == pytest.approx([1.0, 1.09])
    assert len(without_hidden(surface, CAMERA, 0).depths) == 3


def test_photos_see_the_points_whose_tracks_hold_them():
    views = [View(name, torch.zeros(3, HEIGHT, WIDTH), K, torch.eye(4)) for name in "ab"]
    # four corners, for the depth between points is a matter of triangles; the last is seen by the other photo alone
    places = [[-1.0, -1, 4], [1, -1, 4], [-1, 1, 4], [1, 1, 4], [0, 0, 2]]
    tracks = [("a", "b")] * 4 + [("b", "c")]
    assert [len(surface.depths) for surface in surfaces_of(views, points_at(places, tracks))] == [4, 5]


def ring(angles_deg: list[float], target: torch.Tensor) -> list[View]:
    """Views on a circle of radius 3 around a target, level, all looking at it."""
    views = []
    for angle in angles_deg:
        there = target + 3 * torch.tensor([math.sin(math.radians(angle)), 0.0, -math.cos(math.radians(angle))])
        c2w = look_at(there, target, torch.tensor([0.0, -1, 0]))
        views.append(View(str(angle), torch.zeros(3, HEIGHT, WIDTH), K, c2w))
    return views


def test_the_flight_turns_about_what_the_views_look_at():
    """From views at -20, 0 and 20 degrees, an angle is the view at that angle of the same circle."""
    target = torch.tensor([1.0, -2, 5])
    views = ring([-20, 0, 20], target)
    for camera, want in zip(swing(views, [-15, 0, 10]), ring([-15, 0, 10], target), strict=True):
        torch.testing.assert_close(camera.c2w[0], want.c2w, rtol=0, atol=1e-5)
        assert torch.equal(camera.K[0], K) and (camera.height, camera.width) == (HEIGHT, WIDTH)


def test_the_flight_passes_through_a_photo_and_keeps_the_focus_in_place():
    """Even where no axis meets the focus exactly."""
    views = ring([-20, 3, 20], torch.tensor([1.0, -2, 5]))
    views[1] = View("tilted", views[1].image, K, views[1].c2w @ _pitched(4))
    focus = focus_point(torch.stack([view.c2w for view in views]))
    cameras = swing(views, [0, 15])
    torch.testing.assert_close(cameras[0].c2w[0], views[1].c2w, rtol=0, atol=1e-6)
    (before, _), (after, _) = (project(focus[None], camera.w2c[0], K) for camera in cameras)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-3)


def _pitched(angle_deg: float) -> torch.Tensor:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = torch.eye(4)
    turn[1:3, 1:3] = torch.tensor([[cos, -sin], [sin, cos]])
    return turn


def test_frames_are_laid_out_row_by_row():
    pictures = [torch.full((3, 5, 7), value) for value in (0.2, 0.4, 0.6)]
    made = frame_sheet([("", picture) for picture in pictures], columns=2)
    assert made.shape == (3, 2 * (5 + LABEL_PX), 14)
    corners = made[0, [LABEL_PX, LABEL_PX, -1, -1], [0, 7, 0, 7]]
    assert corners.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.0])


def test_the_video_goes_there_and_back(tmp_path):
    """4 frames of odd size make 6: the two at the ends are not doubled."""
    pytest.importorskip("imageio_ffmpeg")
    frames = [torch.full((3, 33, 49), value) for value in (0.1, 0.3, 0.5, 0.7)]
    write_flight(tmp_path / "out" / "flight.mp4", frames)
    read = [read_image(file).image for file in extract_frames(tmp_path / "out" / "flight.mp4", 6, tmp_path)]
    assert read[0].shape == (3, 32, 48)
    assert [float(frame.mean()) for frame in read] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.5, 0.3], abs=0.03)
