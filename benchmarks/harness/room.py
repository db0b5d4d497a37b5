"""The example photos as a set with exact cameras and depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.photo_sets import FULL_SIZE
from sparse3d.config import Config
from sparse3d.geometry import fitted_size
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.pose.known import load_known
from sparse3d.pose.triangulate import triangulate
from sparse3d.types import PosedViews, View

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_TRUTH = _EXAMPLES / "ground_truth"
TRAINING = {3: (3, 4, 5), 6: (2, 3, 4, 5, 6, 7)}  # of the eight photos; the others are for tests


def room(count: int, size: int, config: Config) -> tuple[PosedViews, tuple[View, ...]]:
    """Training and test views of the example photos, with their exact cameras.

    Args:
        count: Training views, 3 or 6.
        size: Longer side, pixels.
        config: `pose`, `seed`.
    """
    photos = load_photos(find_photos([_EXAMPLES / "photos"]), FULL_SIZE, warn=print)
    posed = load_known(_TRUTH / "transforms.json", photos, warn=print)
    names = [posed.names[k - 1] for k in TRAINING[count]]
    points = triangulate(posed.only(names), config.pose, config.seed)
    small = [view.resized(*fitted_size(view.height, view.width, size)) for view in posed.views]
    training = PosedViews(tuple(view for view in small if view.name in names), points)
    return training, tuple(view for view in small if view.name not in names)


def exact_depths(views: Sequence[View]) -> list[Tensor]:
    """Depth of views, from pictures of half their size. V of (H, W), metres"""
    import cv2

    units = json.loads((_TRUTH / "transforms.json").read_text())["frames"][0]["depth_unit_scale_factor"]
    depths = []
    for view in views:
        steps = cv2.imread(str(_TRUTH / f"{Path(view.name).stem}_depth.png"), cv2.IMREAD_UNCHANGED)
        depth = units * torch.from_numpy(steps.astype("float32"))
        depths.append(F.interpolate(depth[None, None], (view.height, view.width), mode="nearest")[0, 0])
    return depths
