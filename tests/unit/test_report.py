"""Parts of the report page."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
import torch
from support.synthetic import Plane, pictured, pinhole

from sparse3d.init.depth_map import DepthMap
from sparse3d.init.support import support_facts, support_of
from sparse3d.report.advice import advice, advice_section
from sparse3d.report.compare import compared
from sparse3d.report.curves import loss_section, time_section
from sparse3d.report.single import single_section


def depth_map(x: float, name: str) -> DepthMap:
    """A wall at 4, seen from a camera at x that looks straight ahead; its picture is 4 wide there."""
    c2w = torch.eye(4)
    c2w[0, 3] = x
    view, depth = pictured(name, c2w, pinhole(60, 80, 80.0), (60, 80), [Plane((0.0, 0.0, 1.0), 4.0)])
    nowhere = torch.zeros_like(depth, dtype=torch.bool)
    return DepthMap(view, depth, torch.ones_like(depth), nowhere.long(), nowhere, 4.0)


def test_the_outer_halves_are_what_only_one_photo_shows():
    """Two cameras two apart share half of each picture: the left one has the left half alone."""
    support = support_of([depth_map(0, "left.jpg"), depth_map(2, "right.jpg")], 0.03)
    assert [round(view.once, 1) for view in support.views] == [0.5, 0.5]
    assert [view.side for view in support.views] == ["left", "right"]
    first, second = advice(support_facts(support))
    assert "a step to the right of right.jpg" in first and "mostly at its right" in first
    assert "a step to the left of left.jpg" in second and "50 %" in second


def test_photos_that_others_see_too_need_no_advice():
    support = support_of([depth_map(0, "a"), depth_map(0.2, "b")], 0.03)
    assert advice(support_facts(support)) == [] and advice_section(support_facts(support)) == ""
    assert advice_section(None) == ""


def test_photos_that_contradict_are_named():
    facts = {"views": {"bad.jpg": {"once": 0.0, "weight": 0.3}, "good.jpg": {"once": 0.0, "weight": 1}}}
    assert advice(facts) == ["Take bad.jpg again: what it shows does not fit the other photos."]


def test_the_loss_curve_falls_where_the_loss_does(tmp_path):
    (tmp_path / "losses.json").write_text(json.dumps([[10 * (i + 1), 0.5 * 0.9**i] for i in range(30)]))
    section = loss_section(tmp_path)
    smooth = re.findall(r'<polyline points="([^"]+)"/>', section)[0]
    points = [tuple(map(float, pair.split(","))) for pair in smooth.split()]
    assert len(points) == 30
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(points))  # down the page
    steps = [b[1] - a[1] for a, b in pairwise(points[6:-6])]
    assert max(steps) - min(steps) < 0.2  # a geometric fall is a straight line
    assert "300 steps" in section and loss_section(tmp_path / "none") == ""


@pytest.mark.parametrize("losses", [[], [[10, 0.1]], [[10, 0.0], [20, float("nan")]]])
def test_curves_of_nothing_are_left_out(tmp_path, losses):
    (tmp_path / "losses.json").write_text(json.dumps(losses))
    assert loss_section(tmp_path) == ""


def test_bars_are_as_long_as_their_stages_took():
    section = time_section({"01_pose": 2.0, "04_<b>": 8.0})
    assert re.findall(r"width:(\d+)px", section) == ["80", "320"]
    assert "10.0 s" in section and "04_&lt;b&gt;" in section


def test_one_photo_says_what_it_is():
    facts = {
        "depth": "a <network>",
        "licence": "MIT",
        "metric": True,
        "approximate": False,
        "intrinsics": "EXIF",
        "radius": 0.42,
        "invented": 0.123,
    }
    section = single_section(facts)
    assert "a &lt;network&gt;" in section and "0.42 m" in section and "12 %" in section and "warning" not in section
    guessed = single_section(facts | {"metric": False, "approximate": True})
    assert "Approximate" in guessed and "of the median depth" in guessed
    assert single_section(None) == ""


def test_names_cannot_break_the_page():
    text = compared(torch.zeros(3, 4, 4), torch.ones(3, 4, 4), '"><script>')
    assert "<script>" not in text and text.count("data:image/jpeg;base64,") == 2
