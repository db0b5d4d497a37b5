"""Networks that predict cameras: conversion of what they document to give, their weights, licences and messages.

The packages are stand-ins (support/fake_networks.py). Not shown here is that the published weights load and predict well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.utils import EntryNotFoundError
from safetensors.torch import save_file
from support.fake_networks import DISTANCE, FAKES, PLANE, Rig, fake_mapanything, fake_vggt, random_cameras

from sparse3d.errors import UserError
from sparse3d.geometry import pixel_rays
from sparse3d.pose.networks import NETWORKS, PoseNetwork, Prediction, pose_network
from sparse3d.pose.networks.placement import Placement, resized, to_photos, to_pictures

PHOTOS = {
    "landscape": [(300, 400), (300, 400)],
    "landscape of two shapes": [(300, 400), (270, 480)],
    "portrait": [(480, 320), (470, 331), (640, 360)],
    "both": [(301, 399), (480, 320), (270, 480)],
    "large": [(756, 1008), (1008, 756)],
    "square and alone": [(200, 200)],
    "to the larger multiple of 14": [(361, 504), (357, 504)],  # 357 lies half-way
}
CASES = [(name, photos) for name in FAKES for photos in PHOTOS]


def network_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, rig: Rig, change: Callable[[Any], Any] = lambda o: o
) -> PoseNetwork:
    """The network called `name` on a stand-in for its package, weights from a folder."""
    model_class = FAKES[name](monkeypatch, rig, change)
    model_class().save_pretrained(tmp_path / "weights")
    return pose_network(name, tmp_path / "weights")


@pytest.mark.parametrize(("name", "photos"), CASES)
def test_cameras_are_those_of_the_photos(name, photos, monkeypatch, tmp_path):
    """Whatever the network resizes, crops and pads: R, t and K come back, K in pixels of the photos as given."""
    rig = random_cameras(PHOTOS[photos], seed=len(photos), centred=name == "vggt")
    got = network_of(monkeypatch, tmp_path, name, rig).predict(rig.photos, "cpu")
    torch.testing.assert_close(got.w2c.double(), rig.w2c, rtol=0, atol=1e-5)
    side = torch.tensor([max(size) for size in PHOTOS[photos]])[:, None, None]
    # float32 carries 1e-7 of a focal length, the field of view that VGGT predicts instead a few times less
    torch.testing.assert_close(got.K.double() / side, rig.K / side, rtol=0, atol=2e-6)
    assert got.network == name and got.verified is NETWORKS[name].verified is False
    assert got.confidence.tolist() == [2.0 + view for view in range(len(rig.photos))]


@pytest.mark.parametrize(("name", "photos"), CASES)
def test_depth_lies_on_the_surface_that_the_photos_show(name, photos, monkeypatch, tmp_path):
    """Depth with depth_K gives back the plane; none where a picture is padding; and the photo sees the same points."""
    rig = random_cameras(PHOTOS[photos], seed=len(photos), centred=name == "vggt")
    got = network_of(monkeypatch, tmp_path, name, rig).predict(rig.photos, "cpu")
    assert got.depth is not None and got.depth_K is not None and got.depth_confidence is not None
    for view, (height, width) in enumerate(PHOTOS[photos]):
        points = pixel_rays(got.depth_K[view], *got.depth.shape[1:]).double() * got.depth[view].double()[..., None]
        valid = got.depth[view] > 0
        torch.testing.assert_close(
            points[valid] @ PLANE, torch.full((int(valid.sum()),), DISTANCE).double(), rtol=0, atol=2e-5
        )
        assert ((got.depth_confidence[view] > 0) == valid).all()
        pixels = points @ rig.K[view].T
        pixels = pixels[..., :2] / pixels[..., 2:]
        inside = ((pixels[valid] > 0) & (pixels[valid] < torch.tensor([width, height]))).all()
        assert inside and valid.float().mean() > 0.5


def test_vggt_keeps_the_whole_of_portrait_photos(monkeypatch, tmp_path):
    """Its default mode would cut off their ends."""
    for sizes, mode in (([(300, 400)], "crop"), ([(300, 400), (400, 300)], "pad")):
        rig = random_cameras(sizes)
        network = network_of(monkeypatch, tmp_path, "vggt", rig)
        network.predict(rig.photos, "cpu")
        assert sys.modules["vggt.models.vggt"].VGGT.modes_seen == [mode]


def test_known_intrinsics_reach_mapanything(monkeypatch, tmp_path):
    """In pixels of its picture, pixel centres at whole numbers, as its own pre-processing would have carried them."""
    rig = random_cameras(PHOTOS["both"], centred=False)
    network_of(monkeypatch, tmp_path, "mapanything", rig).predict(rig.photos, "cpu", rig.K)
    model = sys.modules["mapanything.models"].MapAnything
    for view, picture in zip(model.views_seen[0], model.pictures_seen, strict=True):
        wanted = torch.from_numpy(picture.K).float()
        wanted[:2, 2] -= 0.5
        torch.testing.assert_close(view["intrinsics"], wanted[None], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", FAKES)
def test_stdout_is_left_to_results(name, monkeypatch, tmp_path, capsys):
    rig = random_cameras(PHOTOS["landscape"])
    network_of(monkeypatch, tmp_path, name, rig).predict(rig.photos, "cpu")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", FAKES)
def test_photos_are_checked(name, monkeypatch, tmp_path):
    rig = random_cameras(PHOTOS["landscape"])
    network = network_of(monkeypatch, tmp_path, name, rig)
    with pytest.raises(ValueError, match="no photos"):
        network.predict([], "cpu")
    with pytest.raises(ValueError, match=r"images\[1\] has shape \(4, 8, 8\)"):
        network.predict([rig.photos[0], torch.rand(4, 8, 8)], "cpu")
    with pytest.raises(ValueError, match="K has shape"):
        network.predict(rig.photos, "cpu", torch.eye(3)[None])


def _set(**values: Any) -> Callable[[Any], Any]:
    """Changes an output of any of the three layouts."""

    def change(output: Any) -> Any:
        if isinstance(output, SimpleNamespace):
            return SimpleNamespace(**{**vars(output), **values})
        if isinstance(output, list):
            return [{**view, **values} for view in output]
        return {**output, **values}

    return change


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("da3-base", {"extrinsics": torch.zeros(2, 5).numpy()}, ["extrinsics", "(2, 5)", "(2, 3, 4) or (2, 4, 4)"]),
        ("da3-base", {"extrinsics": None}, ["extrinsics", "weights of another kind"]),  # its monocular models
        ("da3-base", {"conf": torch.zeros(2, 7, 7).numpy()}, ["conf", "(2, 7, 7)", "(2, 378, 504)"]),
        ("vggt", {"depth": torch.zeros(1, 2, 392, 518)}, ["depth", "(1, 2, 392, 518, 1)"]),
        ("vggt", {"depth_conf": None}, ["depth_conf", "(1, 2, 392, 518)"]),
        ("mapanything", {"camera_poses": torch.zeros(1, 3, 4)}, ["camera_poses", "(1, 4, 4)"]),
        ("mapanything", {"intrinsics": None}, ["intrinsics", "(1, 3, 3)"]),
    ],
)
def test_another_layout_is_refused(name, values, words, monkeypatch, tmp_path):
    rig = random_cameras(PHOTOS["landscape"])
    network = network_of(monkeypatch, tmp_path, name, rig, _set(**values))
    with pytest.raises(UserError) as caught:
        network.predict(rig.photos, "cpu")
    for word in [*words, NETWORKS[name].package.install]:
        assert word in str(caught.value)


def test_pictures_of_another_size_are_refused(monkeypatch, tmp_path):
    """A package that resizes by another rule would put every intrinsic wrong."""
    rig = random_cameras(PHOTOS["landscape"])
    fake_vggt(monkeypatch, rig)().save_pretrained(tmp_path)
    monkeypatch.setattr(
        sys.modules["vggt.utils.load_fn"], "load_and_preprocess_images", lambda paths, mode: torch.rand(2, 3, 448, 518)
    )
    with pytest.raises(UserError, match=r"\(2, 3, 448, 518\) for the pictures, needed \(2, 3, 392, 518\)"):
        pose_network("vggt", tmp_path).predict(rig.photos, "cpu")


@pytest.mark.parametrize("fault", ["nan", "mirrored", "sheared", "no focal length"])
def test_a_camera_that_is_none_is_refused(fault, monkeypatch, tmp_path):
    rig = random_cameras(PHOTOS["landscape"])
    if fault == "nan":
        rig.w2c[1, 0, 3] = float("nan")
    elif fault == "mirrored":
        rig.w2c[1, 0, :3] *= -1
    elif fault == "sheared":
        rig.w2c[1, 0, :3] += 0.1 * rig.w2c[1, 1, :3]
    else:
        rig.K[1, 0, 0] = 1e8
    network = network_of(monkeypatch, tmp_path, "da3-base", rig)
    with pytest.raises(UserError, match="no valid camera for photo 2 of 2"):
        network.predict(rig.photos, "cpu")


@pytest.mark.parametrize("name", NETWORKS)
def test_missing_package_says_how_to_install(name, monkeypatch):
    entry = NETWORKS[name]
    monkeypatch.setitem(sys.modules, entry.package.module, None)
    with pytest.raises(UserError) as caught:
        pose_network(name, accept_license=True)
    for word in (entry.package.install, entry.published.hub_id, entry.published.license):
        assert word in str(caught.value)


def test_missing_dependency_of_a_package_is_named(monkeypatch, tmp_path):
    (tmp_path / "vggt" / "models").mkdir(parents=True)
    (tmp_path / "vggt" / "models" / "vggt.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="VGGT is installed, but its dependency no_such_library is not"):
        pose_network("vggt", accept_license=True)
    for module in [m for m in sys.modules if m.split(".")[0] == "vggt"]:
        monkeypatch.delitem(sys.modules, module)


def test_torchvision_of_another_torch_is_named(monkeypatch, tmp_path):
    (tmp_path / "vggt" / "models").mkdir(parents=True)
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "vggt" / "models" / "vggt.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="torchvision::nms does not exist.*do not fit each other"):
        pose_network("vggt", accept_license=True)
    for module in [m for m in sys.modules if m.split(".")[0] == "vggt"]:
        monkeypatch.delitem(sys.modules, module)


def test_unknown_network_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'vggt'.*da3-base"):
        pose_network("vgt")


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("vggt", None, ["facebook/VGGT-1B", "CC BY-NC 4.0", "--accept-license"]),
        ("vggt-commercial", None, ["facebook/VGGT-1B-Commercial", "military use not", "granted on request"]),
        ("mapanything", None, ["facebook/map-anything", "CC BY-NC 4.0"]),
        ("mapanything-apache", "facebook/map-anything", ["CC BY-NC 4.0"]),
        ("da3-base", "depth-anything/DA3-LARGE-1.1", ["CC BY-NC 4.0"]),
        (
            "da3-base",
            "someone/da3-finetuned",
            ["a licence that is not known here", "huggingface.co/someone/da3-finetuned"],
        ),
    ],
)
def test_restricted_weights_ask_first(name, weights, words):
    with pytest.raises(UserError) as caught:
        pose_network(name, weights)
    for word in [*words, "accept_license=True"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["da3-base", "mapanything-apache"])
def test_free_weights_do_not_ask(name, monkeypatch):
    monkeypatch.setitem(sys.modules, NETWORKS[name].package.module, None)
    with pytest.raises(UserError, match="Install it with"):  # and not: accept the licence
        pose_network(name)


def test_weights_of_a_folder_are_those_in_use(monkeypatch, tmp_path):
    model_class = fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))
    saved = model_class(width=5)
    saved.save_pretrained(tmp_path, config={"width": 5})
    loaded = pose_network("vggt", str(tmp_path))._model  # type: ignore[attr-defined]
    assert torch.equal(loaded.layer.weight, saved.layer.weight) and not loaded.training


@pytest.mark.parametrize("given", ["", "vggt_1B_commercial.pt", "other.safetensors"])
def test_state_dicts_load_too(given, monkeypatch, tmp_path):
    """The commercial VGGT is published as a torch checkpoint; by folder, by file, and as safetensors of another name."""
    saved = fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))()
    torch.save(saved.state_dict(), tmp_path / "vggt_1B_commercial.pt")
    save_file(saved.state_dict(), tmp_path / "other.safetensors")
    loaded = pose_network("vggt-commercial", tmp_path / given)._model  # type: ignore[attr-defined]
    assert torch.equal(loaded.layer.weight, saved.layer.weight)


def test_code_in_a_checkpoint_is_not_run(monkeypatch, tmp_path):
    fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"layer.weight": Trap()}, tmp_path / "vggt_1B_commercial.pt")
    with pytest.raises(UserError, match="is broken, or holds more than tensors"):
        pose_network("vggt-commercial", tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_weights_that_do_not_fill_the_model_are_refused(monkeypatch, tmp_path):
    """from_pretrained would leave the rest random, in silence."""
    model_class = fake_mapanything(monkeypatch, random_cameras(PHOTOS["landscape"]))
    partial = model_class()
    del partial.layer.bias
    partial.layer.bias = None
    partial.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"1 of 2 tensors are not in model.safetensors, layer.bias among them"):
        pose_network("mapanything", tmp_path)


def test_weights_of_another_shape_are_refused(monkeypatch, tmp_path):
    model_class = fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))
    model_class(width=5).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="could not be loaded: Error.* in loading state_dict"):
        pose_network("vggt", tmp_path)


@pytest.mark.parametrize("weights", ["./nowhere", "/nowhere/at/all", Path("nowhere/weights")])
def test_no_such_folder(weights):
    with pytest.raises(UserError, match="Give an existing folder or file, or a hub id"):
        pose_network("vggt", weights)


def test_empty_folder_says_what_belongs_in_it(monkeypatch, tmp_path):
    fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))
    with pytest.raises(UserError, match="could not be loaded: No such file.*https://huggingface.co/facebook/VGGT-1B"):
        pose_network("vggt", tmp_path)


def test_hub_out_of_reach(monkeypatch):
    fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="facebook/VGGT-1B could not be loaded.*or as a folder"):
        pose_network("vggt", accept_license=True)


@pytest.mark.parametrize("published", ["model.safetensors", "vggt_1B_commercial.pt"])
def test_weights_come_from_the_hub(published, monkeypatch, tmp_path):
    """By hub id, as safetensors where there are some, else the checkpoint."""
    saved = fake_vggt(monkeypatch, random_cameras(PHOTOS["landscape"]))()
    saved.save_pretrained(tmp_path)
    torch.save(saved.state_dict(), tmp_path / "vggt_1B_commercial.pt")

    def download(repo_id: str, filename: str, **_: Any) -> str:
        assert repo_id == "facebook/VGGT-1B-Commercial"
        if filename not in (published, "config.json") or not (tmp_path / filename).exists():
            raise EntryNotFoundError(f"no {filename}")
        return str(tmp_path / filename)

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("sparse3d.pose.networks.weights.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    loaded = pose_network("vggt-commercial", accept_license=True)._model  # type: ignore[attr-defined]
    assert torch.equal(loaded.layer.weight, saved.layer.weight)


def test_prediction_checks_its_shapes():
    eye, K = torch.eye(4)[None], torch.eye(3)[None]
    with pytest.raises(ValueError, match="confidence has shape"):
        Prediction(eye, K, torch.ones(2), "vggt", False)
    with pytest.raises(ValueError, match="belong together"):
        Prediction(eye, K, torch.ones(1), "vggt", False, depth=torch.ones(1, 2, 2))


def test_placement_there_and_back():
    """A point of the photo and its pixel of the picture see the same ray; odd pixels of a crop lie right and below."""
    placed = resized((301, 399), (151, 200)).centred_in(100, 257)
    assert (placed.left, placed.top) == (28, -25) and placed.picture == (100, 257)
    K = torch.tensor([[[310.0, 0, 190], [0, 305, 160], [0, 0, 1]]], dtype=torch.float64)
    picture_K = to_pictures(K, [placed])
    torch.testing.assert_close(to_photos(picture_K, [placed]), K, rtol=1e-12, atol=1e-12)
    point = torch.tensor([0.2, -0.1, 1.0], dtype=torch.float64)
    in_photo, in_picture = K[0] @ point, picture_K[0] @ point
    assert in_picture[0].item() == pytest.approx(in_photo[0].item() * 200 / 399 + 28)
    assert in_picture[1].item() == pytest.approx(in_photo[1].item() * 151 / 301 - 25)
    assert isinstance(placed, Placement) and int(placed.inside.sum()) == 100 * 200
