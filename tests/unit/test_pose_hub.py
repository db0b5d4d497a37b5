"""Matchers through transformers: tiny networks with random weights load as published ones would, and known matches come back.

Not shown here is that the published weights load and match well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.pose.hub import HubMatcher, merged
from sparse3d.pose.loftr import match_cells, match_pictures, refine
from sparse3d.pose.matching import matcher
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

NAMES = ("efficientloftr", "superpoint-lightglue")
SIZES = {"landscape": (600, 1000), "portrait": (1000, 620), "small": (97, 131), "square": (1000, 1000)}


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers: pip install 'sparse3d[matchers]'")


def tiny(transformers: Any, name: str) -> Any:
    """A network of the real class with a few thousand weights.

    Random networks see about the same everywhere. A few weights are changed so that features differ from place to place and a
    picture matches itself.
    """
    torch.manual_seed(0)
    if name == "efficientloftr":
        settings = transformers.EfficientLoFTRConfig(
            stage_num_blocks=[1, 1, 1, 1],
            out_features=[16, 16, 32, 64],
            hidden_size=64,
            num_attention_heads=8,
            num_attention_layers=1,
            coarse_matching_threshold=0.0,
            initializer_range=0.3,
        )
        loftr = transformers.EfficientLoFTRForKeypointMatching(settings)
        with torch.no_grad():
            for layer in loftr.efficientloftr.local_feature_transformer.layers:
                layer.self_attention.mlp.layer_norm.weight.fill_(30.0)
                layer.cross_attention.mlp.layer_norm.weight.zero_()
        return loftr
    detector = transformers.SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=16, initializer_range=0.3
    )
    settings = transformers.LightGlueConfig(
        keypoint_detector_config=detector,
        descriptor_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        filter_threshold=0.0,
    )
    lightglue = transformers.LightGlueForKeypointMatching(settings).eval()
    descriptor = lightglue.keypoint_detector.descriptor_decoder.conv_descriptor_b
    seen = []
    hook = descriptor.register_forward_hook(lambda *said: seen.append(said[2]))
    with torch.no_grad():
        lightglue(pixel_values=torch.rand(1, 2, 3, 96, 128))
        hook.remove()
        descriptor.bias -= seen[0].mean((0, 2, 3))
        for layer in lightglue.match_assignment_layers:
            layer.final_projection.weight.copy_(6 * torch.eye(16))
        for name_, weights in lightglue.transformer_layers.named_parameters():
            if "fc2" in name_:
                weights.zero_()
    return lightglue


@pytest.fixture
def stored(transformers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Puts a tiny network where `sparse3d models fetch` would put the published one."""
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))

    def put(name: str) -> Path:
        with store.staging("tiny") as staged:
            tiny(transformers, name).save_pretrained(staged)
            return store.install(name, staged, {"origin": "this test"})

    return put


def photo(image: Tensor, mask: Tensor | None = None) -> Photo:
    return Photo("p", image, torch.eye(3), "default", str(image.sum().item()), mask)


def pictures_of_something(*names: str) -> list[Photo]:
    return [photo(torch.rand(3, *SIZES[name], generator=torch.Generator().manual_seed(7))) for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_network_gives_matches(name, stored):
    """Folder as of `save_pretrained`, found by the matcher's table; every match is between places in the photos."""
    stored(name)
    photos = pictures_of_something("small", "small")
    network = matcher({"superpoint-lightglue": "superpoint"}.get(name, name), PoseConfig())
    found = network.match(photos, [(0, 1)], StageReporter("pose"))
    first, second = found.points((0, 1))
    assert len(first) > 50
    # both photos are the same picture; EfficientLoFTR's fraction of a pixel is up to 1 along x and y, and random here
    assert np.linalg.norm(first - second, axis=1).max() < 2.0
    assert (found.scores[0, 1] >= 0).all() and (found.scores[0, 1] <= 1).all()
    for positions in found.keypoints:
        assert (positions >= 0).all() and (positions <= [131, 97]).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_pictures_gives_no_matches(name, stored):
    """Blank photos have no keypoints that are surer than others; nothing stops."""
    stored(name)
    blank = photo(torch.zeros(3, 64, 96))
    found = HubMatcher(name).match([blank, blank, blank], [(0, 1)], StageReporter("pose"))
    assert len(found.keypoints) == 3 and len(found.keypoints[2]) == 0
    assert all(np.isfinite(positions).all() for positions in found.keypoints)


def test_the_detector_keeps_to_the_number_of_features(stored):
    stored("superpoint-lightglue")
    few = HubMatcher("superpoint-lightglue", 5).match(
        pictures_of_something("small", "small"), [(0, 1)], StageReporter("pose")
    )
    assert 0 < len(few.keypoints[0]) <= 5


# --- known matches ---


def ramp(height: int, width: int, along: str) -> Tensor:
    """A grey photo that says in each pixel where that pixel is: x / width or y / height of its centre."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return (x if along == "x" else y).expand(3, -1, -1).contiguous()


def known(pixels: Tensor, pictures: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Some pixels of each picture (x, y whole numbers, away from its edge), and the grey values there."""
    generator = torch.Generator().manual_seed(3)
    grid = torch.cartesian_prod(torch.arange(8), torch.arange(5))  # far enough apart not to be taken for one
    share = (grid + 0.2 + 0.6 * torch.rand(2, 40, 2, generator=generator)) / torch.tensor([8, 5])
    size = torch.tensor([[[w, h]] for h, w in pictures])
    indices = (share * size).long()
    values = torch.stack([pixels[i, 0, indices[i, :, 1], indices[i, :, 0]] for i in (0, 1)])
    return indices, values, torch.linspace(0.2, 0.9, 40)


def superpoint_output(transformers: Any, indices: Tensor, scores: Tensor, width: int, height: int) -> Any:
    """What LightGlue would say: keypoint k of the first picture and k' of the second belong together, and two strangers."""
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    strangers = torch.tensor([[0, 0], [0, 0]])
    keypoints = torch.stack([torch.cat([indices[0], strangers]), torch.cat([indices[1][order], strangers])])
    none = torch.tensor([-1, -1])
    back = torch.argsort(order)
    return SimpleNamespace(
        keypoints=keypoints[None] / torch.tensor([width, height]),
        matches=torch.stack([torch.cat([back, none]), torch.cat([order, none])])[None],
        matching_scores=torch.stack([torch.cat([scores, none * 0]), torch.cat([scores[order], none * 0])])[None],
        mask=torch.tensor([1] * (len(scores) + 1) + [0]).expand(1, 2, -1),
    )


CASES = [
    ("landscape", "portrait", {}),
    ("portrait", "landscape", {1: 1}),
    ("landscape", "landscape", {0: 3}),
    ("small", "portrait", {0: 2, 1: 1}),
    ("square", "small", {}),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second", "turns"), CASES)
def test_known_matches_come_back_in_pixels_of_the_photos(name, first, second, turns, stored, transformers, monkeypatch):
    """The pixels that the network is given tell where in the photo they come from, whatever was done to them."""
    stored(name)
    network = HubMatcher(name)
    # half of a ramp is a ramp; other ratios would move it a few hundredths of a pixel
    kind = replace(network._kind, max_size=500)
    monkeypatch.setattr(network, "_kind", kind)
    shapes = [SIZES[first], SIZES[second]]
    got, said = {}, {}
    for along in "xy":
        seen: dict[str, Tensor] = {}

        def answer(given: Tensor, seen: dict[str, Tensor] = seen) -> tuple[Tensor, Tensor]:
            inner = []
            for i, (h, w) in enumerate(shapes):
                shrink = min(1.0, kind.max_size / max(h, w))
                h, w = round(h * shrink), round(w * shrink)
                inner.append((h, w) if turns.get(i, 0) % 2 == 0 else (w, h))
            indices, values, scores = known(given, inner)
            seen["values"] = values / 0.9999  # what the weights of grey add up to
            return indices, scores

        if name == "efficientloftr":

            def matches(_: Any, pixels: Tensor, answer: Any = answer) -> tuple[Tensor, Tensor, Tensor]:
                indices, scores = answer(pixels)
                return indices[0] + 0.5, indices[1] + 0.5, scores

            monkeypatch.setattr(network, "_kind", replace(kind, match=matches))
        else:

            def forward(_: Any, pixel_values: Tensor, answer: Any = answer) -> Any:
                indices, scores = answer(pixel_values[0])
                return superpoint_output(transformers, indices, scores, pixel_values.shape[4], pixel_values.shape[3])

            monkeypatch.setattr(transformers.LightGlueForKeypointMatching, "forward", forward)
        photos = [photo(ramp(*shape, along)) for shape in shapes]
        found = network.match(photos, [(0, 1)], StageReporter("pose"), turns)
        assert len(found.matches[0, 1]) > 20
        got[along] = found
        for i in (0, 1):
            size = shapes[i][1] if along == "x" else shapes[i][0]
            said[along, i] = seen["values"][i].double().numpy() * size
        sure = found.scores[0, 1]
    for i in (0, 1):
        want = np.stack([said["x", i], said["y", i]], axis=1)
        at = np.argsort(np.linspace(0.2, 0.9, 40).astype(np.float32))  # scores rise, so they name the match
        which = at[np.searchsorted(np.linspace(0.2, 0.9, 40), sure - 1e-4)]
        # float32 carries 6e-5 of 1000 pixels, and grey is a sum of three
        np.testing.assert_allclose(got["x"].points((0, 1))[i], want[which], rtol=0, atol=1e-3)


def test_masked_places_give_no_matches(stored, monkeypatch):
    stored("efficientloftr")
    network = HubMatcher("efficientloftr")
    at = torch.cartesian_prod(torch.arange(4, 92, 8), torch.arange(4, 60, 8)) + 0.5
    matches = (at, at, torch.full((len(at),), 0.5))
    monkeypatch.setattr(network, "_kind", replace(network._kind, match=lambda *_: matches))
    left = torch.zeros(64, 96, dtype=torch.bool)
    left[:, :48] = True
    top = torch.zeros(64, 96, dtype=torch.bool)
    top[:32] = True
    image = torch.rand(3, 64, 96)
    first, second = network.match([photo(image, left), photo(image, top)], [(0, 1)], StageReporter("pose")).points(
        (0, 1)
    )
    assert len(first) == ((at[:, 0] < 48) & (at[:, 1] < 32)).sum() > 0
    assert (first[:, 0] < 48).all() and (second[:, 1] < 32).all()


# --- one keypoint for several pairs ---


def test_a_point_seen_in_three_photos_is_one_keypoint_in_each():
    """Positions that differ by less than a cell between pairs join, at their mean weighted by score."""
    rng = np.random.default_rng(0)
    points = [np.stack([np.arange(50) % 10, np.arange(50) // 10], 1) * 8.0 + 1.0 for _ in range(3)]
    found = {
        (a, b): (
            points[a] + rng.uniform(-0.9, 0.9, (50, 2)),
            points[b] + rng.uniform(-0.9, 0.9, (50, 2)),
            np.full(50, s),
        )
        for (a, b), s in {(0, 1): 0.5, (0, 2): 0.25, (1, 2): 1.0}.items()
    }
    got = merged(found, [np.full(2, 2.0)] * 3)
    assert [len(positions) for positions in got.keypoints] == [50, 50, 50]
    to = [dict(got.matches[pair].tolist()) for pair in ((0, 1), (1, 2), (0, 2))]
    assert all(to[1][to[0][k]] == to[2][k] for k in range(50))
    mean = (0.5 * found[0, 1][0] + 0.25 * found[0, 2][0]) / 0.75
    np.testing.assert_allclose(np.sort(got.keypoints[0], axis=0), np.sort(mean, axis=0))


def test_a_keypoint_keeps_its_best_match_alone():
    at = np.array([[1.0, 1.0], [1.2, 1.0], [9.0, 1.0]])
    other = np.array([[5.0, 5.0], [15.0, 5.0], [5.1, 5.0]])
    got = merged({(0, 1): (at, other, np.array([0.3, 0.9, 0.5]))}, [np.full(2, 2.0)] * 2)
    assert len(got.keypoints[0]) == len(got.keypoints[1]) == 2
    assert sorted(got.scores[0, 1]) == [0.5, 0.9]
    first, second = got.points((0, 1))
    assert first[got.scores[0, 1] == 0.9][0, 0] == pytest.approx((0.3 * 1.0 + 0.9 * 1.2) / 1.2)
    assert second[got.scores[0, 1] == 0.9][0, 0] == 15.0


# --- the two stages of EfficientLoFTR ---


def coded(cells: Tensor, channels: int) -> Tensor:
    """Features that are alike only for equal numbers."""
    return torch.nn.functional.one_hot(cells, channels).float() * 30


def test_cells_find_each_other_but_not_at_the_border():
    height, width = 5, 7
    cells = torch.arange(height * width)
    moved = (cells + 1) % len(cells)  # what cell k shows is in cell k + 1 of the second picture
    second = torch.empty_like(cells)
    second[moved] = cells
    features = torch.stack([coded(cells, 40), coded(second, 40)]).transpose(1, 2).unflatten(2, (height, width))
    first, other, scores = match_cells(features, temperature=0.1, threshold=0.2, border=1)
    inner = [k for k in range(35) if all(0 < k_ // 7 < 4 and 0 < k_ % 7 < 6 for k_ in (k, k + 1))]
    assert first.tolist() == inner and other.tolist() == [k + 1 for k in inner]
    assert (scores > 0.99).all() and len(match_cells(features, 0.1, 1.0, 1)[0]) == 0


def test_points_in_cells_are_found_to_a_fraction_of_a_pixel():
    """One pixel of each cell has the same feature; the 3x3 similarities for the fraction favour one corner."""
    pixel0, pixel1 = [(6, 1), (0, 0), (3, 4)], [(2, 5), (7, 7), (4, 1)]  # x, y in cells of 8 x 8
    windows0, windows1 = torch.zeros(3, 64, 20), torch.zeros(3, 100, 20)
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(pixel0, pixel1, strict=True)):
        windows0[i, y0 * 8 + x0, :12] = coded(torch.tensor(i), 12)
        windows1[i, (y1 + 1) * 10 + x1 + 1, :12] = coded(torch.tensor(i), 12)  # one more pixel around the cell
        windows0[i, y0 * 8 + x0, 12:] = 8**0.5
        windows1[i, (y1 - 1) * 10 + x1 + 1, 12] = 100.0  # right and above of where the 3x3 are read
    offset0, offset1 = refine(windows0, windows1, regressed=8, temperature=1.0)
    middle = torch.tensor([3.5, 3.5])
    torch.testing.assert_close(offset0, torch.tensor(pixel0) - middle)
    torch.testing.assert_close(offset1, torch.tensor(pixel1) - middle + torch.tensor([1.0, -1.0]))


def test_cells_and_pixels_of_a_picture_are_put_together(transformers, monkeypatch):
    """Cell (row, column) belongs to (row, column + 2); in it, pixel (6, 1) to (2, 5). All but the features is the real network."""
    network = tiny(transformers, "efficientloftr").eval()
    rows, columns = 8, 12
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    codes = torch.stack([coded((row * columns + column + shift) % 96, 96) for shift in (0, -2)]).permute(0, 3, 1, 2)
    fine = torch.zeros(2, 16, rows * 8, columns * 8)
    for side, (x, y) in enumerate([(6, 1), (2, 5)]):
        fine[side, :8, y::8, x::8] = 30.0
    monkeypatch.setattr(network.efficientloftr, "forward", lambda _: SimpleNamespace(feature_maps=(codes[None], None)))
    monkeypatch.setattr(network.refinement_layer, "forward_pyramid", lambda *_: fine)
    at0, at1, scores = match_pictures(network, torch.zeros(2, 1, rows * 8, columns * 8))
    cells = torch.tensor(
        [[8.0 * c, 8.0 * r] for r in range(2, 6) for c in range(2, 8)]
    )  # two cells at each side are left out
    torch.testing.assert_close(at0, cells + 0.5 + torch.tensor([6, 1]) - 3.5)
    torch.testing.assert_close(at1, cells + torch.tensor([16, 0]) + 0.5 + torch.tensor([2, 5]) - 3.5)
    assert (scores > 0.99).all()


# --- what can be put right ---


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'sparse3d\[matchers\]'"):
        HubMatcher("efficientloftr")


@pytest.mark.parametrize("name", NAMES)
def test_without_torchvision_all_works(name, stored, monkeypatch):
    """On a machine with the CPU's torch there often is none that fits."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    stored(name)
    assert HubMatcher(name).name == name


def test_an_old_transformers_is_named(stored, transformers, monkeypatch):
    stored("efficientloftr")
    old = SimpleNamespace(__version__="4.44.0", AutoConfig=transformers.AutoConfig)
    monkeypatch.setitem(sys.modules, "transformers", old)
    with pytest.raises(UserError, match=r"4\.54 or newer, and 4\.44\.0 is installed"):
        HubMatcher("efficientloftr")


def test_missing_weights_say_how_to_get_them(transformers, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="sparse3d models fetch efficientloftr"):
        HubMatcher("efficientloftr")


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_lack_a_part_are_refused(name, stored):
    """transformers would fill it in with random numbers and a line in the log."""
    from safetensors.torch import load_file, save_file

    file = stored(name) / "model.safetensors"
    state = load_file(file)
    lost = min(state)
    del state[lost]
    save_file(state, file, metadata={"format": "pt"})
    with store.staging("again") as staged:
        for one in (file, file.with_name("config.json")):
            (staged / one.name).write_bytes(one.read_bytes())
        store.install(name, staged, {"origin": "this test"})
    with pytest.raises(UserError, match=f"missing keys: {lost}.*sparse3d models fetch {name} --force"):
        HubMatcher(name)


def test_a_cut_off_file_is_refused(stored):
    name = "efficientloftr"
    folder = stored(name)
    with store.staging("again") as staged:
        (staged / "config.json").write_bytes((folder / "config.json").read_bytes())
        (staged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
        store.install(name, staged, {"origin": "this test"})
    with pytest.raises(UserError, match="cannot be used"):
        HubMatcher(name)
