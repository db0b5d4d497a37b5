"""SIFT through COLMAP gives the same whichever thread is done first."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose import sift
from sparse3d.pose.sift import Sift
from sparse3d.progress import StageReporter
from sparse3d.types import Photo


def test_photos_keep_their_order_though_small_ones_are_done_first(monkeypatch):
    """COLMAP numbers photos as features come in, and verifies a pair from the lower number to the higher."""
    generator = torch.Generator().manual_seed(0)
    numbers = []
    read = sift._read

    def look(colmap, path, photos, pairs):
        with pycolmap().Database.open(str(path)) as database:
            numbers.extend(image.image_id for image in sorted(database.read_all_images(), key=lambda i: i.name))
        return read(colmap, path, photos, pairs)

    monkeypatch.setattr(sift, "_read", look)
    photos = []
    for index, size in enumerate((960, 96, 960, 96)):
        image = F.interpolate(torch.rand(1, 3, size // 8, size // 8, generator=generator), (size, size), mode="bicubic")
        photos.append(Photo(f"{index}.png", image[0].clamp(0, 1), torch.eye(3), "given", str(index), None))
    found = Sift(PoseConfig(), thorough=False).match(photos, [(0, 1), (0, 2)], StageReporter("pose"))
    assert numbers == [1, 2, 3, 4]
    assert len(found.keypoints[0]) > 100 > len(found.keypoints[1])
