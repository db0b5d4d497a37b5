"""Cameras that are refined with the scene: gradients against differences, known errors that come back, bounds, the frame."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import OptimizeConfig
from sparse3d.geometry import invert_rigid, rotation_from_quat, se3_exp
from sparse3d.io.views import load_refined, save_refined
from sparse3d.kernels import cpu, reference
from sparse3d.metrics.protocol import evaluate_views
from sparse3d.optimize.align import aligner
from sparse3d.optimize.cameras import RefinedCameras, Trust, rate_at, refines_cameras, with_refined
from sparse3d.optimize.loop import Fit, look_of, optimize
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.types import Cameras, Gaussians, PosedViews, View

compiled = pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels (SPARSE3D_PURE)")
HEIGHT, WIDTH = 48, 64
TRUST = Trust(angle_deg=3.0, focal=0.1)
# Gaussians that all but stand still, so that what is measured is the cameras
STILL = OptimizeConfig(
    steps=400, coarse=0.0, sh_interval=10_000, dropout=0.0, opacity_decay=1.0, ssim_weight=0.2, background="black", prune_opacity=0.0,
    means_lr=1e-6, means_lr_final=1e-7, scales_lr=1e-5, quats_lr=1e-5, opacities_lr=1e-5, sh_lr=1e-4,
    cameras_max_deg=3.0, cameras_max_focal=0.1, cameras_lr_deg=0.05, cameras_lr_final_deg=1e-3,
)  # fmt: skip


def relief(count: int = 400, degree: int = 0) -> Gaussians:
    """Coloured blobs at depths from 2.5 to 5.5, in front of five cameras."""
    generator = torch.Generator().manual_seed(3)
    means = torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 3.0, 3.0]) + torch.tensor([-2.0, -1.5, 2.5])
    quats = torch.randn(count, 4, generator=generator)
    scales = torch.rand(count, 3, generator=generator) * 0.5 - 2.6
    sh = torch.randn(count, (degree + 1) ** 2, 3, generator=generator)
    sh[:, 1:] *= 0.3
    return Gaussians(means, quats, scales, torch.ones(count), sh)


def true_views(gaussians: Gaussians, count: int = 5) -> tuple[View, ...]:
    """Pictures of the blobs from cameras on an arc around them that turn to their middle."""
    K = torch.tensor([[60.0, 0.0, WIDTH / 2], [0.0, 60.0, HEIGHT / 2], [0.0, 0.0, 1.0]])
    views = []
    for index, angle in enumerate(torch.linspace(-0.35, 0.35, count).tolist()):
        c2w = torch.eye(4)
        half = torch.tensor([math.cos(angle / 2), 0.0, math.sin(angle / 2), 0.0])
        c2w[:3, :3] = rotation_from_quat(half[None])[0]
        middle = torch.tensor([0.0, 0.0, 4.0])
        c2w[:3, 3] = middle - c2w[:3, 2] * 4 + torch.tensor([0.0, 0.3 * (-1) ** index, 0.1 * index])
        views.append(View(str(index), torch.zeros(3, HEIGHT, WIDTH), K, c2w))
    draw = drawer(gaussians, look_of(tuple(views), STILL))
    return tuple(replace(view, image=draw(view.cameras).image[0].clamp(0, 1)) for view in views)


def moved(views: tuple[View, ...], angle_deg: float, share: float, focal: float, seed: int = 0) -> tuple[View, ...]:
    """The views turned by an angle, put off by a share of their distance, their focal length changed."""
    generator = torch.Generator().manual_seed(seed)
    changed = []
    for view in views:
        axis, shift = (torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0) for _ in range(2))
        c2w = view.c2w @ se3_exp(torch.cat([axis * math.radians(angle_deg), shift * 4 * share]))
        changed.append(replace(view, c2w=c2w, K=view.K * torch.tensor([1 + focal, 1 + focal, 1.0])))
    return tuple(changed)


def fit(start: Gaussians, views: tuple[View, ...], config: OptimizeConfig, **options) -> Fit:
    arguments = {"generator": torch.Generator().manual_seed(0), "progress": StageReporter("optimize")} | options
    return optimize(start, views, config, rasterizer("auto"), **arguments)


def errors(views: tuple[View, ...], truth: tuple[View, ...]) -> tuple[float, float, float]:
    """Mean rotation in degrees, mean position as share of the distance, focal length; in the true frame, nothing aligned."""
    ours, theirs = (torch.stack([view.c2w for view in some]).double() for some in (views, truth))
    relative = invert_rigid(theirs) @ ours
    skew = torch.stack([relative[:, 2, 1], relative[:, 0, 2], relative[:, 1, 0]], 1)
    angles = torch.rad2deg(torch.asin(skew.norm(dim=1)))
    focal = abs(float(views[0].K[0, 0] / truth[0].K[0, 0]) - 1)
    return float(angles.mean()), float(relative[:, :3, 3].norm(dim=1).mean()) / 4, focal


def without_common_motion(views: tuple[View, ...], truth: tuple[View, ...], scene: Gaussians) -> tuple[View, ...]:
    """Views that are off the truth, moved back by what they have in common: the scene's frame is theirs."""
    cameras = RefinedCameras(truth, scene, TRUST)
    ours, theirs = (torch.stack([view.c2w for view in some]).double() for some in (views, truth))
    step = invert_rigid(ours) @ theirs  # w2c' = step w2c
    skew = torch.stack([step[:, 2, 1], step[:, 0, 2], step[:, 1, 0]], 1)
    whitening = cameras.whitening.double()
    twists = torch.linalg.solve(whitening, torch.cat([skew, step[:, :3, 3]], 1)[..., None])
    left = (whitening @ (cameras.kept @ twists.flatten()).reshape(-1, 6, 1))[..., 0]
    c2w = theirs @ invert_rigid(se3_exp(left))
    return tuple(replace(view, c2w=new.float()) for view, new in zip(views, c2w, strict=True))


def test_the_exponential_map_is_the_matrix_exponential():
    generator = torch.Generator().manual_seed(0)
    twists = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    twists *= torch.logspace(-8, 0.3, 20, dtype=torch.float64)[:, None]
    algebra = torch.zeros(20, 4, 4, dtype=torch.float64)
    x, y, z = twists[:, :3].unbind(1)
    algebra[:, 0, 1], algebra[:, 0, 2], algebra[:, 1, 2] = -z, y, -x
    algebra[:, 1, 0], algebra[:, 2, 0], algebra[:, 2, 1] = z, -y, x
    algebra[:, :3, 3] = twists[:, 3:]
    torch.testing.assert_close(se3_exp(twists), torch.linalg.matrix_exp(algebra), rtol=1e-12, atol=1e-12)
    assert torch.equal(se3_exp(torch.zeros(6)), torch.eye(4))
    for start in (torch.zeros(6), twists[10], twists[-1]):
        assert torch.autograd.gradcheck(se3_exp, start.double().requires_grad_())


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=compiled)])
def test_gradients_are_those_of_finite_differences(name, degree):
    """Of the twist and of the focal scale, which no rasterizer but the reference differentiates by; both away from zero."""
    gaussians = relief(40, degree)
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    for part in (gaussians.means, gaussians.sh):
        part.requires_grad_()
    view = moved(true_views(gaussians), 1.0, 0.0, 0.0)[1]
    view = replace(view, image=view.image[:, :24, :32], K=view.K * torch.tensor([[0.5], [0.5], [1.0]]))
    cameras = RefinedCameras([view, view], gaussians, TRUST)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        cameras.values["twists"] += 0.01 * torch.randn(2, 6, generator=generator)
        cameras.values["focals"] += 0.02
    weights = torch.rand(24, 32, 3, generator=generator, dtype=torch.float64)
    options = {"sh_degree": degree, "near_plane": 0.01}

    w2c, K = cameras.camera(1, view.height, view.width)
    rgb, *_ = rasterizer(name)(*parts, w2c, K, 32, 24, **options)
    (rgb[0] * weights.float()).sum().backward()
    twists, focals = cameras.values["twists"].grad, cameras.values["focals"].grad
    assert twists is not None and focals is not None and (twists[0] == 0).all()
    got = [*twists[1].tolist(), float(focals[0]) + cameras.focal_unit * cameras._sh_part(1, gaussians, degree)]

    def drawn(values: torch.Tensor) -> float:
        w2c = se3_exp(cameras.whitening[1].double() @ values[:6]) @ cameras.w2c[1].double()
        K = view.K.double().clone()
        K[:2, :2] *= (values[6] * cameras.focal_unit).exp()
        rgb, *_ = reference.rasterize(
            *(part.detach().double() for part in parts), w2c[None], K[None], 32, 24, **options
        )
        return float((rgb[0] * weights).sum())

    at = torch.cat([cameras.values["twists"].detach()[1], cameras.values["focals"].detach()[0]]).double()
    # steps far below a pixel, so that few Gaussians come to or go from a cut-off
    steps = 1e-6 * torch.eye(7, dtype=torch.float64)
    want = [(drawn(at + step) - drawn(at - step)) / 2e-6 for step in steps]
    torch.testing.assert_close(torch.tensor(got), torch.tensor(want), rtol=1e-3, atol=2e-3 * max(map(abs, want)))


@compiled
@pytest.mark.parametrize("seed", [0, 1])
def test_known_errors_of_cameras_come_back(seed):
    """0.7 degrees, 1 % of the distance and 2 % of the focal length: a fifth of each or less is left."""
    gaussians = relief()
    truth = true_views(gaussians)
    start = without_common_motion(moved(truth, 0.7, 0.01, 0.02, seed), truth, gaussians)
    assert errors(start, truth)[0] > 0.5
    refined = fit(gaussians, start, STILL, estimated=True)
    for before, after in zip(errors(start, truth), errors(refined.views, truth), strict=True):
        assert after < 0.2 * before, (errors(start, truth), errors(refined.views, truth))
    assert refined.camera_changes is not None and 0.2 < refined.camera_changes["rotation_mean_deg"] < 3
    assert refined.camera_changes["focal_percent"] == pytest.approx(100 * (1 / 1.02 - 1), abs=0.4)


@compiled
def test_exact_cameras_stay():
    """With a scene that is still being fitted, so that there are gradients: grey at first."""
    gaussians = relief()
    truth = true_views(gaussians)
    grey = replace(gaussians, sh=torch.zeros_like(gaussians.sh))
    config = replace(STILL, sh_lr=2e-2, cameras_lr_deg=0.01, cameras_lr_final_deg=1e-4)
    refined = fit(grey, truth, config, estimated=True)
    rotation, position, focal = errors(refined.views, truth)
    assert rotation < 0.05 and position < 2e-3 and focal < 1e-3


@compiled
def test_off_is_off_and_a_camera_that_never_moves_changes_nothing():
    gaussians = relief()
    views = moved(true_views(gaussians), 0.5, 0.0, 0.0)
    config = replace(STILL, steps=30, dropout=0.2, means_lr=1e-4)
    off = fit(gaussians, views, config)
    assert off.views is views and off.camera_changes is None
    for other in (
        fit(gaussians, views, replace(config, refine_cameras="off"), estimated=True),
        fit(gaussians, views, replace(config, cameras_from=1.0), estimated=True),
    ):
        assert torch.equal(off.gaussians.means, other.gaussians.means)
        assert torch.equal(off.gaussians.sh, other.gaussians.sh)
        assert all(torch.equal(a.c2w, b.c2w) and torch.equal(a.K, b.K) for a, b in zip(views, other.views, strict=True))
    assert not torch.equal(off.gaussians.means, fit(gaussians, views, config, estimated=True).gaussians.means)


def test_who_is_refined():
    config = OptimizeConfig()
    assert refines_cameras(config, estimated=True) and not refines_cameras(config, estimated=False)
    assert refines_cameras(replace(config, refine_cameras="on"), estimated=False)
    assert not refines_cameras(replace(config, refine_cameras="off"), estimated=True)


def test_the_rate_is_zero_at_first_and_then_falls():
    config = OptimizeConfig(steps=100, cameras_from=0.1, cameras_lr_deg=1.0, cameras_lr_final_deg=0.01)
    rates = [math.degrees(rate_at(step, config)) for step in (9, 10, 50, 99)]
    assert rates[0] == 0 and 0.5 < rates[1] < 1
    assert rates[2:] == [pytest.approx(0.1, rel=0.05), pytest.approx(0.01)]


@compiled
def test_a_stopped_run_goes_on_to_the_same_cameras(tmp_path):
    gaussians = relief()
    views = moved(true_views(gaussians), 0.5, 0.0, 0.01)
    config = replace(STILL, steps=30, checkpoint_interval=7)
    whole = fit(gaussians, views, config, estimated=True)

    class Stopped(Exception):
        pass

    def stop(step: int, _: Gaussians) -> None:
        if step == 17:
            raise Stopped

    options = {"estimated": True, "checkpoint": tmp_path / "checkpoint", "key": "k"}
    with pytest.raises(Stopped):
        fit(gaussians, views, config, on_step=stop, **options)
    resumed = fit(gaussians, views, config, **options)
    assert torch.equal(whole.gaussians.means, resumed.gaussians.means)
    for a, b in zip(whole.views, resumed.views, strict=True):
        assert torch.equal(a.c2w, b.c2w) and torch.equal(a.K, b.K)
    assert not torch.equal(views[0].c2w, whole.views[0].c2w)


def pushed(cameras: RefinedCameras, index: int, gaussians: Gaussians, rate: float, gradient: float = 1.0) -> None:
    """One step against a gradient of this size in all numbers."""
    for value in cameras.values.values():
        value.grad = torch.zeros_like(value)
    cameras.values["twists"].grad[index] = gradient
    cameras.values["focals"].grad[cameras.group[index]] = gradient
    cameras.step(index, rate, gaussians, 0)


def test_bounds_are_kept_and_gradients_that_are_not_finite_pass_over():
    gaussians = relief()
    views = true_views(gaussians)
    cameras = RefinedCameras(views, gaussians, Trust(angle_deg=0.5, focal=0.01))
    pushed(cameras, 2, gaussians, 1.0, math.nan)
    assert (cameras.values["twists"] == 0).all() and (cameras.values["focals"] == 0).all()
    for _ in range(20):
        pushed(cameras, 2, gaussians, 0.01)
    turn = cameras.refined()[2].c2w[:3, :3].T @ views[2].c2w[:3, :3]
    assert math.degrees(math.acos(min(1.0, (float(turn.trace()) - 1) / 2))) < 0.5 + 1e-3
    assert float(cameras.refined()[2].K[0, 0] / views[2].K[0, 0]) == pytest.approx(1 / 1.01, abs=1e-5)
    assert torch.equal(cameras.refined()[1].c2w, views[1].c2w)  # only its focal length, which is shared
    assert cameras.refined()[1].K[0, 0] == cameras.refined()[2].K[0, 0]


def test_a_motion_of_the_whole_rig_is_taken_out():
    """Turning, moving and scaling all cameras about one point: after the round over all views none of it is left."""
    gaussians = relief()
    views = true_views(gaussians)
    cameras = RefinedCameras(views, gaussians, TRUST)
    c2w = torch.stack([view.c2w for view in views]).double()
    motion = se3_exp(torch.tensor([1e-4, -2e-4, 1e-4, 3e-4, -1e-4, 2e-4], dtype=torch.float64))
    target = motion @ c2w
    target[:, :3, 3] *= 1.0003
    relative = invert_rigid(target) @ c2w  # exp(xi) of each camera, small enough to be read off
    skew = torch.stack([relative[:, 2, 1], relative[:, 0, 2], relative[:, 1, 0]], 1)
    twists = torch.linalg.solve(cameras.whitening.double(), torch.cat([skew, relative[:, :3, 3]], 1)[..., None])[..., 0]
    left = (cameras.kept @ twists.flatten()).reshape(-1, 6)
    assert left.norm() < 2e-3 * twists.norm()
    # what is no such motion stays
    alone = torch.zeros_like(twists)
    alone[0, 0] = 1.0
    assert (cameras.kept @ alone.flatten()).norm() > 0.5
    torch.testing.assert_close(cameras.kept @ cameras.kept, cameras.kept)


def test_generated_views_stay_and_hold_the_frame():
    gaussians = relief()
    views = list(true_views(gaussians))
    views[1] = replace(views[1], generated=True)
    views[3] = replace(views[3], c2w=views[3].c2w @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])))  # looks away
    cameras = RefinedCameras(views, gaussians, TRUST)
    assert cameras.free == [True, False, True, False, True]
    assert torch.equal(cameras.kept, torch.eye(30, dtype=torch.float64))
    for index in range(5):
        pushed(cameras, index, gaussians, 1e-3)
    assert [torch.equal(a.c2w, b.c2w) for a, b in zip(views, cameras.refined(), strict=True)] == [
        False, True, False, True, False,
    ]  # fmt: skip


def test_held_out_views_take_the_focal_length_of_their_camera():
    posed, _ = textured_plane(24, 32)
    a, b, c = posed.views
    longer = a.K * torch.tensor([1.01, 1.01, 1.0])
    turned = b.c2w.clone()
    turned[0, 3] += 1
    other = replace(c, name="other", K=c.K * torch.tensor([2.0, 2.0, 1.0]))
    all_views = (a, b, c, other)
    after = (replace(a, K=longer), replace(b, K=longer, c2w=turned))
    got = with_refined(all_views, (a, b), after)
    assert torch.equal(got[1].c2w, turned) and torch.equal(got[2].c2w, c.c2w)
    assert all(torch.equal(view.K, longer) for view in got[:3]) and torch.equal(got[3].K, other.K)
    assert [view.name for view in got] == [view.name for view in all_views]


def test_refined_cameras_come_back_from_disk(tmp_path):
    posed, _ = textured_plane(24, 32)
    assert load_refined(tmp_path, posed) is posed
    changed = moved(posed.views, 0.5, 0.01, 0.01)
    save_refined(tmp_path, changed)
    assert set(json.loads((tmp_path / "cameras.json").read_text())[0]) == {"name", "K", "c2w"}
    again = load_refined(tmp_path, PosedViews(posed.views, posed.points))
    for a, b in zip(changed, again.views, strict=True):
        assert torch.equal(a.c2w, b.c2w) and torch.equal(a.K, b.K) and a.name == b.name


@compiled
def test_a_held_out_view_is_aligned_to_the_scene():
    """A camera 0.5 degrees off comes back, the scene and the focal length stay, and both scores are told."""
    gaussians = relief()
    views = true_views(gaussians)
    look = look_of(views, STILL)
    off = moved(views[2:3], 0.5, 0.0, 0.0)[0]
    before = [part.clone() for part in (gaussians.means, gaussians.sh)]
    align = aligner(gaussians, look)
    aligned = align(off)
    assert torch.equal(aligned.K, off.K) and torch.equal(before[0], gaussians.means) and gaussians.means.grad is None
    turn = aligned.c2w[:3, :3].T @ views[2].c2w[:3, :3]
    assert math.degrees(math.acos(min(1.0, (float(turn.trace()) - 1) / 2))) < 0.05
    assert (aligned.c2w[:3, 3] - views[2].c2w[:3, 3]).norm() < 0.01

    scores = evaluate_views(drawer(gaussians, look), [off], align=align)[off.name]
    assert list(scores) == ["psnr", "ssim", "psnr aligned", "ssim aligned"]
    assert scores["psnr aligned"] > scores["psnr"] + 6
    assert list(evaluate_views(drawer(gaussians, look), [off])[off.name]) == ["psnr", "ssim"]


def test_cameras_class_takes_masks_and_other_sizes():
    """Views of two sizes do not share a focal length."""
    gaussians = relief()
    views = true_views(gaussians)
    small = replace(views[0].resized(24, 32), name="small")
    cameras = RefinedCameras((*views, small), gaussians, TRUST)
    assert cameras.group == [0] * 5 + [1]
    w2c, K = cameras.camera(5, small.height, small.width)
    assert torch.equal(w2c[0], Cameras(small.c2w[None], small.K[None], 24, 32).w2c[0]) and torch.equal(K[0], small.K)
