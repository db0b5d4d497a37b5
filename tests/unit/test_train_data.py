"""Procedural training data: what it shows is where it says, and damaged shards are named."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.train_data import TINY, tiny_scenes

from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.depth_map import sampled, world_points
from sparse3d.progress import StageReporter
from sparse3d.train.caster import Camera, Lamp, Scene, cast, lamp_camera, looking
from sparse3d.train.crops import depth_crop
from sparse3d.train.data import DataPlan, make_scenes, photographed, views_of
from sparse3d.train.scenes import NAMES
from sparse3d.train.shards import Shards, read_shard, write_shard
from sparse3d.train.surfaces import Ball, Box, Card, Finish, Rod, Terrain
from sparse3d.train.textures import KINDS, SIDE, clouds, cutout, texture

LOOK = Finish(0, 1.0, 0)


@pytest.mark.parametrize("kind", NAMES)
def test_photos_of_a_scene_reproject_onto_each_other(kind):
    """With exact depth a photo's pixels are found in another photo within noise, blur and exposure, and nowhere else as well."""
    sample = photographed(11, DataPlan(views=3, height=120, width=160), kind)
    views, depths = views_of(sample), sample["depth"].float()
    for at, to in ((0, 1), (1, 2)):
        points = world_points(views[at], depths[at]).reshape(-1, 3)
        pixels, z = project(points, views[to].cameras.w2c[0], views[to].K)
        there, _ = sampled(depths[to], views[to], points)
        seen = (depths[at].flatten() > 0) & (there > 0) & ((there - z).abs() < 0.01 * z)
        assert seen.float().mean() > 0.25
        found = lambda shift: F.grid_sample(
            views[to].image[None], (2 * (pixels + shift) / torch.tensor([160.0, 120.0]) - 1)[None, None], align_corners=False
        )[0, :, 0]
        own = views[at].image.reshape(3, -1)
        # exposure and white balance differ from photo to photo: a gain per channel is taken out
        gain = own[:, seen].mean(1) / found(0.0)[:, seen].mean(1)
        error = lambda shift: float((gain[:, None] * found(shift) - own)[:, seen].abs().mean())
        assert error(0.0) < 0.06
        assert error(0.0) < min(error(torch.tensor(s)) for s in ([2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]))


def test_depth_is_that_of_the_formula():
    """A ball on the axis: its nearest point at the middle, and at another pixel the quadratic's root."""
    ball = Ball(LOOK, torch.tensor([0.0, 5.0, 0.0]), torch.eye(3), torch.full((3,), 1.0))
    camera = Camera(looking(torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])), torch.tensor([[50.0, 0, 20.5], [0, 50, 20.5], [0, 0, 1]]), 41, 41)
    lamp = Lamp(lamp_camera(torch.tensor([0.0, -3.0, 3.0]), ball.centre, 60), torch.ones(3), torch.ones(3), 10.0)
    scene = Scene("ball", [ball], torch.full((1, 3, SIDE, SIDE), 0.5), lamp, torch.ones(2, 3))
    light, depth = cast(scene, camera)
    assert light.shape == (3, 41, 41) and light.isfinite().all()
    assert depth[20, 20] == pytest.approx(4.0, abs=1e-5) and depth[0, 0] == 0
    x = 5 / 50  # a ray (x, 0, 1): |t (x, 0, 1) - (0, 0, 5)| = 1
    expected = (5 - math.sqrt(25 - 24 * (1 + x * x))) / (1 + x * x)
    assert depth[20, 25] == pytest.approx(expected, abs=1e-4)


def surfaces():
    generator = torch.Generator().manual_seed(0)
    turn = looking(torch.zeros(3), torch.tensor([1.0, 2.0, 0.5]))[:3, :3]
    heights = 0.4 * clouds(generator, 2.0)[:32, :32]
    return {
        "box": Box(LOOK, torch.tensor([0.1, 0.2, 0.0]), turn, torch.tensor([0.6, 0.8, 0.5])),
        "room": Box(LOOK, torch.zeros(3), turn, torch.tensor([6.0, 7.0, 6.5]), room=True),
        "card": Card(LOOK, torch.tensor([0.1, 0.2, 0.0]), turn, torch.tensor([0.9, 0.7])),
        "ball": Ball(LOOK, torch.tensor([0.0, 0.1, 0.2]), turn, torch.tensor([0.9, 0.6, 0.7])),
        "rod": Rod(LOOK, torch.tensor([0.0, 0.1, 0.2]), turn, 0.5, 0.7),
        "terrain": Terrain(LOOK, heights, 2.0),
    }


def outside(surface, points):
    """Positive on the eye's side of a surface, negative beyond it, by its definition."""
    if isinstance(surface, Terrain):
        return points[:, 2] - surface.height(points[:, 0], points[:, 1])
    local = (points - surface.centre) @ surface.axes
    if isinstance(surface, Ball):
        return (local / surface.half).norm(dim=1) - 1
    if isinstance(surface, Rod):
        return torch.maximum(local[:, :2].norm(dim=1) - surface.radius, local[:, 2].abs() - surface.half)
    if isinstance(surface, Card):
        return torch.maximum(torch.maximum(local[:, 2].abs(), local[:, 0].abs() - surface.half[0]), local[:, 1].abs() - surface.half[1])
    farthest = (local.abs() - surface.half).amax(1)
    return -farthest if surface.room else farthest


@pytest.mark.parametrize("name", surfaces())
def test_rays_meet_surfaces_where_they_are_and_nowhere_before(name):
    surface = surfaces()[name]
    generator = torch.Generator().manual_seed(1)
    origin = torch.tensor([0.3, -4.0, 2.5])
    rays = torch.tensor([-0.05, 1.0, -0.6]) + 0.35 * torch.randn(400, 3, generator=generator)
    t = surface.meet(origin, rays)
    hit = t.isfinite()
    assert 20 < int(hit.sum()) and (name == "room" or int((~hit).sum()) > 20)
    on = origin + rays[hit] * t[hit, None]
    assert outside(surface, on).abs().max() < 2e-3 if name == "terrain" else outside(surface, on).abs().max() < 1e-4
    if name != "card":
        steps = torch.linspace(0.02, 0.98, 60)
        before = origin + rays[hit][:, None] * (t[hit, None] * steps)[..., None]
        assert (outside(surface, before.reshape(-1, 3)) > -2e-3).all()
    places, normals = surface.unroll(on)
    assert places.shape == (len(on), 2) and torch.allclose(normals.norm(dim=1), torch.ones(len(on)), atol=1e-4)
    if name in ("box", "ball", "rod", "terrain"):  # normals point out: one step along them leaves the inside
        assert (outside(surface, on + 5e-3 * normals) > 0).float().mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_textures_tile_and_are_light(kind):
    found = texture(torch.Generator().manual_seed(2), kind)
    assert found.shape == (3, SIDE, SIDE) and 0 < float(found.min()) and float(found.max()) <= 1
    assert found.flatten(1).std() > 1e-4


def test_cutouts_leave_something_and_take_something():
    generator = torch.Generator().manual_seed(0)
    shares = [float(cutout(generator).float().mean()) for _ in range(20)]
    assert all(0.02 < share < 0.98 for share in shares)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return tiny_scenes(tmp_path_factory.mktemp("scenes"))


def test_the_same_seed_makes_the_same_scenes_and_what_is_there_stays(scenes, tmp_path):
    first = scenes / "scenes-5-000000.safetensors"
    before = first.stat().st_mtime_ns
    assert make_scenes(TINY, scenes, 1, StageReporter("data")) == 0 and first.stat().st_mtime_ns == before
    again = tiny_scenes(tmp_path)
    assert (again / first.name).read_bytes() == first.read_bytes()


def test_samples_come_in_the_same_order_each_once_a_round(scenes):
    shards = Shards([scenes], "scenes", 4)
    assert len(shards) == 3
    rounds = [[shards.sample(n)["c2w"].sum().item() for n in range(3 * turn, 3 * turn + 3)] for turn in range(4)]
    assert all(sorted(turn) == sorted(rounds[0]) for turn in rounds)
    assert any(turn != rounds[0] for turn in rounds)
    assert [Shards([scenes], "scenes", 4).sample(n)["c2w"].sum().item() for n in range(3)] == rounds[0]


def test_crops_keep_cameras_and_depth_together(scenes):
    """A pixel of a crop, taken to a source by its depth, is seen by the source's camera where the full view says."""
    sample = Shards([scenes], "scenes", 0).sample(0)
    for seed in range(6):
        got = depth_crop(sample, 2, (32, 64), 16, torch.Generator().manual_seed(seed))
        known = got["depth"] > 0
        rays = torch.linalg.inv(got["K"])
        y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(64) + 0.5, indexing="ij")
        points = (torch.stack([x, y, torch.ones_like(x)], -1) @ rays.T) * got["depth"][..., None]
        for transform, K, picture in zip(got["to_sources"], got["source_Ks"], got["sources"], strict=True):
            there = points.reshape(-1, 3) @ transform[:3, :3].T + transform[:3, 3]
            pixel = (there @ K.T)[:, :2] / there[:, 2:].clamp(min=1e-3)
            inside = known.flatten() & (pixel > 2).all(1) & (pixel < torch.tensor([62.0, 30.0])).all(1) & (there[:, 2] > 0)
            if int(inside.sum()) < 200:
                continue
            grid = lambda shift: (2 * (pixel + shift) / torch.tensor([64.0, 32.0]) - 1)[None, None]
            own = got["image"].reshape(3, -1)
            error = lambda shift: (F.grid_sample(picture[None], grid(shift), align_corners=False)[0, :, 0] - own)[:, inside].abs().median()
            assert error(0.0) <= min(error(torch.tensor(s)) for s in ([4.0, 0.0], [-4.0, 0.0])) + 0.01
        assert got["depths"].shape == (16,) and (got["depths"].diff() > 0).all()


@pytest.mark.parametrize("damage", ["cut", "bit", "version", "kind"])
def test_what_is_wrong_with_a_shard_is_said_with_its_name(scenes, tmp_path, damage):
    path = tmp_path / "shard.safetensors"
    source = scenes / "scenes-5-000000.safetensors"
    data = bytearray(source.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "bit":
        data[-100] ^= 1
        path.write_bytes(data)
    elif damage == "version":
        save_file(load_file(source), path, {"format": "sparse3d scenes", "version": "0"})
    else:
        write_shard(path, "pairs", load_file(source), {})
    said = {"cut": "cut off", "bit": "checksum", "version": "version 0", "kind": "needed a shard of scenes"}[damage]
    with pytest.raises(UserError, match=said) as told:
        read_shard(path, "scenes")
    assert str(path) in str(told.value)


def test_an_empty_folder_says_how_to_make_data(tmp_path):
    with pytest.raises(UserError, match="sparse3d train data"):
        Shards([tmp_path], "scenes", 0)
