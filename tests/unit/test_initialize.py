"""The way into initialization: what it asks of views and weights, what it answers, and that units of the world do not matter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from support.synthetic import Plane, pictured, pinhole, textured_plane
from torch import Tensor

from sparse3d.config import InitConfig
from sparse3d.errors import UserError
from sparse3d.geometry import project
from sparse3d.init.initialization import Origin
from sparse3d.init.initialize import initialize
from sparse3d.init.networks.mvsplat.encoder import Encoder
from sparse3d.init.networks.weights import find_weights
from sparse3d.init.planesweep import estimate_depths
from sparse3d.models import store
from sparse3d.models.registry import REGISTRY, HubFile
from sparse3d.progress import Event, StageReporter
from sparse3d.types import Points, PosedViews, View

SWEEP = InitConfig(method="planesweep", max_size=96, planes=48, sources=2, near=2.0, far=8.0)
QUIET = StageReporter("init")


@pytest.fixture
def posed() -> PosedViews:
    return textured_plane()[0]


def points_at(xyz: Tensor, names: tuple[str, ...] = ("0", "1", "2")) -> Points:
    return Points(xyz, torch.full_like(xyz, 0.5), torch.ones(len(xyz)), (names,) * len(xyz))


def transformed(posed: PosedViews, factor: float = 1.0, shift: Tensor | None = None) -> PosedViews:
    """The same scene in other units, then moved."""
    units = torch.ones(4, 4)
    units[:3, 3] = factor
    move = torch.zeros(4, 4)
    move[:3, 3] = torch.zeros(3) if shift is None else shift
    views = tuple(replace(view, c2w=view.c2w * units + move) for view in posed.views)
    return PosedViews(views, replace(posed.points, xyz=posed.points.xyz * factor + move[:3, 3]))


# What it asks of views -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "sfm", "planesweep", "mvsplat", "pixelsplat", "depthsplat"])
def test_a_single_view_is_sent_to_hallucinate(posed, method):
    with pytest.raises(UserError, match=r"at least 2 views, found 1.*sparse3d hallucinate --single"):
        initialize(posed.only(["0"]), replace(SWEEP, method=method), QUIET)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("method", ["auto", "planesweep", "mvsplat"])
def test_cameras_at_one_place_show_no_depth(posed, method, shift):
    c2w = posed.views[0].c2w.clone()
    c2w[0, 3] += shift
    turned = PosedViews(tuple(replace(view, c2w=c2w) for view in posed.views), Points.none())
    with pytest.raises(UserError, match="all 3 cameras stand at one place"):
        initialize(turned, replace(SWEEP, method=method), QUIET)


def test_cameras_that_look_opposite_ways(posed):
    """Each is warned of, and nothing is found."""
    back = posed.views[1].c2w.clone()
    back[:3, :3] = back[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    views = PosedViews((posed.views[0], replace(posed.views[1], c2w=back)), Points.none())
    events: list[Event] = []
    with pytest.raises(UserError, match="the plane sweep found no depth that matches"):
        initialize(views, SWEEP, StageReporter("init", events.append))
    warned = [event.message for event in events if event.kind == "warning"]
    assert len(warned) == 2 and all("no other view looks the same way" in message for message in warned)


@pytest.mark.parametrize(("near", "far"), [(-1.0, 5.0), (0.0, 5.0), (5.0, 2.0), (None, 1e-9)])
@pytest.mark.parametrize("method", ["planesweep", "mvsplat"])
def test_a_depth_range_that_is_empty_or_behind_the_camera(posed, near, far, method):
    with pytest.raises(UserError, match=r"is empty or behind the camera.*init\.near"):
        initialize(posed, replace(SWEEP, method=method, near=near, far=far), QUIET)


def test_masks_that_let_nothing_through(posed):
    nothing = torch.zeros(72, 96, dtype=torch.bool)
    masked = PosedViews(tuple(replace(view, mask=nothing) for view in posed.views), Points.none())
    with pytest.raises(UserError, match="found no depth that matches"):
        initialize(masked, SWEEP, QUIET)
    sparse = replace(masked, points=points_at(torch.tensor([[0.0, 0, 4], [0.1, 0, 4]])))
    found = initialize(sparse, replace(SWEEP, method="auto"), QUIET)
    assert found.start.origin.tolist() == [Origin.SPARSE] * 2


def test_small_holes_of_a_mask_are_not_filled(posed):
    mask = torch.ones(72, 96, dtype=torch.bool)
    mask[30:32, 50:53] = False  # 6 pixels, of the 13 that a hole may have to be filled
    views = PosedViews((posed.views[0], replace(posed.views[1], mask=mask), posed.views[2]), Points.none())
    found = estimate_depths(views, SWEEP, QUIET)[1]
    assert not found.depth[~mask].any() and not found.filled[~mask].any() and not found.confidence[~mask].any()


def test_sparse_points_alone_need_points(posed):
    with pytest.raises(UserError, match=r"init\.method=planesweep"):
        initialize(posed, InitConfig(method="sfm"), QUIET)


# What it answers -----------------------------------------------------------------------------------------------------


def test_method_and_why_are_said(posed):
    with_points = replace(posed, points=points_at(torch.randn(20, 3) + torch.tensor([0.0, 0, 4])))
    swept = initialize(with_points, SWEEP, QUIET)
    assert (swept.method, swept.why, len(swept.maps)) == ("planesweep", "asked for", 3)
    assert not (swept.start.origin == Origin.SPARSE).any()
    chosen = initialize(with_points, replace(SWEEP, method="auto"), QUIET)
    assert chosen.method == "planesweep" and chosen.why.startswith("chosen: ")
    sparse = initialize(with_points, replace(SWEEP, method="sfm"), QUIET)
    assert (sparse.method, sparse.why, sparse.maps) == ("sfm", "asked for", ())
    assert (sparse.start.origin == Origin.SPARSE).all() and len(sparse.gaussians) == 20


def test_auto_adds_the_points_that_the_sweep_does_not_settle(posed):
    """Points on the surface are there already, and so is what stands before it; behind it and beside all pictures is not."""
    on = torch.tensor([[x, 0.1, 4 + 0.4 * x] for x in (-0.3, 0.0, 0.3)])  # support/synthetic.py: z = 4 + 0.4 x
    behind, before, beside = (
        torch.tensor([[0.0, 0.1, 6.0]]),
        torch.tensor([[0.0, 0.1, 2.5]]),
        torch.tensor([[9.0, 0, 4]]),
    )
    xyz = torch.cat([on, behind, before, beside])
    # seen by another view than those that are swept, so that they do not pull at its depths
    found = initialize(replace(posed, points=points_at(xyz, ("other",))), replace(SWEEP, method="auto"), QUIET)
    kept = found.gaussians.means[found.start.origin == Origin.SPARSE]
    assert torch.equal(kept, torch.cat([behind, beside]))


@pytest.mark.parametrize("factor", [4.0, 1 / 256])
def test_units_of_the_world_scale_depths_and_gaussians(posed, factor):
    """A power of two changes no digit on the way."""
    points = points_at(torch.tensor([[0.0, 0, 4.0], [0.3, 0.1, 4.12], [5.0, 5.0, 7.0]]))
    given = replace(posed, points=points)
    before = initialize(given, replace(SWEEP, method="auto"), QUIET)
    units = replace(SWEEP, method="auto", near=2.0 * factor, far=8.0 * factor)
    after = initialize(transformed(given, factor), units, QUIET)
    for old, new in zip(before.maps, after.maps, strict=True):
        torch.testing.assert_close(new.depth, factor * old.depth, rtol=1e-5, atol=0)
        torch.testing.assert_close(new.confidence, old.confidence, rtol=0, atol=1e-5)
    assert torch.equal(after.start.origin, before.start.origin)
    torch.testing.assert_close(after.gaussians.means, factor * before.gaussians.means, rtol=1e-5, atol=1e-5 * factor)
    torch.testing.assert_close(after.gaussians.scales, factor * before.gaussians.scales, rtol=1e-4, atol=0)
    torch.testing.assert_close(after.gaussians.opacities, before.gaussians.opacities, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shift", [100.0, 10_000.0])
def test_a_world_far_from_its_origin(posed, shift):
    """float32 holds a place 10 000 units away to a thousandth; the depths are 4."""
    moved = transformed(posed, shift=torch.tensor([shift, -shift, shift / 2]))
    truth = textured_plane()[1]
    for found, depth in zip(estimate_depths(moved, SWEEP, QUIET), truth, strict=True):
        agreed = found.support > 0
        assert agreed.float().mean() > 0.6
        assert ((found.depth - depth).abs() <= 0.03 * depth)[agreed].float().mean() > 0.95


def test_two_views_ten_views_and_views_of_several_sizes():
    for posed in (textured_plane(views=2)[0], textured_plane(48, 64, views=10)[0]):
        assert len(initialize(posed, SWEEP, QUIET).maps) == len(posed.views)
    posed, truth = textured_plane()
    other = posed.views[1].resized(50, 61)
    found = initialize(PosedViews((posed.views[0], other, posed.views[2]), Points.none()), SWEEP, QUIET)
    assert [tuple(one.depth.shape) for one in found.maps] == [(72, 96), (50, 61), (72, 96)]
    for index in (0, 2):
        agreed = found.maps[index].support > 0
        right = (found.maps[index].depth - truth[index]).abs() <= 0.03 * truth[index]
        assert agreed.float().mean() > 0.6 and right[agreed].float().mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (3, 5), (8, 8), (9, 17)])
def test_tiny_pictures_give_depth_or_say_that_there_is_none(size):
    posed, _ = textured_plane(*size)
    try:
        found = initialize(posed, SWEEP, QUIET)
    except UserError as error:
        assert "found no depth that matches" in str(error)
    else:
        assert all(value.isfinite().all() for value in found.gaussians.values())


def test_surfaces_at_an_end_of_the_range_and_beyond():
    """All depths lie in the range that was given, a wall beyond it too."""
    K, views = pinhole(48, 64, 70.0), []
    for index in range(2):
        c2w = torch.eye(4)
        c2w[0, 3] = 0.3 * index
        views.append(pictured(str(index), c2w, K, (48, 64), [Plane((0.0, 0.0, 1.0), 4.0)])[0])
    for near, far in ((2.0, 4.0), (4.0, 8.0), (1.0, 3.0)):
        for found in estimate_depths(
            PosedViews(tuple(views), Points.none()), replace(SWEEP, near=near, far=far), QUIET
        ):
            known = found.depth[found.depth > 0]
            assert (known >= near * 0.999).all() and (known <= far * 1.001).all()


# Weights -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty store."""
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def put(name: str) -> Path:
    """A file in the store as weights of that name."""
    source = REGISTRY[name].source
    assert isinstance(source, HubFile)
    store.folder(name).mkdir(parents=True)
    file = store.folder(name) / source.filename
    file.write_bytes(b"weights")
    (store.folder(name) / store.RECORD).write_text(json.dumps({"files": {source.filename: {"size": 7, "sha256": ""}}}))
    return file


@pytest.mark.parametrize("method", ["mvsplat", "pixelsplat", "depthsplat"])
def test_missing_weights_say_how_to_get_them(posed, cache, method):
    with pytest.raises(UserError, match=rf"not on this machine.*sparse3d models fetch {method}"):
        initialize(posed, replace(SWEEP, method=method), QUIET)


def test_named_weights_that_are_missing(cache):
    with pytest.raises(UserError, match="sparse3d models fetch mvsplat-acid"):
        find_weights("mvsplat", "mvsplat-acid", False)


@pytest.mark.parametrize(
    ("method", "given", "meant"),
    [("mvsplat", "mvsplat-acd", "mvsplat-acid"), ("depthsplat", "depthsplat-base-rel0k", "depthsplat-base-re10k")],
)
def test_a_slip_of_the_pen_is_put_right(cache, method, given, meant):
    with pytest.raises(UserError, match=f"no weights '{given}'; did you mean '{meant}'"):
        find_weights(method, given, False)


def test_weights_of_another_network_are_no_weights_of_this(cache):
    put("pixelsplat")
    with pytest.raises(UserError, match="no weights 'pixelsplat'.*Give one of mvsplat, mvsplat-acid"):
        find_weights("mvsplat", "pixelsplat", False)


@pytest.mark.parametrize(
    "given", ["./gone.ckpt", "/gone/and/away.ckpt", "~/gone/and/away.ckpt", "gone.ckpt", "a/gone.ckpt"]
)
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(cache, given):
    with pytest.raises(UserError, match="no weights"):
        find_weights("mvsplat", given, True)


def test_weights_of_the_registry_by_name_and_by_default(cache):
    default, other = put("mvsplat"), put("mvsplat-acid")
    assert find_weights("mvsplat", "", False) == (default, "mvsplat")
    assert find_weights("mvsplat", "mvsplat-acid", False) == (other, "mvsplat-acid")


def test_a_file(cache, tmp_path):
    (tmp_path / "mine.ckpt").write_bytes(b"")
    assert find_weights("mvsplat", str(tmp_path / "mine.ckpt"), False) == (tmp_path / "mine.ckpt", "")
    assert find_weights("mvsplat", "mine.ckpt", False) == (Path("mine.ckpt"), "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "mine.ckpt").write_bytes(b"")
    assert find_weights("mvsplat", "a/b/mine.ckpt", False) == (Path("a/b/mine.ckpt"), "")


@pytest.mark.parametrize("name", ["mvsplat-acid", "depthsplat-small-re10k"])
def test_a_hub_file_of_the_registry_is_that_of_the_store(cache, name):
    source = REGISTRY[name].source
    assert isinstance(source, HubFile)
    method = name.split("-")[0]
    with pytest.raises(UserError, match=f"sparse3d models fetch {name}"):
        find_weights(method, f"{source.repo}/{source.path}", True)
    file = put(name)
    assert find_weights(method, f"{source.repo}/{source.path}", False) == (file, name)


def test_a_published_file_elsewhere_is_known_by_its_name(cache, tmp_path):
    """DepthSplat's networks differ in size: which one a file is for follows from the name that it was published under."""
    source = REGISTRY["depthsplat-base-re10k"].source
    assert isinstance(source, HubFile)
    (tmp_path / source.filename).write_bytes(b"")
    assert find_weights("depthsplat", source.filename, False) == (Path(source.filename), "depthsplat-base-re10k")


def test_the_licence_of_an_unknown_hub_file_is_asked_for(cache, monkeypatch):
    def never(*args: object, **kwargs: object) -> str:
        raise AssertionError("downloaded without consent")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", never)
    with pytest.raises(
        UserError, match=r"no file someone/theirs/folder/model\.ckpt.*licence.*init\.accept_license=true"
    ):
        find_weights("mvsplat", "someone/theirs/folder/model.ckpt", False)


def test_a_hub_file_that_was_accepted(cache, monkeypatch, tmp_path):
    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(tmp_path / "got.ckpt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find_weights("mvsplat", "someone/theirs/folder/model.ckpt", True) == (tmp_path / "got.ckpt", "")
    assert asked == [("someone/theirs", "folder/model.ckpt")]


def test_offline_says_what_to_do(cache, monkeypatch, tmp_path):
    """HF_HUB_OFFLINE=1 is read when the library is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match=r"model\.ckpt of someone/theirs could not be had.*Download it elsewhere"):
        find_weights("mvsplat", "someone/theirs/model.ckpt", True)


# Networks ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVSplat's weights as training starts with them."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "start.ckpt"
    torch.save({"state_dict": {f"encoder.{name}": value for name, value in Encoder().state_dict().items()}}, file)
    return file


def test_a_network_gives_gaussians_and_maps(untrained):
    posed, _ = textured_plane(48, 64)
    mask = torch.ones(48, 64, dtype=torch.bool)
    mask[:, :20] = False
    views: tuple[View, ...] = (replace(posed.views[0], mask=mask), *posed.views[1:])
    config = replace(SWEEP, method="mvsplat", weights=str(untrained), network_size=32)
    found = initialize(PosedViews(views, Points.none()), config, QUIET)
    assert found.method == "mvsplat" and "asked for" in found.why and "start.ckpt" in found.why
    assert (found.start.origin == Origin.PREDICTED).all()
    sizes = {tuple(one.depth.shape) for one in found.maps}
    assert len(found.maps) == 3 and sizes == {(32, 32)}  # 48 x 64 to a shorter side of 32, in steps of 32
    assert len(found.gaussians) == sum(int((one.depth > 0).sum()) for one in found.maps)
    per_view = found.gaussians.means.split([int((one.depth > 0).sum()) for one in found.maps])
    for one, means in zip(found.maps, per_view, strict=True):
        _, z = project(means, one.view.cameras.w2c[0], one.view.K)
        torch.testing.assert_close(z, one.depth[one.depth > 0], rtol=1e-4, atol=1e-4)
        assert one.confidence.max() <= 1 and not one.filled.any() and one.far == 8.0
    assert not found.maps[0].depth[:, :5].any()  # the crop's left columns are masked out
