"""The forward warp, in PyTorch and compiled, by closed forms: homographies, silhouettes and single pixels."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.synthetic import OFFSET, SLOPE, pinhole, textured_plane
from torch import Tensor

from sparse3d.geometry import pixel_rays, rotation_from_quat
from sparse3d.kernels import cpu_warp, warp
from sparse3d.kernels.sweep import plane_transfer

STEP = 1 / 1024  # pixels: positions are rounded to it

KERNELS = ["reference"] if os.environ.get("SPARSE3D_PURE") else ["reference", "compiled"]


@pytest.fixture(params=KERNELS)
def draw(request) -> Callable[..., warp.Warp]:
    """`forward_warp`, in both forms."""
    return {"reference": warp.forward_warp, "compiled": cpu_warp.forward_warp}[request.param]


def one(
    draw: Callable[..., warp.Warp],
    image: Tensor,
    depth: Tensor,
    K: Tensor,
    transform: Tensor | None = None,
    target: tuple[Tensor, int, int] | None = None,
    **settings: float,
) -> warp.Warp:
    """Warps one photo, into a camera like its own or one of `target`: K, height, width."""
    transform = torch.eye(4) if transform is None else transform
    return draw([image], [depth], K[None], transform[None], *(target or (K, *depth.shape)), **settings)


def shifted(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Tensor:
    """Points move by this in camera axes."""
    transform = torch.eye(4)
    transform[:3, 3] = torch.tensor([x, y, z])
    return transform


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def test_identity_gives_the_photo(draw):
    """Tears, holes and borders change nothing: pixel centres are vertices."""
    image = noise(23, 31)
    depth = 1 + 5 * torch.rand(23, 31, generator=torch.Generator().manual_seed(1))
    depth[3:5, 7] = 0
    depth[10, 11:14] = torch.nan
    depth[0, 0], depth[22, 30] = torch.inf, -1
    known = (depth > 0) & depth.isfinite()
    got = one(draw, image, depth, pinhole(23, 31))
    assert torch.equal(got.validity, known.float())
    torch.testing.assert_close(got.color, image * known, rtol=0, atol=1e-6)
    torch.testing.assert_close(got.depth, depth.nan_to_num(0).clamp(min=0) * known.nan_to_num(0), rtol=1e-6, atol=0)


def plane_homography(K: Tensor, transform: Tensor, normal: Tensor, offset: float) -> Tensor:
    """Pixels of a target to those of a photo that sees the plane normal . p = offset in its own axes. (3, 3) float64"""
    turn, shift = plane_transfer(K.double(), K.double(), transform.double())
    disparity = normal.double() @ torch.linalg.inv(K.double()) / offset  # 1 / depth, linear in the photo's pixels
    return torch.linalg.inv(turn + shift[:, None] * disparity)


def mapped(homography: Tensor, pixels: Tensor) -> Tensor:
    """(..., 2) pixels; NaN for those that do not face each other."""
    seen = F.pad(pixels, (0, 1), value=1.0) @ homography.T
    return torch.where(seen[..., 2:] > 0, seen[..., :2] / seen[..., 2:], torch.nan)


def centres(height: int, width: int) -> Tensor:
    """Pixel centres. (H, W, 2) float64"""
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width)), indexing="ij")
    return torch.stack([u, v], dim=-1)


def inside(pixels: Tensor, height: int, width: int, margin: float) -> Tensor:
    """Which pixels are between a photo's outermost pixel centres, and `margin` from them. (H, W) bool"""
    return (pixels > 0.5 + margin).all(-1) & (pixels < torch.tensor([width, height]) - 0.5 - margin).all(-1)


def test_a_plane_is_warped_by_its_homography(draw):
    """A surface of triangles is exact on a plane, so this is bilinear sampling at the homography's pixels."""
    views, depths = textured_plane()
    source, target = views.views[0], views.views[2]
    transform = target.cameras.w2c[0] @ source.c2w
    got = one(draw, source.image, depths[0], source.K, transform)
    x, _, z = source.c2w[:3, 3].tolist()
    homography = plane_homography(source.K, transform, torch.tensor([-SLOPE, 0, 1]), OFFSET + SLOPE * x - z)
    size = (source.height, source.width)
    pixels = mapped(homography, centres(*size))
    seen = inside(pixels, *size, 2 * STEP)
    assert 0.7 < seen.double().mean() < 0.9
    grid = 2 * pixels / torch.tensor([source.width, source.height]) - 1
    sampled = F.grid_sample(source.image[None].double(), grid[None], align_corners=False)[0]
    # a pixel's place is off by the rounding of vertices, a colour by that times the texture's slope of at most 0.2 a pixel
    assert (got.color - sampled).abs()[:, seen].max() < 2 * STEP * 0.2 + 1e-5
    assert (got.color - target.image).abs()[:, seen].max() < 0.02  # and that of bilinear sampling itself
    torch.testing.assert_close(got.depth[seen], depths[2][seen], rtol=2e-4, atol=0)
    assert (got.validity[~inside(pixels, *size, -0.5 - 2 * STEP)] == 0).all()


@pytest.mark.parametrize("angle_deg", [45.0, 70.0, 80.0])
def test_stretched_surfaces_have_no_holes(draw, angle_deg):
    """A plane that the photo sees at a grazing angle and the target from the front: validity is 1 / stretch everywhere."""
    height, width, angle = 48, 64, torch.deg2rad(torch.tensor(angle_deg))
    K, steep = pinhole(height, width), float(torch.tan(angle))
    disparity = (1 - steep * pixel_rays(K, height, width)[..., 0]) / 5  # z = 5 + steep x
    depth = torch.where(disparity * 5 > steep / 11, 1 / disparity, torch.zeros_like(disparity))  # 85 degrees: 11.4
    transform = torch.eye(4)  # turned about the point in the middle
    transform[:3, :3] = rotation_from_quat(torch.tensor([torch.cos(angle / 2), 0, torch.sin(angle / 2), 0]))
    transform[:3, 3] = torch.tensor([0.0, 0, 5]) - transform[:3, :3] @ torch.tensor([0.0, 0, 5])
    got = one(draw, noise(height, width), depth, K, transform)

    homography = plane_homography(K, transform, torch.tensor([-steep, 0, 1]), 5)
    pixels = mapped(homography, centres(height, width))
    known = int((depth[0] > 0).sum())  # columns, from the left
    seen = inside(pixels, height, known, 0.01)
    assert seen.sum() > 400 and (got.validity[seen] > 0).all()
    assert not (got.validity[~inside(pixels, height, known, -0.51)] > 0).any()
    step = 1e-3
    jacobian = torch.stack(
        [
            (mapped(homography, centres(height, width) + move) - mapped(homography, centres(height, width) - move))
            / (2 * step)
            for move in step * torch.eye(2, dtype=torch.float64)
        ],
        dim=-1,
    )  # photo's pixels by the target's: its smallest singular value is 1 / stretch
    expected = torch.linalg.svdvals(jacobian[seen])[:, 1].clamp(max=1)
    # the stretch is that in the middle of a photo's pixel, over which it changes by up to a fifth
    error = (got.validity[seen] / expected - 1).abs()
    assert error.median() < 0.06 and error.max() < 0.25


def two_planes(height: int = 40, width: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """A red square at depth 2 before a blue wall at depth 5: image, depth, K."""
    depth = torch.full((height, width), 5.0)
    depth[12:28, 20:40] = 2.0
    near = depth == 2
    return torch.stack([near.float(), torch.zeros_like(depth), (~near).float()]), depth, pinhole(height, width)


def test_nearer_wins_and_no_rubber_sheet(draw):
    image, depth, K = two_planes()
    got = one(draw, image, depth, K, shifted(x=-0.37))
    v, u = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    # a surface at depth z moves left by 60 * 0.37 / z pixels: 11.1 and 4.44
    near_u, far_u = u + 11.1, u + 4.44

    def within(x: Tensor, margin: float) -> Tensor:
        """Whether the photo shows the square there, which ends between pixel centres."""
        return (x > 20 - margin) & (x < 40 + margin) & (v > 12 - margin) & (v < 28 + margin)

    square = within(near_u, -0.01)
    wall = ~within(near_u, 0.01) & ~within(far_u, 0.51) & (far_u < 59.49)
    opened = ~within(near_u, 0.01) & within(far_u, -0.01)
    assert square.sum() > 250 and wall.sum() > 1500 and opened.sum() > 90
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    inner = within(near_u, -0.51)
    torch.testing.assert_close(got.color[:, inner].T, red.expand(int(inner.sum()), 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(got.depth[square], torch.full_like(got.depth[square], 2.0))
    torch.testing.assert_close(got.color[:, wall].T, blue.expand(int(wall.sum()), 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(got.depth[wall], torch.full_like(got.depth[wall], 5.0))
    assert (got.validity[wall] == 1).all() and (got.validity[inner] == 1).all()
    assert (got.validity[opened] == 0).all() and (got.color[:, opened] == 0).all() and (got.depth[opened] == 0).all()


@pytest.mark.parametrize("offset", [0.0, 0.125, 0.25, 0.375, 0.5, 0.75])
def test_edges_are_soft(draw, offset):
    """Coverage falls from 1 at the outermost pixel centres to 0 half a pixel further out."""
    K = pinhole(8, 10)
    moved = K.clone()
    moved[0, 2] += offset  # the picture moves right, and its left end shows
    got = one(draw, torch.ones(3, 8, 10), torch.full((8, 10), 3.0), K, target=(moved, 8, 10))
    expected = max(0.0, 1 - 2 * offset)
    torch.testing.assert_close(got.validity[1:-1, 0], torch.full((6,), expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(got.color[:, 1:-1, 0], torch.full((3, 6), float(expected > 0)), rtol=0, atol=1e-6)
    assert (got.validity[1:-1, 1:] > 1 - 1e-6).all()


def test_a_lone_pixel_is_a_small_square(draw):
    """Joined to none, it keeps its own place, colour and size, and covers less towards its rim."""
    depth = torch.zeros(9, 9)
    depth[4, 4] = 2.0
    K = pinhole(9, 9)
    large = torch.tensor([[600.0, 0, 45], [0, 600.0, 45], [0, 0, 1]])
    image = torch.zeros(3, 9, 9)
    image[:, 4, 4] = torch.tensor([0.2, 0.5, 0.9])
    got = one(draw, image, depth, K, target=(large, 90, 90))
    y, x = torch.meshgrid((torch.arange(90) - 44.5) / 10, (torch.arange(90) - 44.5) / 10, indexing="ij")
    rim = torch.maximum(x.abs(), y.abs())  # 0 at the pixel's centre, a half at its rim
    within = rim < 0.5
    assert (got.validity[~within] == 0).all()
    coverage = got.validity[within] * 10  # it is enlarged tenfold
    # from 1 at the centre to 0 at the rim along the axes; the fan's triangles make the diagonals the same
    assert ((coverage - (1 - 2 * rim[within])).abs()).max() < 1e-3
    torch.testing.assert_close(got.color[:, within].T, torch.tensor([[0.2, 0.5, 0.9]]).expand(int(within.sum()), 3))


def test_pixels_across_a_tear_do_not_mix(draw):
    """The wall's fringe has the wall's colour up to the tear, though its neighbour in the photo is red."""
    image, depth, K = two_planes()
    got = one(draw, image, depth, K, shifted(x=-0.37))
    far = got.depth == 5
    assert far.any() and (got.color[0][far] == 0).all()


def test_the_back_of_a_surface_is_not_drawn(draw):
    image, K = noise(20, 24), pinhole(20, 24)
    behind = torch.diag(torch.tensor([-1.0, 1, -1, 1]))  # turned around, and as far behind the plane
    behind[2, 3] = 8.0
    got = one(draw, image, torch.full((20, 24), 4.0), K, behind)
    assert (got.validity == 0).all() and (got.color == 0).all()


def test_surfaces_behind_the_camera_are_not_drawn(draw):
    """A floor, and a camera above the middle of it: what lies before it is drawn, the rest leaves no trace."""
    height, width = 30, 40
    K = pinhole(height, width, 30.0)
    below = pixel_rays(K, height, width)[..., 1]
    depth = torch.where(below > 0, 1.5 / below, torch.zeros_like(below))  # 1.5 below the camera
    image = noise(height, width)
    behind = ((depth > 0) & (depth < 6)).sum()
    got = one(draw, image, depth, K, shifted(z=-6.0))
    drawn = got.validity > 0
    assert behind > 200 and all(values.isfinite().all() for values in got)
    assert (drawn[16:, 10:30]).all() and not drawn[:15].any()
    torch.testing.assert_close(got.depth[16:, 10:30], depth[16:, 10:30], rtol=1e-2, atol=0)
    cut = one(draw, image, depth, K, shifted(z=-6.0), near_plane=5.0)
    assert (cut.depth[cut.validity > 0] > 5).all() and (cut.validity[16:20, 10:30] > 0).all()
    assert (one(draw, image, depth, K, shifted(z=-1000.0)).validity == 0).all()


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf, 3e38])
def test_no_depth_no_picture(draw, value):
    got = one(draw, noise(6, 7), torch.full((6, 7), value), pinhole(6, 7))
    assert all((values == 0).all() for values in got)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_tiny_images(draw, size):
    image = noise(*size)
    got = one(draw, image, torch.full(size, 2.0), pinhole(*size))
    torch.testing.assert_close(got.color, image, rtol=0, atol=1e-6)
    assert (got.validity == 1).all()


def blend_of(draw, depths: tuple[float, float], tolerance: float = 0.02) -> warp.Warp:
    """A red photo and a green one of a wall at these depths."""
    K = pinhole(6, 8)
    images = [torch.eye(3)[k][:, None, None].expand(3, 6, 8).contiguous() for k in range(2)]
    maps = [torch.full((6, 8), depth) for depth in depths]
    return draw(images, maps, K.repeat(2, 1, 1), torch.eye(4).repeat(2, 1, 1), K, 6, 8, tolerance=tolerance)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("apart, share", [(0.0, 0.5), (0.015, 0.5), (0.03, 1 / 3), (0.045, 0.0)])
def test_photos_that_agree_are_blended(draw, apart, share, order):
    """The farther one is hidden from 1 to 2 tolerances on: at 1.5 by half, so its weight is half of the other's."""
    depths = (4.0, 4.0 * (1 + apart))
    got = blend_of(draw, depths[::order])
    color = torch.tensor([1 - share, share, 0.0])
    color = color if order == 1 else color[[1, 0, 2]]
    torch.testing.assert_close(got.color[:, 3, 4], color, rtol=0, atol=1e-4)
    assert depths[0] - 1e-5 <= got.depth[3, 4] <= depths[1] and (got.validity == 1).all()
    if share == 0:
        assert abs(got.depth[3, 4] - 4.0) < 1e-5


def test_sharper_photos_weigh_more(draw):
    """Of two photos of a wall, one has a third of the other's resolution: weight 1/9, validity the weighted mean."""
    fine, coarse = pinhole(30, 30), pinhole(10, 10, 20.0)
    images = [torch.eye(3)[0][:, None, None].expand(3, 30, 30), torch.eye(3)[1][:, None, None].expand(3, 10, 10)]
    maps = [torch.full((30, 30), 4.0), torch.full((10, 10), 4.0)]
    got = draw(images, maps, torch.stack([fine, coarse]), torch.eye(4).repeat(2, 1, 1), fine, 30, 30)
    torch.testing.assert_close(got.color[:, 15, 15], torch.tensor([0.9, 0.1, 0.0]), rtol=0, atol=2e-3)
    assert abs(got.validity[15, 15] - (1 + 1 / 27) / (1 + 1 / 9)) < 2e-3


def test_units_do_not_matter(draw):
    """A world of another size gives the same picture."""
    image, depth, K = two_planes()
    small = one(draw, image, depth, K, shifted(x=-0.3, z=0.2))
    large = one(draw, image, depth * 64, K, shifted(x=-0.3 * 64, z=0.2 * 64), near_plane=0.64)
    torch.testing.assert_close(large.color, small.color)
    torch.testing.assert_close(large.depth, small.depth * 64)
    torch.testing.assert_close(large.validity, small.validity)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": []}, "images is empty"),
        ({"depths": []}, "depths holds 0 maps for 1 images"),
        ({"images": [torch.zeros(4, 5)]}, r"images\[0\] is \(4, 5\), needed \(3, Hs, Ws\)"),
        ({"images": [torch.zeros(3, 0, 5)]}, r"images\[0\] is \(3, 0, 5\)"),
        ({"images": [torch.zeros(3, 4, 5, dtype=torch.float64)]}, r"images\[0\] is torch.float64 on cpu and K is"),
        ({"depths": [torch.ones(4, 5, dtype=torch.int64)]}, r"depths\[0\] is torch.int64"),
        ({"depths": [torch.ones(5, 4)]}, r"depths\[0\] is \(5, 4\), needed \(4, 5\)"),
        ({"depths": [torch.ones(4, 5, device="meta")]}, r"depths\[0\] is torch.float32 on meta"),
        ({"Ks": torch.eye(3)}, r"Ks is \(3, 3\), needed \(1, 3, 3\)"),
        ({"source_to_target": torch.eye(4)}, r"source_to_target is \(4, 4\), needed \(1, 4, 4\)"),
        ({"K": torch.eye(4)}, r"K is \(4, 4\), needed \(3, 3\)"),
        ({"height": 0}, "height is 0"),
        ({"width": 20000}, "width is 20000"),
        ({"near_plane": 0.0}, "near_plane is 0.0"),
        ({"steepest_deg": 90.0}, "steepest_deg is 90.0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
    ],
)
def test_mistakes_are_named(draw, change, words):
    arguments = {
        "images": [torch.zeros(3, 4, 5)],
        "depths": [torch.ones(4, 5)],
        "Ks": torch.eye(3)[None],
        "source_to_target": torch.eye(4)[None],
        "K": torch.eye(3),
        "height": 4,
        "width": 5,
        **change,
    }
    with pytest.raises(ValueError, match=words):
        draw(**arguments)
