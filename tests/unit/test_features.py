"""Features as another thing to match by: cosines over depth planes by hand, and XFeat's on pictures of a plane."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.synthetic import textured_plane

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.init.features import DenseXFeat, FeatureMap, similarity
from sparse3d.init.planesweep import estimate_depths
from sparse3d.models import store
from sparse3d.progress import StageReporter
from sparse3d.types import View


def test_similarity_is_the_mean_cosine():
    """Cameras side by side: at depth z a feature of the one is f b / z columns to the left in the other."""
    generator = torch.Generator().manual_seed(0)
    own, other = (F.normalize(torch.randn(5, 4, 16, generator=generator), dim=0) for _ in range(2))
    K = torch.tensor([[10.0, 0, 8], [0, 10.0, 2], [0, 0, 1]])
    moved = torch.eye(4)
    moved[0, 3] = 1.0
    image = torch.zeros(3, 32, 128)
    views = [View("a", image, K, torch.eye(4)), View("b", image, K, moved)]
    got = similarity(views[0], FeatureMap(own, K), [views[1]], [FeatureMap(other, K)], torch.tensor([10.0, 5.0]))
    for plane, columns in ((0, 1), (1, 2)):
        want = (own[..., columns:] * other[..., :-columns]).sum(dim=0)
        torch.testing.assert_close(got[plane, :, columns:], want)
        assert (got[plane, :, :columns] == 0).all()  # the other does not see them


def test_weights_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))
    posed, _ = textured_plane()
    config = InitConfig(max_size=96, planes=48, near=2.0, far=8.0, feature_weight=0.2)
    with pytest.raises(UserError, match="sparse3d models fetch xfeat"):
        estimate_depths(posed, config, StageReporter("init"))


def test_xfeat_moves_with_the_picture():
    """A picture that is moved by one cell of 8 pixels has the same features one cell further, but for its borders."""
    if store.path("xfeat") is None:
        pytest.skip("the weights of xfeat are not on this machine: sparse3d models fetch xfeat")
    posed, _ = textured_plane(256, 392)
    view = posed.views[0]
    describe = DenseXFeat()
    first, moved = (describe(replace(view, image=view.image[:, :, x : x + 384].contiguous())) for x in (0, 8))
    assert first.features.shape == (64, 32, 48)
    torch.testing.assert_close(first.features.norm(dim=0), torch.ones(32, 48))
    alike = (first.features[..., 1:] * moved.features[..., :-1]).sum(dim=0)[8:-8, 8:-8]
    unlike = (first.features * moved.features).sum(dim=0)[8:-8, 8:-8]
    assert alike.min() > 0.98 > unlike.median()
