"""How well views support a scene: shares by geometry, and cameras that are wrong on purpose. Depth is exact."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole, textured_plane
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.geometry import se3_exp
from sparse3d.init.depth_map import DepthMap
from sparse3d.init.initialize import initialize
from sparse3d.init.overlap import Said, overlaps
from sparse3d.init.support import Support, support_facts, support_of
from sparse3d.io.scene import SceneFolder
from sparse3d.pipeline.init_stage import INIT, view_weights
from sparse3d.progress import Event, StageReporter

SIZE, FOCAL = (120, 160), 160.0
WALL = Plane((0.0, 0.0, 1.0), 4.0)  # of which a picture shows 4 world units from side to side
ROOM = (  # a slanted wall and blocks before it: of a flat wall alone, the depth hardly says where it is seen from
    Plane((-0.5, 0.4, 1.0), 7.0),
    Plane((0.3, 0.0, 1.0), 3.5, low=(-1.5, -1.2, 2.0), high=(-0.4, 0.2, 4.5)),
    Plane((0.0, -0.3, 1.0), 4.5, low=(0.2, -1.5, 3.0), high=(1.4, 0.0, 6.0)),
    Plane((-0.3, 0.3, 1.0), 3.8, low=(-0.2, 0.3, 2.0), high=(0.9, 1.3, 5.0)),
)
TOLERANCE = 0.03


def seen_from(name: str, x: float, planes=(WALL,), y: float = 0.0) -> DepthMap:
    """Exact depth from a place, looking along z."""
    c2w = torch.eye(4)
    c2w[:2, 3] = torch.tensor([x, y])
    view, depth = pictured(name, c2w, pinhole(*SIZE, FOCAL), SIZE, planes)
    one = (depth > 0).float()
    return DepthMap(view, depth, one, one.long(), torch.zeros(SIZE, dtype=torch.bool), 20.0)


def room(count: int) -> list[DepthMap]:
    """A block before a slanted wall, from places around the middle."""
    places = ((0.0, 0.0), (0.6, 0.1), (-0.5, 0.3), (0.2, -0.5), (-0.3, -0.3), (0.7, 0.6))
    return [seen_from(f"{k}.jpg", x, ROOM, y) for k, (x, y) in enumerate(places[:count])]


def turned(found: DepthMap, angle_deg: float) -> DepthMap:
    """The same picture and depth with a camera that is turned to the side, which is wrong."""
    turn = se3_exp(torch.tensor([0.0, math.radians(angle_deg), 0.0, 0.0, 0.0, 0.0]))
    return replace(found, view=replace(found.view, c2w=found.view.c2w @ turn))


def without_depth(found: DepthMap, where: Tensor) -> DepthMap:
    return replace(found, depth=torch.where(where, 0.0, found.depth))


def masked(found: DepthMap, mask: Tensor) -> DepthMap:
    return replace(found, view=replace(found.view, mask=mask), depth=found.depth * mask)


def shares(support: Support) -> list[tuple[float, float, float]]:
    return [(view.twice, view.disputed, view.once) for view in support.views]


# Shares ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_two_pictures_of_a_wall_share_what_their_distance_says(overlap):
    """Each shows 4 units of the wall, so cameras 4 (1 - overlap) apart see that much of it twice."""
    support = support_of([seen_from("a", 0.0), seen_from("b", 4 * (1 - overlap) or 1e-3)], TOLERANCE)
    for twice, disputed, once in shares(support):
        assert twice == pytest.approx(overlap, abs=1 / 80) and disputed == pytest.approx(0.0, abs=1 / 80)  # a column
        assert once == pytest.approx(1 - overlap, abs=1 / 80)
    assert support.once == pytest.approx(1 - overlap, abs=1 / 80)
    assert support.weights == (1.0, 1.0) and not support.warnings


def test_a_row_of_three():
    """Half of each end and all of the middle are seen twice: of three pictures, a third is seen once."""
    support = support_of([seen_from(str(k), 2.0 * k) for k in range(3)], TOLERANCE)
    assert [view.twice for view in support.views] == pytest.approx([0.5, 1.0, 0.5], abs=2 / 80)
    assert support.once == pytest.approx(1 / 3, abs=1 / 80)
    assert support.sentence() in {
        f"these 3 photos see {share} % of the scene only once; what only one photo sees is a guess in depth"
        for share in (33, 34)
    }


def test_what_one_view_has_no_depth_for_is_disputed_in_the_other_and_a_guess_in_itself():
    first, second = seen_from("a", 0.0), seen_from("b", 1e-3)
    left = torch.zeros(SIZE, dtype=torch.bool)
    left[:, :40] = True  # a quarter
    (twice, disputed, once), (second_twice, second_disputed, second_once) = shares(
        support_of([without_depth(first, left), second], TOLERANCE)
    )
    assert (twice, disputed, once) == pytest.approx((0.75, 0.0, 0.25), abs=1 / 80)
    assert (second_twice, second_disputed, second_once) == pytest.approx((0.75, 0.25, 0.0), abs=1 / 80)


def test_what_another_view_sees_behind_a_point_is_disputed_and_what_hides_it_is_not():
    far, near = seen_from("far", 0.0), seen_from("near", 1e-3, (Plane((0.0, 0.0, 1.0), 2.0),))
    (of_far, of_near) = shares(support_of([far, near], TOLERANCE))
    assert of_far == pytest.approx((0.0, 0.0, 1.0), abs=1 / 80)  # the nearer wall would hide it
    assert of_near == pytest.approx((0.0, 1.0, 0.0), abs=1 / 80)  # through which the farther one is seen
    said = overlaps([far, near], TOLERANCE)
    assert (said[0].said[1] == Said.HIDDEN).float().mean() > 0.98
    assert (said[1].said[0] == Said.OTHERWISE).float().mean() > 0.98


def test_masks_take_pixels_out_of_all_counts():
    left = torch.zeros(SIZE, dtype=torch.bool)
    left[:, :80] = True
    first, second = masked(seen_from("a", 0.0), left), seen_from("b", 1e-3)
    support = support_of([first, second], TOLERANCE)
    assert shares(support)[0] == pytest.approx((1.0, 0.0, 0.0), abs=1 / 40)  # all of the half that counts
    assert shares(support)[1] == pytest.approx((0.5, 0.0, 0.5), abs=1 / 80)  # nobody is asked where the mask is
    assert support.once == pytest.approx(1 / 3, abs=1 / 80)  # by pixels: half a picture twice, a whole one half
    nothing = support_of([masked(first, torch.zeros(SIZE, dtype=torch.bool)), second], TOLERANCE)
    assert shares(nothing)[0] == (0.0, 0.0, 0.0) and nothing.once == 1.0 and not nothing.warnings


def test_views_without_depth_see_everything_once():
    nowhere = torch.ones(SIZE, dtype=torch.bool)
    support = support_of([without_depth(found, nowhere) for found in room(3)], TOLERANCE)
    assert shares(support) == [(0.0, 0.0, 1.0)] * 3 and support.once == 1.0
    assert support.weights == (1.0, 1.0, 1.0) and not support.warnings


def test_shares_add_up_and_larger_pictures_are_sampled_alike():
    maps = room(4)
    for view in support_of(maps, TOLERANCE).views:
        assert view.twice + view.disputed + view.once == pytest.approx(1.0)
    large = []
    for found in maps:
        view, depth = pictured(found.view.name, found.view.c2w, pinhole(240, 320, 2 * FOCAL), (240, 320), ROOM)
        large.append(DepthMap(view, depth, depth, depth.long(), torch.zeros(240, 320, dtype=torch.bool), 20.0))
    for small, big in zip(shares(support_of(maps, TOLERANCE)), shares(support_of(large, TOLERANCE)), strict=True):
        assert big == pytest.approx(small, abs=0.03)  # on outlines the coarser pixels decide


def test_one_map_has_no_support():
    with pytest.raises(ValueError, match="needed 2 or more depth maps, found 1"):
        support_of(room(1), TOLERANCE)


# Cameras that are wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 4, 6])
def test_right_cameras_are_left_alone(count):
    support = support_of(room(count), TOLERANCE)
    assert support.weights == (1.0,) * count and not support.warnings


@pytest.mark.parametrize("wrong", range(4))
@pytest.mark.parametrize("angle_deg", [-20.0, 20.0, 30.0])
def test_a_turned_camera_is_named_and_counts_for_a_tenth(wrong, angle_deg):
    maps = room(4)
    maps[wrong] = turned(maps[wrong], angle_deg)
    support = support_of(maps, TOLERANCE)
    assert support.weights == tuple(0.1 if k == wrong else 1.0 for k in range(4))
    (text,) = support.warnings
    assert text.startswith(f"{wrong}.jpg: its camera contradicts the others (") and "counts for a tenth" in text
    assert text.endswith("Check its pose, or leave the photo out")


def test_swapped_cameras_are_both_named():
    maps = room(6)
    first, second = maps[1], maps[4]
    maps[1] = replace(first, view=replace(first.view, c2w=second.view.c2w))
    maps[4] = replace(second, view=replace(second.view, c2w=first.view.c2w))
    support = support_of(maps, TOLERANCE)
    assert [view.name for view in support.views if view.weight < 1] == ["1.jpg", "4.jpg"]


def test_a_camera_that_looks_away_is_named_among_four_and_not_among_three():
    """Among three, two may show one thing and the third another; three that agree are the scene."""
    for count, weight in ((3, 1.0), (4, 0.1)):
        maps = room(count)
        maps[0] = turned(maps[0], 180.0)
        support = support_of(maps, TOLERANCE)
        assert support.weights == (weight,) + (1.0,) * (count - 1)
        assert [("sees nothing of what the others see" in text) for text in support.warnings] == [True] * (count - 3)


def test_of_two_views_nobody_can_say_which_is_wrong():
    first, second = room(2)
    support = support_of([first, turned(second, 15.0)], TOLERANCE)
    assert support.weights == (1.0, 1.0)
    assert [text.split(":")[0] for text in support.warnings] == ["0.jpg", "1.jpg"]
    assert "contradicts that of 1.jpg" in support.warnings[0] and "Check both poses" in support.warnings[1]


def test_a_view_that_found_no_depth_is_not_suspected_where_its_picture_fits():
    maps = room(4)
    maps[2] = without_depth(maps[2], torch.ones(SIZE, dtype=torch.bool))
    assert not support_of(maps, TOLERANCE).warnings
    assert support_of([*maps[:2], turned(maps[2], 20.0), maps[3]], TOLERANCE).weights == (1.0, 1.0, 0.1, 1.0)


def test_views_from_another_side_are_not_suspected():
    """Three agree on a wall; the fourth sees it from 75 degrees aside, where neither depth nor pictures need to match."""
    maps = [seen_from(f"{x}", x) for x in (0.0, 0.3, -0.3)]
    around = se3_exp(torch.tensor([0.0, math.radians(-75.0), 0.0, 0.0, 0.0, 0.0]))
    centre = torch.tensor([0.0, 0.0, 4.0])
    around[:3, 3] = centre - around[:3, :3] @ centre
    view, depth = pictured("aside", around, pinhole(*SIZE, FOCAL), SIZE, [WALL])
    aside = DepthMap(replace(view, image=view.image.flip(1)), depth, depth, depth.long(), depth < 0, 20.0)
    support = support_of([*maps, without_depth(aside, depth > 0)], TOLERANCE)
    assert support.weights == (1.0,) * 4 and not support.warnings


def test_two_groups_that_contradict_each_other_are_left_alone():
    """Which of the two is wrong cannot be said: each view is confirmed by its own group."""
    maps = room(6)
    move = torch.zeros(4, 4)
    move[0, 3] = 0.7
    maps[3:] = [replace(found, view=replace(found.view, c2w=found.view.c2w + move)) for found in maps[3:]]
    assert support_of(maps, TOLERANCE).weights == (1.0,) * 6


def test_the_order_of_views_does_not_matter():
    maps = room(4)
    maps[1] = turned(maps[1], 20.0)
    want = {view.name: view for view in support_of(maps, TOLERANCE).views}
    for order in itertools.permutations(range(4)):
        got = support_of([maps[k] for k in order], TOLERANCE)
        assert {view.name: view for view in got.views} == want
        assert [view.name for view in got.views] == [f"{k}.jpg" for k in order]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_units_of_the_world_do_not_matter(scale):
    maps = room(4)
    maps[3] = turned(maps[3], 20.0)
    units = torch.ones(4, 4)
    units[:3, 3] = scale
    scaled = [
        replace(found, view=replace(found.view, c2w=found.view.c2w * units), depth=found.depth * scale)
        for found in maps
    ]
    got, want = (support_of(some, TOLERANCE) for some in (scaled, maps))
    assert got.weights == want.weights
    for first, second in zip(shares(got), shares(want), strict=True):
        assert first == pytest.approx(second, abs=0.01)  # pixels on the line between two


# On the way ------------------------------------------------------------------------------------------------------------


def test_initialization_says_it_and_the_stage_keeps_it(tmp_path):
    events: list[Event] = []
    config = InitConfig(method="planesweep", max_size=96, planes=48, sources=2, near=2.0, far=8.0)
    found = initialize(textured_plane()[0], config, StageReporter("init", events.append))
    assert found.support is not None and found.support.weights == (1.0, 1.0, 1.0)
    assert found.support.sentence() in [event.message for event in events if event.kind == "note"]

    scene = SceneFolder.create(tmp_path / "scene")
    assert view_weights(scene, ["0", "1"]) == (1.0, 1.0)  # nothing is known yet
    doubted = replace(found.support, views=(replace(found.support.views[0], weight=0.1), *found.support.views[1:]))
    with scene.write_stage(INIT[0], "key") as (_, facts):
        facts["support"] = support_facts(doubted)
    assert view_weights(scene, ["1", "0", "unheard of"]) == (1.0, 0.1, 1.0)


def test_initialization_warns_of_a_wrong_camera():
    """The plane sweep itself is given a camera that is turned."""
    posed, _ = textured_plane(views=4)
    views = list(posed.views)
    views[2] = turned(DepthMap(views[2], *([torch.zeros(72, 96)] * 4), 1.0), 20.0).view
    events: list[Event] = []
    config = InitConfig(method="planesweep", max_size=96, planes=48, sources=3, near=2.0, far=8.0)
    found = initialize(replace(posed, views=tuple(views)), config, StageReporter("init", events.append))
    assert found.support is not None and found.support.weights == (1.0, 1.0, 0.1, 1.0)
    assert [event.message for event in events if event.kind == "warning"] == list(found.support.warnings)
