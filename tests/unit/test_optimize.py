from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import textured_plane

from sparse3d.config import OptimizeConfig
from sparse3d.errors import UserError
from sparse3d.geometry import scene_extent
from sparse3d.kernels import cpu
from sparse3d.kernels.reference import rasterize
from sparse3d.optimize import mcmc
from sparse3d.optimize.checkpoint import load_checkpoint, save_checkpoint
from sparse3d.optimize.loop import look_of, optimize, round_of_views
from sparse3d.optimize.losses import photometric_loss
from sparse3d.optimize.parameters import GUESS_OPACITY, Parameters
from sparse3d.optimize.schedules import dropout_at, exponential, sh_degree_at, shrink_at
from sparse3d.optimize.units import means_unit
from sparse3d.progress import Event, StageReporter
from sparse3d.render import Rasterizer, drawer, rasterizer
from sparse3d.types import Gaussians

CONFIG = OptimizeConfig(steps=30, sh_interval=10, checkpoint_interval=10, coarse=0.0)


def some_gaussians(count: int = 60) -> Gaussians:
    """Grey blobs in front of the textured plane."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(count, 3, generator=generator) * torch.tensor([3.0, 2.2, 0.2]) + torch.tensor([-1.5, -1.1, 3.9])
    quats = torch.randn(count, 4, generator=generator)
    scales = torch.full((count, 3), math.log(0.15))
    return Gaussians(means, quats, scales, torch.zeros(count), torch.zeros(count, 1, 3))


def fit(config: OptimizeConfig, **options):
    posed, _ = textured_plane(24, 32)
    arguments = {"generator": torch.Generator().manual_seed(0), "progress": StageReporter("optimize")} | options
    return optimize(some_gaussians(), posed.views, config, rasterizer("cpu"), **arguments).gaussians


def test_schedules_start_and_end_where_they_should():
    assert exponential(1e-2, 1e-4, 0, 100) == pytest.approx(1e-2)
    assert exponential(1e-2, 1e-4, 99, 100) == pytest.approx(1e-4)
    config = OptimizeConfig(steps=100, sh_degree=2, sh_interval=30, dropout=0.3, dropout_from=0.1, coarse=0.5)
    assert [sh_degree_at(step, config) for step in (0, 29, 30, 60, 99)] == [0, 0, 1, 2, 2]
    assert [dropout_at(step, config) for step in (0, 9, 10, 99)] == [0, 0, 0.3, 0.3]
    assert [shrink_at(step, config) for step in (0, 49, 50, 99)] == [2, 2, 1, 1]


def test_means_move_in_units_of_the_depth_that_is_seen():
    """Whatever the rig; points that no view has in the picture do not count."""
    view = textured_plane(24, 32)[0].views[0]
    near, far = torch.tensor([0.0, 0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 8.0, 1.0])
    points = torch.stack([(view.c2w @ point)[:3] for point in (near, near, near, far, -far)])
    gaussians = replace(some_gaussians(5), means=points)
    assert means_unit(gaussians, [view, view], CONFIG) == pytest.approx(2)
    unseen = replace(gaussians, means=points[4:].expand(5, 3))
    rig = scene_extent(torch.stack([view.c2w]))
    assert (
        means_unit(unseen, [view], CONFIG) == rig == means_unit(gaussians, [view], replace(CONFIG, means_lr_unit="rig"))
    )


def test_loss_is_the_published_mix_and_a_mask_hides():
    image, target = torch.rand(3, 20, 24), torch.rand(3, 20, 24)
    assert float(photometric_loss(image, target, 0.0)) == pytest.approx(float((image - target).abs().mean()), rel=1e-5)
    assert float(photometric_loss(target, target, 0.2)) == pytest.approx(0, abs=1e-6)
    mask = torch.zeros(20, 24, dtype=torch.bool)
    mask[:, :12] = True
    spoiled = target.clone()
    spoiled[:, :, 12:] = 0
    assert float(photometric_loss(spoiled, target, 0.2, mask)) == pytest.approx(0, abs=1e-6)


def test_fitting_draws_the_photos_better():
    losses: list[float] = []

    def listen(event: Event) -> None:
        if event.kind == "step":
            losses.append(event.values["loss"])

    fitted = fit(
        replace(CONFIG, steps=200, dropout=0.0, opacity_decay=1.0, means_lr=1e-2, means_lr_final=1e-3),
        progress=StageReporter("optimize", listen),
    )
    assert losses[-1] < 0.6 * losses[0]
    assert fitted.sh.shape[1] == 4 and 0 < len(fitted) <= 60


def test_the_same_seed_gives_the_same_scene_and_a_resumed_run_too(tmp_path):
    whole, again = fit(CONFIG), fit(CONFIG)
    assert torch.equal(whole.means, again.means) and torch.equal(whole.sh, again.sh)

    class Stopped(Exception):
        pass

    def stop(step: int, gaussians: Gaussians) -> None:
        if step == 17:
            raise Stopped

    file = tmp_path / "checkpoint"
    with pytest.raises(Stopped):
        fit(CONFIG, checkpoint=file, key="k", on_step=stop)
    steps: list[int] = []
    resumed = fit(CONFIG, checkpoint=file, key="k", on_step=lambda step, _: steps.append(step))
    assert steps[0] == 11  # the checkpoint of step 10
    assert torch.equal(whole.means, resumed.means) and torch.equal(whole.logit_opacities, resumed.logit_opacities)


@pytest.mark.skipif(not cpu.available(), reason="this install has no compiled kernels")
@pytest.mark.parametrize("exposure", ["off", "on"])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_compiled_step_is_the_one_by_gradients(exposure, drawn):
    """A rasterizer that the loop does not know is differentiated by PyTorch; its steps are the same but for rounding, which
    Adam may enlarge where a gradient is nearly 0."""
    posed, _ = textured_plane(24, 32)
    generator = torch.Generator().manual_seed(1)
    views = tuple(replace(view, mask=torch.rand(24, 32, generator=generator) > 0.1) for view in posed.views)
    if drawn:
        trust = torch.rand(24, 32, generator=generator)
        views = (replace(views[0], generated=True, confidence=trust), *views[1:])
    start = some_gaussians()
    start.log_scales[:] += 0.3 * torch.randn(60, 3, generator=generator)  # a ball has no gradient in its rotation
    config = replace(CONFIG, steps=12, sh_interval=4, opacity_decay=0.99, prune_opacity=0.0, exposure=exposure)

    def fitted(rasterize: Rasterizer) -> Gaussians:
        generator = torch.Generator().manual_seed(0)
        progress = StageReporter("optimize")
        return optimize(start, views, config, rasterize, generator=generator, progress=progress).gaussians

    got, want = fitted(cpu.rasterize), fitted(lambda *arguments, **options: cpu.rasterize(*arguments, **options))
    for name in ("means", "quats", "log_scales", "logit_opacities"):
        moved = (getattr(want, name) - getattr(start, name)).square().mean().sqrt()
        difference = (getattr(want, name) - getattr(got, name)).square().mean().sqrt()
        assert difference < 1e-3 * moved, name
    torch.testing.assert_close(got.sh, want.sh, rtol=0, atol=1e-5)


def test_checkpoints_of_other_inputs_are_not_used(tmp_path):
    file = tmp_path / "sub" / "checkpoint"
    assert load_checkpoint(file, "a") is None
    save_checkpoint(file, {"key": "a", "step": 3, "order": [1, 0], "x": torch.ones(2)})
    state = load_checkpoint(file, "a")
    assert state is not None and state["step"] == 3 and state["order"] == [1, 0]
    assert load_checkpoint(file, "b") is None
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint"]


def test_opacity_decay_multiplies_what_is_drawn():
    """With all learning rates at zero only the decay is left: 30 steps of 0.99, and none for what no view sees."""
    still = {name: 0.0 for name in ("scales_lr", "quats_lr", "opacities_lr", "sh_lr")}
    config = replace(CONFIG, opacity_decay=0.99, dropout=0.0, means_lr=1e-30, means_lr_final=1e-30, **still)
    posed, _ = textured_plane()  # wide enough that every view sees all but the one behind
    start = some_gaussians()
    start.means[7] = torch.tensor([0.0, 0.0, -5.0])  # behind all cameras
    fitted = optimize(
        start,
        posed.views,
        config,
        rasterizer("cpu"),
        generator=torch.Generator().manual_seed(0),
        progress=StageReporter("optimize"),
    ).gaussians
    expected = torch.full((60,), 0.5 * 0.99**30)
    expected[7] = 0.5
    torch.testing.assert_close(fitted.opacities, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("renderer", ["cpu", "reference"])
def test_guesses_decay_faster(renderer):
    """By both factors at each step that draws them, the others by one; in both kinds of step."""
    still = {name: 0.0 for name in ("scales_lr", "quats_lr", "opacities_lr", "sh_lr")}
    settings = {"opacity_decay": 0.99, "guess_decay": 0.98, "dropout": 0.0, "means_lr": 1e-30, "means_lr_final": 1e-30}
    config = replace(CONFIG, steps=5, prune_opacity=0.0, **settings, **still)
    posed, _ = textured_plane()
    guessed = torch.arange(60) % 3 == 0
    fitted = optimize(
        some_gaussians(),
        posed.views,
        config,
        rasterizer(renderer),
        generator=torch.Generator().manual_seed(0),
        progress=StageReporter("optimize"),
        guessed=guessed,
    ).gaussians
    expected = torch.where(guessed, GUESS_OPACITY * (0.99 * 0.98) ** 5, 0.5 * 0.99**5)
    torch.testing.assert_close(fitted.opacities, expected, rtol=1e-4, atol=0)


def test_views_take_part_by_their_weights():
    """1000 rounds: full weights in every one, a tenth in 100 of them within four standard deviations."""
    generator = torch.Generator().manual_seed(0)
    rounds = [round_of_views(3, (1.0, 0.1, 1.0), generator) for _ in range(1000)]
    counts = [sum(view in order for order in rounds) for view in range(3)]
    assert counts[0] == counts[2] == 1000 and abs(counts[1] - 100) < 4 * (1000 * 0.1 * 0.9) ** 0.5
    assert all(round_of_views(2, (0.1, 0.1), generator) for _ in range(50)), "a round is never empty"
    assert sorted(round_of_views(4, None, generator)) == [0, 1, 2, 3]


def test_guesses_that_are_moved_or_copied_stay_what_their_place_is():
    """Relocation takes the decay along: a copy of a guess is one, and a dead guess that goes to a sure place is none."""
    guessed = torch.tensor([True, False])
    start = some_gaussians(2)
    parameters = Parameters(start, replace(CONFIG, opacity_decay=0.9, guess_decay=0.5), 1.0, guessed)
    torch.testing.assert_close(parameters.decay, torch.tensor([0.45, 0.9]))
    with torch.no_grad():
        parameters.tensors["logit_opacities"][0] = -20.0
    mcmc.refine(parameters, replace(CONFIG, max_gaussians=4), torch.Generator().manual_seed(0))
    torch.testing.assert_close(parameters.decay, torch.full((2,), 0.9))


def test_time_limit_stops_and_says_so():
    events: list[Event] = []
    fit(replace(CONFIG, steps=10_000, time_limit_s=0.2), progress=StageReporter("optimize", events.append))
    assert any(event.kind == "warning" and "time_limit_s" in event.message for event in events)


def test_nothing_to_optimize_is_said():
    posed, _ = textured_plane(24, 32)
    empty = Gaussians(
        *(getattr(some_gaussians(), name)[:0] for name in ("means", "quats", "log_scales", "logit_opacities", "sh"))
    )
    with pytest.raises(UserError, match="nothing to optimize"):
        optimize(empty, posed.views, CONFIG, rasterize, generator=torch.Generator(), progress=StageReporter("optimize"))


def test_the_look_is_that_of_the_views():
    posed, _ = textured_plane(24, 32)
    assert look_of(posed.views, replace(CONFIG, background="white")).background == (1, 1, 1)
    assert look_of(posed.views, replace(CONFIG, background="black", antialiased=True)).antialiased
    expected = sum(view.image.mean(dim=(1, 2)) for view in posed.views) / 3
    torch.testing.assert_close(torch.tensor(look_of(posed.views, CONFIG).background), expected)
    half = torch.zeros(24, 32, dtype=torch.bool)
    half[:12] = True
    image = torch.cat([torch.ones(3, 12, 32), torch.zeros(3, 12, 32)], dim=1)
    masked = replace(posed.views[0], image=image, mask=half)
    assert look_of((masked,), CONFIG).background == (1, 1, 1)


def test_the_near_plane_follows_the_units():
    """A scene in millimetres and the same one in metres are drawn alike."""
    posed, _ = textured_plane(24, 32)
    small = tuple(
        replace(v, c2w=torch.cat([v.c2w[:, :3], v.c2w[:, 3:] * torch.tensor([1e-3, 1e-3, 1e-3, 1])[:, None]], 1))
        for v in posed.views
    )
    blobs = some_gaussians()
    shrunk = replace(blobs, means=blobs.means * 1e-3, log_scales=blobs.log_scales + math.log(1e-3))
    one = drawer(blobs, look_of(posed.views, CONFIG))(posed.views[0].cameras)
    other = drawer(shrunk, look_of(small, CONFIG))(small[0].cameras)
    assert one.alpha.mean() > 0.05
    torch.testing.assert_close(one.alpha, other.alpha, atol=1e-3, rtol=0)


def test_a_scene_that_fades_away_is_an_error():
    with pytest.raises(UserError, match=r"optimize\.prune_opacity"):
        fit(replace(CONFIG, steps=5, prune_opacity=1.0))


def test_parameters_keep_their_adam_state_through_growth():
    parameters = Parameters(some_gaussians(5), CONFIG, unit=1.0)
    (parameters.tensors["means"].sum() * 2).backward()
    parameters.adam.step()
    moment = parameters.adam.moments["means"].mean.clone()
    parameters.append({name: tensor.detach()[:2] for name, tensor in parameters.tensors.items()}, parameters.decay[:2])
    assert len(parameters) == 7
    grown = parameters.adam.moments["means"].mean
    torch.testing.assert_close(grown[:5], moment)
    assert (grown[5:] == 0).all()
    parameters.overwrite(torch.tensor([1]), {"means": torch.full((1, 3), 9.0)})
    assert (parameters.tensors["means"][1] == 9).all() and (parameters.adam.moments["means"].mean[1] == 0).all()
    (parameters.tensors["means"].sum() * 2).backward()
    parameters.adam.step()
    assert torch.isfinite(parameters.tensors["means"]).all()


@pytest.mark.parametrize("copies", [1, 2, 3, 7])
def test_relocated_copies_look_like_the_one_they_replace(copies):
    """Along the ray through the centre n copies at the new opacity let through what one let through; and the area under the
    drawn profile, which the paper preserves (3DGS-MCMC eq. 9), is the same: integrated numerically here."""
    opacity, scale = torch.tensor([0.8], dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    new, new_scale = mcmc.relocation(opacity, scale, torch.tensor([copies]))
    assert float(1 - (1 - new) ** copies) == pytest.approx(0.8)
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    profile = 1 - (1 - new * torch.exp(-0.5 * (x / new_scale[0, 0]) ** 2)) ** copies
    expected = 0.8 * math.sqrt(2 * math.pi)
    assert float(torch.trapezoid(profile, x)) == pytest.approx(expected, rel=1e-6)


def test_mcmc_moves_the_dead_and_grows_to_its_limit():
    config = replace(CONFIG, strategy="mcmc", max_gaussians=64)
    start = some_gaussians(60)
    start.logit_opacities[:10] = -8.0  # dead
    parameters = Parameters(start, config, unit=1.0)
    mcmc.refine(parameters, config, torch.Generator().manual_seed(0))
    assert len(parameters) == 63  # 5 % more
    opacities = parameters.tensors["logit_opacities"].detach().sigmoid()
    assert (opacities > mcmc.DEAD_OPACITY).all()
    moved = parameters.tensors["means"].detach()[:10]
    assert (torch.cdist(moved, start.means[10:]).min(dim=1).values < 1e-6).all()


def test_mcmc_shakes_the_faint_and_leaves_the_opaque_alone():
    start = some_gaussians(60)
    start.logit_opacities[:10] = math.log(0.004 / 0.996)  # just below the limit
    parameters = Parameters(start, CONFIG, unit=1.0)
    mcmc.explore(parameters, CONFIG, 1e-4, torch.Generator().manual_seed(0))
    moved = (parameters.tensors["means"].detach() - start.means).norm(dim=1)
    # covariance 0.15^2 times noise of 5e5 * 1e-4 times a gate of about a half: about 0.5 world units
    assert 0.1 < moved[:10].mean() < 3 and moved[10:].max() < 1e-6


def test_a_run_with_mcmc_ends_with_more_gaussians():
    config = replace(CONFIG, strategy="mcmc", refine_interval=5, max_gaussians=70, opacity_decay=1.0, prune_opacity=0.0)
    assert len(fit(config)) == 70
