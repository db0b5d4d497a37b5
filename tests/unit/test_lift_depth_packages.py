"""Depth networks that come with packages of their own: as their repositories describe them, and MoGe-2's own class where it is installed."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparse3d.config import LiftConfig
from sparse3d.errors import UserError
from sparse3d.lift.depth_packages import DepthAnything3, MoGe2
from sparse3d.lift.photo import network_of

H, W, FOCAL = 48, 64, 80.0


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, H, W, generator=torch.Generator().manual_seed(0))


class Moge(nn.Module):
    """A wall at 3 metres with a masked upper quarter, seen by a camera of FOCAL (moge.model.v2, `infer`)."""

    def __init__(self, metric: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.told: dict[str, Any] = {}
        if metric:
            self.scale_head = nn.Linear(1, 1)

    def infer(self, image: Tensor, **options: Any) -> dict[str, Tensor]:
        print("a line on stdout")
        self.told = options
        depth = torch.full(image.shape[1:], 3.0)
        depth[: image.shape[1] // 4] = torch.inf
        K = torch.tensor([[FOCAL / W, 0, 0.5], [0, FOCAL / H, 0.5], [0, 0, 1]])
        return {"depth": depth, "intrinsics": K, "mask": depth.isfinite()}


def test_moge_tells_metres_sky_and_the_focal_length(image, capsys):
    model = Moge()
    found = MoGe2(model, "MoGe-2", "MIT")(image)
    assert found.metric and found.focal == pytest.approx(FOCAL) and "fov_x" not in model.told
    assert bool(found.depth[: H // 4].isinf().all()) and bool((found.depth[H // 4 :] == 3).all())
    assert capsys.readouterr().out == ""


def test_moge_is_told_a_focal_length_that_is_known(image):
    model = Moge()
    found = MoGe2(model, "MoGe-2", "MIT")(image, 32.0)
    assert found.focal == 32 and model.told["fov_x"] == pytest.approx(90)


def test_the_first_moge_knows_no_metres(image):
    found = MoGe2(Moge(metric=False), "MoGe", "MIT")(image)
    assert not found.metric and float(found.depth[found.depth.isfinite()].median()) == pytest.approx(1)


def test_moges_own_class_gives_what_its_points_say(image, monkeypatch):
    """With random weights: depth and focal length must be those of its point map, (x, y, z) = z ((u - cx) / f, (v - cy) / f, 1)."""
    v2 = pytest.importorskip("moge.model.v2")
    if not hasattr(
        v2.utils3d, "pt"
    ):  # another package of that name is on the index; these two formulas are all that is used
        monkeypatch.setattr(
            v2.utils3d,
            "pt",
            SimpleNamespace(intrinsics_from_focal_center=_intrinsics, depth_map_to_point_map=_points),
            raising=False,
        )
    torch.manual_seed(0)
    stack = {"dim_res_blocks": [8] * 5, "resamplers": ["bilinear"] * 4, "res_block_hidden_norm": "layer_norm"}
    model = v2.MoGeModel(
        encoder={"backbone": "dinov2_vits14", "intermediate_layers": 1, "dim_out": 8},
        neck={"dim_in": [10, 2, 2, 2, 2], "dim_out": [8] * 5, **stack},
        points_head={"dim_in": [8] * 5, "dim_out": [None] * 4 + [3], **stack},
        scale_head={"dims": [384, 1]},
        remap_output="exp",
        num_tokens_range=[12, 24],
    ).eval()
    found = MoGe2(model, "MoGe-2", "MIT")(image, 50.0)
    own = model.infer(image, use_fp16=False, fov_x=math.degrees(2 * math.atan(0.5 * W / 50)))
    there = own["depth"] > 0  # random weights may put things behind the camera
    assert found.metric and int(there.sum()) > 100 and torch.allclose(found.depth[there], own["depth"][there])
    assert bool(found.depth[~there].isinf().all())
    x, z = own["points"][..., 0], own["points"][..., 2]
    assert torch.allclose(x, z * (torch.arange(W) + 0.5 - W / 2) / found.focal, atol=1e-4)


def _intrinsics(fx: Tensor, fy: Tensor, cx: Tensor, cy: Tensor) -> Tensor:
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [fx, zero, cx * one, zero, fy, cy * one, zero, zero, one]
    return torch.stack(rows, dim=-1).reshape(*fx.shape, 3, 3)


def _points(depth: Tensor, intrinsics: Tensor) -> Tensor:
    v, u = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing="ij")
    x = (u - 0.5) / intrinsics[:, 0, 0, None, None] * depth
    y = (v - 0.5) / intrinsics[:, 1, 1, None, None] * depth
    return torch.stack([x, y, depth], dim=-1)


class Da3(nn.Module):
    """A wall at 2 under a sky, as `depth_anything_3.api` gives it: at half the size of the photo."""

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.layer, self.more = nn.Linear(1, 1), more

    def inference(self, image: list[np.ndarray], *, process_res: int, process_res_method: str) -> Any:
        print("a line on stdout")
        assert image[0].dtype == np.uint8 and image[0].shape == (H, W, 3)
        sky = np.zeros((1, H // 2, W // 2), np.float32)
        sky[:, : H // 8] = 0.9
        depth = np.full_like(sky, 2.0)
        return SimpleNamespace(**({"depth": depth, "sky": sky, "is_metric": 0, "intrinsics": None} | self.more))


def test_depth_anything_3_is_relative_depth_with_a_sky(image, capsys):
    found = DepthAnything3(Da3(), "Depth Anything 3 (DA3MONO-LARGE)", "Apache-2.0")(image)
    assert not found.metric and found.focal is None
    assert bool(found.depth[: H // 4 - 1].isinf().all()) and torch.allclose(
        found.depth[H // 4 + 2 :], torch.tensor(1.0)
    )
    assert capsys.readouterr().out == ""


def test_nested_models_tell_metres_and_a_focal_length_in_pixels_of_the_photo(image):
    K = np.array([[[FOCAL / 2, 0, W / 4], [0, FOCAL / 2, H / 4], [0, 0, 1]]], np.float32)
    found = DepthAnything3(Da3(is_metric=1, intrinsics=K), "Depth Anything 3 (DA3NESTED)", "CC BY-NC 4.0")(image)
    assert found.metric and found.focal == pytest.approx(FOCAL)
    assert torch.allclose(found.depth[H // 4 + 2 :], torch.tensor(2.0))


def test_the_metric_model_is_scaled_by_the_focal_length_of_what_it_saw(image):
    network = DepthAnything3(Da3(), "Depth Anything 3 (DA3METRIC-LARGE)", "Apache-2.0")
    found = network(image, FOCAL)
    assert found.metric
    assert torch.allclose(found.depth[H // 4 + 2 :], torch.tensor(2.0 * FOCAL * 0.5 / 300))
    assert not network(image).metric


@pytest.mark.parametrize("kind", ["moge", "da3"])
def test_a_network_that_sees_nothing_is_told(image, kind):
    if kind == "moge":
        model = Moge()
        model.infer = lambda image, **_: {"depth": torch.full((H, W), torch.nan), "intrinsics": torch.eye(3)}  # type: ignore[assignment]
        network: Any = MoGe2(model, "MoGe-2", "MIT")
    else:
        network = DepthAnything3(Da3(depth=np.full((1, H, W), np.nan, np.float32), sky=None), "DA3", "")
    with pytest.raises(UserError, match="finds no depth"):
        network(image)


@pytest.mark.parametrize(
    ("name", "said"),
    [("moge-2", "pip install git.*microsoft/MoGe"), ("depth-anything-3", "pip install git.*Depth-Anything-3")],
)
def test_a_missing_package_is_told_with_its_command(name, said, monkeypatch):
    for module in ("moge", "moge.model", "moge.model.v2", "depth_anything_3", "depth_anything_3.api"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=said):
        network_of(LiftConfig(depth_model=name))


def test_missing_weights_are_told(monkeypatch, tmp_path):
    module = ModuleType("moge.model.v2")

    class MoGeModel:
        @classmethod
        def from_pretrained(cls, source: str, **options: Any) -> Any:
            raise OSError(f"{source} is not there")

    module.MoGeModel = MoGeModel  # type: ignore[attr-defined]
    for name in ("moge", "moge.model"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "moge.model.v2", module)
    with pytest.raises(UserError, match=r"other\.pt could not be loaded: .* --depth-model geometric needs none"):
        network_of(LiftConfig(depth_model=f"moge-2:{tmp_path}/other.pt"))
