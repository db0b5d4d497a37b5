from __future__ import annotations

import torch
from support.synthetic import OFFSET, SLOPE, textured_plane

from sparse3d.config import PoseConfig
from sparse3d.pose.triangulate import triangulate
from sparse3d.progress import StageReporter


def test_points_lie_on_the_plane_even_for_very_wide_cameras():
    """Focal length 100 px on 320 px: 116 degrees, which mapping would not believe of an unknown camera."""
    posed, _ = textured_plane(240, 320)
    points = triangulate(posed, PoseConfig(), 0, StageReporter("pose"))
    assert len(points) > 50
    off = points.xyz[:, 2] - (OFFSET + SLOPE * points.xyz[:, 0])
    # a keypoint is good to about half a pixel; at depth 4, f = 100 px and 0.7 units of baseline that is 0.1 in depth
    assert off.abs().median() < 0.1
    assert all(len(set(track)) >= 2 and set(track) <= set(posed.names) for track in points.tracks)
    assert torch.isfinite(points.xyz).all()
