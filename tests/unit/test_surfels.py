"""Pieces of surface from depth maps of planes, where centre, normal and size are formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic import pinhole
from torch import Tensor

from sparse3d.geometry import pixel_rays, rotation_from_quat
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.surfels import Surfels, block_colors, surfels
from sparse3d.types import View

SIZE, FOCAL = (37, 50), 80.0  # no multiple of a stride
STEEPEST = 0.25  # cosine to the ray that normals are held to


def turned(seed: int) -> Tensor:
    """A camera anywhere. (4, 4)"""
    generator = torch.Generator().manual_seed(seed)
    c2w = torch.eye(4)
    c2w[:3, :3] = rotation_from_quat(torch.randn(4, generator=generator))
    c2w[:3, 3] = torch.randn(3, generator=generator)
    return c2w


def mapped(depth: Tensor, c2w: Tensor, image: Tensor | None = None) -> DepthMap:
    view = View("a", torch.rand(3, *depth.shape) if image is None else image, pinhole(*depth.shape, FOCAL), c2w)
    some = torch.where(depth > 0, 0.8, 0.0)
    return DepthMap(view, depth, some, (depth > 0).long(), torch.zeros_like(depth, dtype=torch.bool), 100.0)


def plane_depth(normal: Tensor, distance: float) -> Tensor:
    """Of normal . X = distance in camera axes, 0 where a ray misses it or sees it flatter than normals may be. (H, W)"""
    rays = pixel_rays(pinhole(*SIZE, FOCAL), *SIZE)
    towards = rays @ normal
    cosine = towards / rays.norm(dim=-1) / normal.norm()
    return torch.where(cosine > STEEPEST + 0.02, distance / towards, 0.0)


def in_camera(found: Surfels, c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (M, 3) and axes (M, 3, 3) in camera axes."""
    rotation = c2w[:3, :3]
    return (found.centres - c2w[:3, 3]) @ rotation, rotation.T @ rotation_from_quat(found.quats)


def within_one_surface(normal: Tensor, centres: Tensor) -> Tensor:
    """Where inverse depth changes by less than 3 % from pixel to pixel; more is taken for another surface. (M,) bool"""
    return normal[:2].abs().sum() / FOCAL / (centres @ normal / centres[:, 2]) < 0.025


def check_frames(found: Surfels, c2w: Tensor) -> None:
    """Orthonormal, right-handed, z towards the camera, x across the ray."""
    axes = rotation_from_quat(found.quats)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(3).expand(len(found), 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(len(found)), rtol=0, atol=1e-5)
    rays = torch.nn.functional.normalize(found.centres - c2w[:3, 3], dim=1)
    assert ((axes[:, :, 2] * rays).sum(1) < -STEEPEST + 1e-4).all()
    assert (axes[:, :, 0] * rays).sum(1).abs().max() < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    tilt_deg=st.floats(0, 65), about_deg=st.floats(0, 360), stride=st.integers(1, 4),
    distance=st.sampled_from([1e-3, 1.0, 50.0, 1e4]), seed=st.integers(0, 99),
)  # fmt: skip
def test_planes_at_any_angle_give_their_centres_and_normals(tilt_deg, about_deg, stride, distance, seed):
    tilt, about = math.radians(tilt_deg), math.radians(about_deg)
    normal = torch.tensor(
        [math.sin(tilt) * math.cos(about), math.sin(tilt) * math.sin(about), math.cos(tilt)]
    )  # away from the camera
    depth = plane_depth(normal, distance)
    c2w = turned(seed)
    found = surfels(mapped(depth, c2w), stride)
    assert len(found) > 0
    check_frames(found, c2w)
    centres, axes = in_camera(found, c2w)
    scale = centres.norm(dim=1) + 3  # the camera stands some units from the origin: what float32 holds of that
    off = (centres @ normal - distance).abs()
    fitted = within_one_surface(normal, centres)
    assert (off[fitted] <= 1e-4 * distance + 1e-6 * scale[fitted]).all()
    assert (off <= 0.05 * distance + 1e-6 * scale).all()  # half a block beside a pixel that is alone on its surface
    if distance >= 1:  # else the centre's own rounding is larger than a pixel
        assert ((axes[fitted, :, 2] + normal).norm(dim=1) < 2e-3).all()


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("tilt_deg", [0, 30, 60])
def test_spacing_is_the_pixel_size_and_wider_along_the_slope(tilt_deg, stride):
    """Blocks are stride z / f wide across; along the slope that much over the cosine between normal and ray."""
    tilt = math.radians(tilt_deg)
    normal = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])
    depth = plane_depth(normal, 3.0)
    found = surfels(mapped(depth, torch.eye(4)), stride)
    rays = torch.nn.functional.normalize(found.centres, dim=1)
    across = stride * found.centres[:, 2] / FOCAL
    torch.testing.assert_close(found.spacing[:, 0], across, rtol=1e-3, atol=0)
    fitted = within_one_surface(normal, found.centres)
    assert fitted.float().mean() > 0.6
    torch.testing.assert_close(found.spacing[fitted, 1], (across / (rays @ normal))[fitted], rtol=2e-3, atol=0)
    assert len(found) == int((depth[stride // 2 :: stride, stride // 2 :: stride] > 0).sum())


@pytest.mark.parametrize("pixel", [(0, 0), (18, 25), (7, 41), (36, 3)])
def test_a_surface_that_faces_a_ray_has_a_frame_too(pixel):
    """Across the ray and along the slope are then any two directions: no division by nearly nothing."""
    ray = pixel_rays(pinhole(*SIZE, FOCAL), *SIZE)[pixel].double()
    for off in (0.0, 1e-7, 1e-6, 1e-5, 1e-3):
        normal = torch.nn.functional.normalize(ray + off * torch.tensor([0.3, -1.0, 0.2], dtype=torch.double), dim=0)
        rays = pixel_rays(pinhole(*SIZE, FOCAL).double(), *SIZE)
        depth = (2.0 / (rays @ normal)).float()
        found = surfels(mapped(depth, torch.eye(4)), 1)
        assert len(found) == SIZE[0] * SIZE[1]
        check_frames(found, torch.eye(4))
        away = rotation_from_quat(found.quats)[:, :, 2] + normal.float()
        assert away.norm(dim=1).max() < 1e-3


def test_a_lone_pixel_faces_the_camera():
    depth = torch.zeros(SIZE)
    depth[9, 12] = 2.0
    found = surfels(mapped(depth, torch.eye(4)), 1)
    torch.testing.assert_close(found.centres[0, 2], torch.tensor(2.0))
    torch.testing.assert_close(rotation_from_quat(found.quats)[0, :, 2], torch.tensor([0.0, 0.0, -1.0]))


def test_noise_in_depth_is_reduced():
    """A plane through 49 pixels: the middle's variance is a 49th of a pixel's."""
    normal = torch.tensor([0.4, 0.1, 0.9])
    truth = plane_depth(normal, 3.0)
    noise = 0.004 * torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    found = surfels(mapped(truth / (1 + noise), torch.eye(4)), 1)
    inner = torch.zeros(SIZE, dtype=torch.bool)
    inner[3:-3, 3:-3] = True
    error = (found.centres @ normal / 3.0 - 1)[inner.flatten()]
    assert error.std() < 1.4 * 0.004 / 7  # 4 times the standard error of so few independent windows
    within = rotation_from_quat(found.quats)[inner.flatten()][:, :, 2] @ torch.nn.functional.normalize(normal, dim=0)
    assert within.median() < -math.cos(math.radians(6))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_two_surfaces_at_a_step_do_not_mix(stride):
    columns = torch.arange(SIZE[1])
    depth = torch.where(columns < 24, 2.0, 3.0).expand(SIZE).contiguous()
    found = surfels(mapped(depth, torch.eye(4)), stride)
    z, axes = found.centres[:, 2], rotation_from_quat(found.quats)
    assert (((z - 2).abs() < 1e-5) | ((z - 3).abs() < 1e-5)).all()
    torch.testing.assert_close(axes[:, :, 2], torch.tensor([0.0, 0, -1]).expand(len(found), 3), rtol=0, atol=1e-5)


def test_a_surface_seen_flat_is_held_to_the_steepest():
    """Inverse depth rises by 2.8 % a pixel: by 2.8 % x 240 a unit of the ray, the tangent of 81.5 degrees from the axis."""
    inverse = (0.5 * 1.028 ** (torch.arange(50.0) - 25)).expand(SIZE)
    found = mapped(1 / inverse, torch.eye(4))
    found = surfels(replace(found, view=replace(found.view, K=pinhole(*SIZE, 240.0))), 1)
    check_frames(found, torch.eye(4))
    rays = torch.nn.functional.normalize(found.centres, dim=1)
    axes = rotation_from_quat(found.quats)
    cosine = -(axes[:, :, 2] * rays).sum(1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, STEEPEST), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.spacing[:, 1], found.spacing[:, 0] / STEEPEST, rtol=1e-3, atol=0)
    assert (axes[:, 0, 2] < -0.9).all()  # what is to the right is nearer, so it is seen from the left


def test_colours_are_means_of_blocks():
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    got = block_colors(image, 3)
    assert got.shape == (2, 3, 3)
    torch.testing.assert_close(got[0, 1], image[:, 0:3, 3:6].mean((1, 2)))
    torch.testing.assert_close(got[1, 2], image[:, 3:5, 6:7].mean((1, 2)))  # what there is


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 2)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_tiny_maps_and_empty_ones(size, stride):
    nothing = surfels(mapped(torch.zeros(size), torch.eye(4)), stride)
    assert len(nothing) == 0 and nothing.quats.shape == (0, 4) and nothing.spacing.shape == (0, 2)
    found = surfels(mapped(torch.full(size, 2.0), torch.eye(4)), stride)
    assert len(found) == len(range(stride // 2, size[0], stride)) * len(range(stride // 2, size[1], stride))
    torch.testing.assert_close(found.centres[:, 2], torch.full((len(found),), 2.0))


def test_some_of_them_by_mask():
    found = surfels(mapped(torch.full(SIZE, 2.0), torch.eye(4)), 4)
    keep = torch.arange(len(found)) % 3 == 0
    few = found[keep]
    assert len(few) == int(keep.sum())
    for name, value in vars(found).items():
        assert torch.equal(getattr(few, name), value[keep])
