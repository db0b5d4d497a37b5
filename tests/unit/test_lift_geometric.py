"""Depth from a picture's geometry: known rooms and roads, and photos with nothing to go by."""

from __future__ import annotations

import math

import pytest
import torch

from sparse3d.lift.geometric import geometric_depth
from sparse3d.lift.horizon import focal_of, segments, upright

K = torch.tensor([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]])


def rotation(pitch: float, roll: float) -> torch.Tensor:
    """World (y down) to camera."""
    p, r = math.radians(pitch), math.radians(roll)
    tilt = torch.tensor([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    turn = torch.tensor([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return turn @ tilt


def posts(pitch: float, roll: float) -> torch.Tensor:
    """Segments (N, 4) of vertical posts before the camera."""
    lines = []
    for x in torch.linspace(-2, 2, 9):
        ends = torch.stack([torch.tensor([float(x), y, 5.0]) for y in (-1.5, 1.0)]) @ rotation(pitch, roll).T
        pixels = ends @ K.T
        lines.append((pixels[:, :2] / pixels[:, 2:]).flatten())
    return torch.stack(lines)


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (15, 0), (-20, 5), (10, -12)])
def test_up_is_found_from_vertical_lines(pitch, roll):
    held = upright(posts(pitch, roll).double().numpy(), K)
    true = rotation(pitch, roll) @ torch.tensor([0.0, -1.0, 0.0])
    assert held.found and math.degrees(math.acos(min(1.0, float(held.up @ true)))) < 0.5


def test_without_lines_the_camera_is_supposed_to_be_level():
    held = upright(posts(0, 0)[:2].double().numpy(), K)
    assert not held.found and held.up.tolist() == [0, -1, 0]
    flat = held.horizon(K, 240, 320)
    assert flat[0, 0] < 0 < flat[-1, 0] and abs(float(flat[119:121].mean())) < 1e-6


def test_the_focal_length_follows_from_orthogonal_directions():
    angle = math.radians(35)
    directions = [
        torch.tensor([math.cos(angle), 0.05, math.sin(angle)]),
        torch.tensor([-math.sin(angle), 0.0, math.cos(angle)]),
    ]
    directions[0] = torch.tensor([math.cos(angle), 0.0, math.sin(angle)])
    generator, lines = torch.Generator().manual_seed(0), []
    for direction in directions:
        for _ in range(20):
            start = torch.rand(3, generator=generator) * torch.tensor([4.0, 3.0, 2.0]) + torch.tensor([-2.0, -1.5, 6.0])
            pixels = torch.stack([start, start + 0.8 * direction]) @ K.T
            lines.append((pixels[:, :2] / pixels[:, 2:]).flatten())
    assert focal_of(torch.stack(lines).double().numpy(), 240, 320) == pytest.approx(300, rel=0.03)
    assert focal_of(torch.stack(lines[:4]).double().numpy(), 240, 320) is None


def road() -> tuple[torch.Tensor, torch.Tensor]:
    """A grey road, a brown wall 6 camera heights away, a blue sky; and its true depth."""
    rows = torch.arange(240)[:, None].expand(240, 320) + 0.5
    depth = torch.where(rows > 120 + 50, 300 / (rows - 120).clamp(min=1), torch.tensor(6.0))
    depth[:60] = torch.inf
    image = torch.where(rows > 170, 0.45, 0.3).expand(3, 240, 320).clone()
    image[:, 60:170] *= torch.tensor([1.3, 0.8, 0.5])[:, None, None]
    image[:, :60] = torch.tensor([0.5, 0.7, 0.95])[:, None, None]
    generator = torch.Generator().manual_seed(0)
    return (image + 0.02 * torch.randn(image.shape, generator=generator) * (rows > 60)).clamp(0, 1), depth


def test_a_road_a_wall_and_the_sky():
    image, true = road()
    found = geometric_depth(image, K)
    assert found.approximate and not found.metric
    assert found.depth[:50].isinf().float().mean() > 0.95 and found.depth[70:].isfinite().all()
    solid = true.isfinite() & found.depth.isfinite()
    scale = (true[solid] / found.depth[solid]).median()
    error = (found.depth * scale / true - 1).abs()[solid]
    assert float(error.median()) < 0.05 and float(error.quantile(0.9)) < 0.25


@pytest.mark.parametrize("name", ["black", "noise", "white", "tiny", "tall"])
def test_pictures_with_nothing_to_go_by_still_have_a_depth(name):
    size = {"tiny": (12, 16), "tall": (400, 100)}.get(name, (120, 160))
    value = {"black": 0.0, "white": 1.0}.get(name)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, *size, generator=generator) if value is None else torch.full((3, *size), value)
    k = torch.tensor([[100.0, 0, size[1] / 2], [0, 100.0, size[0] / 2], [0, 0, 1]])
    depth = geometric_depth(image, k).depth
    assert depth.shape == size and bool((depth > 0).all()) and depth.isfinite().float().mean() > 0.3


def test_segments_of_nothing_are_none():
    assert len(segments(torch.zeros(3, 64, 64))) == 0
