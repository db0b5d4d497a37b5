"""Which new views are asked for, and what is kept of the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole, plane_texture, textured_plane
from torch import Tensor

from sparse3d.config import load_config
from sparse3d.densify.accept import _BESIDE_PHOTOS, REPEATS, gain, judged
from sparse3d.densify.densify import densify, plan
from sparse3d.densify.frontier import Candidate, choose, is_behind, looked_at, nearest_first
from sparse3d.densify.known import Known, completed_depth
from sparse3d.densify.weights import with_drawn, with_steps
from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.initialization import Origin
from sparse3d.paths import look_at
from sparse3d.priors.base import Provenance, ViewQuery, ViewSamples
from sparse3d.priors.classical import Classical
from sparse3d.progress import StageReporter
from sparse3d.types import Cameras, View

CONFIG = load_config("balanced", ["densify.views=6", "init.max_size=96", "init.near=2", "init.far=8"])
WALL = Plane((-0.4, 0.0, 1.0), 4.0)  # that of textured_plane
K = pinhole(72, 96, 100.0)


def known_plane(views: int = 3) -> Known:
    posed, depths = textured_plane(views=views)
    return Known.of(posed.views, depths)


def at(x: float, y: float = 0.0, z: float = 0.0) -> Tensor:
    c2w = torch.eye(4)
    c2w[:3, 3] = torch.tensor([x, y, z])
    return c2w


def truth(c2w: Tensor) -> View:
    return pictured("drawn", c2w, K, (72, 96), [WALL])[0]


def seen(known: Known, c2w: Tensor):
    return known.seen_from(Cameras(c2w[None], K[None], 72, 96))


class Painter:
    """Draws the plane as it is, or noise."""

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise
        self.caps = replace(Classical.caps, name="painter")

    def generate(self, query: ViewQuery, *, strength=1.0, steps=None, on_step=None) -> ViewSamples:
        made = [
            pictured("", c2w, K, (72, 96), [WALL])[0].image
            for c2w, K in zip(query.target_cams.c2w, query.target_cams.K, strict=True)
        ]
        rgb = torch.stack(made)
        if self.noise:
            rgb = torch.rand(rgb.shape, generator=torch.Generator().manual_seed(query.seed))
        return ViewSamples(rgb, torch.ones_like(rgb[:, :1]), Provenance("painter", None, "none", query.seed))


def test_completed_depth_keeps_what_is_known_and_lies_between_in_holes():
    known = known_plane()
    warp = seen(known, at(0.9))
    depth = completed_depth(warp, known.far)
    there = warp.validity > 0
    assert torch.allclose(depth[there], warp.depth[there], rtol=1e-5)
    assert (depth > 0).all() and depth.max() <= max(float(warp.depth.max()), known.far) * 1.001
    assert depth[~there].min() >= warp.depth[there].min() * 0.999


def test_a_place_behind_the_wall_is_behind_and_one_before_it_or_beside_all_pictures_is_not():
    known = known_plane()
    assert is_behind(torch.tensor([0.0, 0.0, 6.0]), known)
    assert not is_behind(torch.tensor([0.0, 0.0, 2.0]), known)
    assert not is_behind(torch.tensor([0.0, 0.0, -3.0]), known) and not is_behind(torch.tensor([50.0, 0.0, 6.0]), known)


def test_views_through_the_wall_too_close_to_it_or_of_nothing_known_are_refused_with_a_reason():
    away = at(0.0)
    away[:3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # turned round
    looks = looked_at(torch.stack([at(0, 0, 6), at(0, 0, 3.6), away, at(0.5)]), known_plane(), K, 72, 96)
    assert (
        "behind" in looks[0].why_not and "too close" in looks[1].why_not and "the photos show 0 %" in looks[2].why_not
    )
    assert looks[3].why_not == "" and looks[3].seen > 0.6


def test_the_frontier_lies_on_the_continued_surface_outside_what_photos_show():
    known = known_plane()
    (look,) = looked_at(at(1.5)[None], known, K, 72, 96)
    assert len(look.frontier) > 20
    # next to the known part the plane goes on: z = 4 + 0.4 x, to the smoothness of the fill
    assert ((look.frontier[:, 2] - 4 - 0.4 * look.frontier[:, 0]).abs() / look.frontier[:, 2]).median() < 0.1
    for view in known.views:
        pixels, _ = project(look.frontier, view.cameras.w2c[0], view.K)
        inside = ((pixels > 3) & (pixels < torch.tensor([view.width - 3.0, view.height - 3.0]))).all(1)
        assert inside.float().mean() < 0.05


def candidate(places: list[float], x: float = 0.0, why: str = "") -> Candidate:
    """One that sees all of a line at depth 5 and uncovers some of its places."""
    camera = Cameras(at(x)[None], K[None], 72, 96)
    return Candidate(at(x), camera, 0.5, torch.tensor([[p, 0.0, 5.0] for p in places]).reshape(-1, 3), why)


def test_views_are_chosen_by_what_they_add_to_those_before():
    wide, same, other = candidate([0, 0.5, 1]), candidate([0.5, 1]), candidate([40.0], x=40.0)
    refused = candidate([0, 1, 2, 3, 4], why="no")
    assert choose([same, refused, wide, other], 3) == [2, 3, 0]
    assert choose([refused], 3) == []


def test_views_are_drawn_outwards_from_the_photos():
    places = torch.stack([at(3), at(1), at(2), at(-0.5)])
    assert nearest_first(places, at(0)[None]) == [3, 1, 2, 0]


def test_a_true_view_is_kept_and_never_outweighs_the_photos():
    known, c2w = known_plane(), at(1.2)
    warp = seen(known, c2w)
    verdict = judged(replace(truth(c2w), generated=True), torch.ones(72, 96), warp)
    assert verdict.why_not == "" and verdict.agreement > 0.9
    confidence = verdict.view.confidence
    assert confidence is not None and verdict.view.generated
    assert confidence[warp.validity > 0.9].max() <= _BESIDE_PHOTOS + 1e-6
    assert confidence[warp.validity == 0].min() > 0.9
    assert verdict.new == pytest.approx(float((warp.validity < 0.35).float().mean()), abs=0.03)


def test_noise_is_left_out_with_its_agreement_and_a_view_that_no_photo_shows_too():
    known, c2w = known_plane(), at(0.6)
    noise = replace(truth(c2w), image=torch.rand(3, 72, 96, generator=torch.Generator().manual_seed(0)))
    assert "agrees with the photos by" in judged(noise, torch.ones(72, 96), seen(known, c2w)).why_not
    nowhere = judged(truth(at(30.0)), torch.ones(72, 96), seen(known, at(30.0)))
    assert "nothing speaks for it" in nowhere.why_not and nowhere.view.confidence.max() == 0


def test_a_wrong_patch_loses_its_confidence_and_the_rest_keeps_it():
    known, c2w = known_plane(), at(0.2)
    view, warp = truth(c2w), seen(known, at(0.2))
    image = view.image.clone()
    image[:, 20:40, 30:50] = 1 - image[:, 20:40, 30:50]
    bad = (image - view.image).abs().mean(0) > 0.3
    trust = judged(replace(view, image=image), torch.ones(72, 96), warp).view.confidence
    inside = bad & (warp.validity > 0.9)
    assert inside.sum() > 50 and trust[inside].mean() < 0.03 and trust[50:, :][warp.validity[50:] > 0.9].mean() > 0.15


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_view_of_another_brightness_is_brought_to_the_photos(factor):
    known, c2w = known_plane(), at(0.2)
    warp, view = seen(known, c2w), truth(c2w)
    dull = replace(view, image=0.75 * view.image)
    found = gain(factor * dull.image, replace_color(warp, 0.75))
    assert torch.allclose(found, torch.full((3,), factor), atol=0.02)
    assert gain(5 * view.image, warp).tolist() == [1.0, 1.0, 1.0]  # too far to be brightness


def replace_color(warp, factor: float):
    return warp._replace(color=factor * warp.color)


def test_drawn_views_have_their_share_of_the_steps():
    assert with_steps(CONFIG.optimize, 40, 0.25).steps == 2000 and with_steps(CONFIG.optimize, 0, 0.25).steps == 1500
    weights = with_drawn((1.0, 1.0, 0.1), 40, 0.3)
    assert sum(weights[3:]) / sum(weights) == pytest.approx(0.3)
    assert with_drawn((1.0, 1.0), 0, 0.3) == (1.0, 1.0)
    assert with_drawn((1.0,) * 12, 1, 0.5)[-1] == 1.0  # once a round at most


def test_a_perfect_prior_uncovers_the_plane_and_noise_leaves_no_trace():
    posed, depths = textured_plane()
    known = Known.of(posed.views, depths)
    planned = plan(known, (72, 96), Classical.caps, CONFIG.densify, torch.Generator().manual_seed(0))
    assert 1 <= len(planned) <= 6 and not planned.ordered
    made = densify(posed, known, planned, Painter(), CONFIG, StageReporter("densify"))
    assert len(made.views) == len(planned) and all(view.generated for view in made.views)
    assert made.first is not None
    # Gaussians beyond what the photos show lie on the plane
    means = made.first.gaussians.means[made.first.start.origin == Origin.MATCHED]
    beyond = (means[:, 0] > 2.6) | (means[:, 0] < -2.6)
    assert beyond.sum() > 50 and (means[beyond, 2] - 4 - 0.4 * means[beyond, 0]).abs().median() < 0.05
    useless = densify(posed, known, planned, Painter(noise=True), CONFIG, StageReporter("densify"))
    assert useless.views == () and useless.first is None and len(useless.verdicts) == len(planned)


def test_a_path_of_the_users_is_drawn_but_for_what_cannot_be():
    known = known_plane()
    given = Cameras(torch.stack([at(0.1), at(0, 0, 6.0)]), K.expand(2, 3, 3), 72, 96)
    planned = plan(known, (72, 96), Classical.caps, CONFIG.densify, torch.Generator(), given)
    assert len(planned) == 1 and planned.ordered and "camera 2: it lies behind" in planned.left_out[0]
    wall = replace(given, c2w=at(0, 0, 6.0).repeat(2, 1, 1))
    with pytest.raises(UserError, match="none of the 2 cameras can be drawn: it lies behind"):
        plan(known, (72, 96), Classical.caps, CONFIG.densify, torch.Generator(), wall)
    with pytest.raises(UserError, match="unknown path 'circle'; choose auto or one of spline"):
        plan(known, (72, 96), Classical.caps, replace(CONFIG.densify, path="circle"), torch.Generator())


def test_a_video_prior_gets_one_path_from_photo_to_photo():
    known = known_plane()
    video = replace(Classical.caps, frames=(5, 9, 4))
    planned = plan(known, (72, 96), video, replace(CONFIG.densify, views=9), torch.Generator())
    assert planned.ordered
    photos = known.cameras
    for end in (planned.c2w[0], planned.c2w[-1]):
        assert (photos - end).flatten(1).abs().amax(1).min() < 1e-4
    steps = (planned.c2w[1:, :3, 3] - planned.c2w[:-1, :3, 3]).norm(dim=1)
    assert steps.max() < 2.5


def test_a_camera_of_a_photo_gets_the_photo_and_is_no_new_view():
    posed, depths = textured_plane()
    holes = [depth.clone() for depth in depths]
    holes[0][:, :40] = 0  # without depth the photo shows more than its own warp
    known = Known.of(posed.views, holes)
    given = Cameras(torch.stack([posed.views[0].c2w, at(1.5)]), posed.views[0].K.expand(2, 3, 3), 72, 96)
    planned = plan(known, (72, 96), Classical.caps, CONFIG.densify, torch.Generator(), given)
    made = densify(posed, known, planned, Painter(noise=True), CONFIG, StageReporter("densify"))
    photo, noise = made.verdicts
    assert photo.why_not == REPEATS and torch.allclose(photo.view.image, posed.views[0].image, atol=2e-3)
    assert "agrees with the photos by" in noise.why_not


def test_the_classical_prior_draws_a_plane_right_where_photos_show_it_and_says_where_not():
    posed, depths = textured_plane()
    target = look_at(torch.tensor([1.0, 0.1, 0.0]), torch.tensor([0.5, 0.0, 4.0]), torch.tensor([0.0, -1.0, 0.0]))
    cameras = Cameras(torch.stack([view.c2w for view in posed.views]), K.expand(3, 3, 3), 72, 96)
    query = ViewQuery(
        cond_rgb=torch.stack([view.image for view in posed.views]),
        cond_cams=cameras,
        target_cams=Cameras(target[None], K[None], 72, 96),
        cond_depth=torch.stack(depths)[:, None],
    )
    answer = Classical().generate(query)
    right = pictured("", target, K, (72, 96), [WALL], plane_texture)[0].image
    sure = answer.conf[0, 0] > 0.8
    assert sure.float().mean() > 0.5
    assert (answer.rgb[0] - right)[:, sure].abs().mean() < 0.02
    assert answer.conf[0, 0][~sure].median() <= 0.3 and answer.rgb.isfinite().all()
    with pytest.raises(ValueError, match="needs depth of the photos"):
        Classical().generate(replace(query, cond_depth=None))
