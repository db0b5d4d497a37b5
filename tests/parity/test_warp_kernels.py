"""The C++ forward warp against kernels/warp.py in float64."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

if os.environ.get("SPARSE3D_PURE"):
    pytest.skip("SPARSE3D_PURE is set: this install has no compiled kernels", allow_module_level=True)

from sparse3d.geometry import rotation_from_quat
from sparse3d.kernels import _cpu, cpu, cpu_warp, warp

STEP = 1 / 1024  # pixels: positions are rounded to it
# float32 pixel coordinates (4e-5 of a pixel at column 500) may round a vertex to the next step. That turns colours by the
# step times their slope, and the stretch of a fringe triangle by a few steps of its half pixel. Over 20 seeds of each kind
# of `random_rig` below, settled pixels differ by up to 8.5e-4 in colour, 1.5e-3 in depth and 1.9e-3 in validity; the
# largest median is 1.5e-8, 3e-7 and 3e-8. At least 97.4 % are settled, but 76 % where depth is noise of 30 %.
TOLERANCE = 5e-3
MEDIAN_TOLERANCE = 1.5e-6


@dataclass(frozen=True)
class Rig:
    """Arguments of forward_warp."""

    images: list[Tensor]
    depths: list[Tensor]
    Ks: Tensor
    source_to_target: Tensor
    K: Tensor
    height: int
    width: int
    settings: dict[str, float]

    def draw(self, kernel, dtype: torch.dtype = torch.float32) -> warp.Warp:
        return kernel.forward_warp(
            [image.to(dtype) for image in self.images],
            [depth.to(dtype) for depth in self.depths],
            self.Ks.to(dtype),
            self.source_to_target.to(dtype),
            self.K.to(dtype),
            self.height,
            self.width,
            **self.settings,
        )


def random_rig(
    seed: int,
    height: int = 45,
    width: int = 70,
    photos: int = 3,
    rough: float = 0.003,
    zoom: float = 1.0,
    shift: float = 0.3,
) -> Rig:
    """Photos of their own sizes with hills, steps, noise of `rough` (relative) and holes in their depth, 2 to 8 away."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(rows: int, columns: int, cells: int, channels: int = 1) -> Tensor:
        coarse = torch.rand(1, channels, cells, cells + 1, generator=generator)
        return F.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=False)[0]

    images, depths, Ks, transforms = [], [], [], torch.eye(4).repeat(photos, 1, 1)
    for s in range(photos):
        rows, columns = max(height + 5 * s, 1), max(width + 3 * s, 1)
        image = 0.2 + 0.6 * smooth(rows, columns, 9, 3) + 0.1 * torch.rand(3, rows, columns, generator=generator)
        depth = 1 / (0.15 + 0.15 * smooth(rows, columns, 4)[0])
        depth = torch.where(smooth(rows, columns, 5)[0] > 0.65, 0.5 * depth, depth)
        depth = depth * (1 + rough * torch.randn(rows, columns, generator=generator))
        unknown = torch.rand(rows, columns, generator=generator)
        depth = torch.where(unknown < 0.01, 0.0, torch.where(unknown < 0.02, torch.nan, depth))
        images.append(image.clamp(0, 1))
        depths.append(depth)
        Ks.append(torch.tensor([[0.9 * columns, 0, columns / 2], [0, 0.95 * columns, rows / 2], [0, 0, 1]]))
        turn = torch.cat([torch.ones(1), 0.04 * torch.randn(3, generator=generator)])
        transforms[s, :3, :3] = rotation_from_quat(turn)
        transforms[s, :3, 3] = shift * torch.randn(3, generator=generator)
    K = torch.tensor([[0.95 * zoom * width, 0, width / 2 + 1], [0, 0.9 * zoom * width, height / 2], [0, 0, 1]])
    return Rig(images, depths, torch.stack(Ks), transforms, K, height, width, {})


def settled(rig: Rig, want: warp.Warp) -> Tensor:
    """Where moving the target by less than the roundings do changes little: no edge, tear or hiding decides. (H, W) bool"""
    result = torch.ones(rig.height, rig.width, dtype=torch.bool)
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        K = rig.K.double()
        K[0, 2] += 1.5 * x * STEP
        K[1, 2] += 1.5 * y * STEP
        moved = replace(rig, K=K).draw(warp, torch.float64)
        for values, other in zip(moved, want, strict=True):
            change = (values - other).abs()
            result &= (change if change.ndim == 2 else change.amax(dim=0)) < TOLERANCE
    return result


def assert_agree(rig: Rig, least_settled: float = 0.97) -> warp.Warp:
    got, want = rig.draw(cpu_warp), rig.draw(warp, torch.float64)
    clear = settled(rig, want)
    assert clear.double().mean() >= least_settled
    for name, values, expected in zip(warp.Warp._fields, got, want, strict=True):
        assert values.shape == expected.shape and values.isfinite().all(), name
        difference = (values - expected).abs()
        assert difference[..., clear].max() < TOLERANCE, name
        assert difference[..., clear].median() < MEDIAN_TOLERANCE, name
    assert (got.color[:, got.validity == 0] == 0).all() and (got.depth[got.validity == 0] == 0).all()
    assert got.validity.min() >= 0 and got.validity.max() <= 1
    return got


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=_cpu.instruction_sets())
def isa(request, monkeypatch):
    monkeypatch.setenv("SPARSE3D_ISA", request.param)
    assert cpu.instruction_set() == request.param
    return request.param


@pytest.mark.parametrize("photos", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_matches_reference(seed, photos, isa):
    got = assert_agree(random_rig(10 * photos + seed, photos=photos))
    assert 0.5 < (got.validity > 0).double().mean()


@pytest.mark.parametrize("rough", [0.0, 0.02, 0.3])
def test_smooth_and_rough_depth(rough, isa):
    """From hardly a fringe to hardly anything else."""
    assert_agree(random_rig(3, photos=2, rough=rough), 0.7 if rough > 0.1 else 0.97)


@pytest.mark.parametrize("zoom", [0.3, 3.0, 12.0])
def test_other_scales(zoom, isa):
    """Several quads in a pixel, and quads that are drawn one by one."""
    assert_agree(random_rig(4, photos=2, zoom=zoom), 0.95)


def test_close_to_the_camera(isa):
    """The target stands among the surfaces: quads over the whole picture, and vertices behind it."""
    rig = random_rig(5, photos=2, rough=0.0, shift=0.1)
    ahead = rig.source_to_target.clone()
    ahead[:, 2, 3] -= 2.3
    got = assert_agree(replace(rig, source_to_target=ahead), 0.9)
    assert (got.validity > 0).double().mean() > 0.2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 64), (33, 65), (66, 129)])
def test_any_size(size, isa):
    """Smaller than a vector, and larger than a tile or a block of quads."""
    assert_agree(random_rig(6, *size, photos=1, shift=0.02), 0.85)


@pytest.mark.parametrize(
    "settings", [{"steepest_deg": 45.0}, {"steepest_deg": 89.0}, {"tolerance": 0.2}, {"near_plane": 3.0}]
)
def test_settings(settings, isa):
    rig = random_rig(7, photos=2, rough=0.02)
    got = assert_agree(replace(rig, settings=settings), 0.95)
    assert not torch.equal(got.validity, rig.draw(cpu_warp).validity)


def test_a_pixel_is_drawn_once_on_shared_edges(isa):
    """Vertices on pixel centres and edges along rows, columns and diagonals: neither a gap nor a second layer there."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 40, 70, generator=generator)
    K = torch.tensor([[64.0, 0, 35], [0, 64.0, 20], [0, 0, 1]])
    for move in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.25), (3.0, -2.0)):
        moved = K.clone()
        moved[:2, 2] += torch.tensor(move)
        rig = Rig([image], [torch.full((40, 70), 4.0)], K[None], torch.eye(4)[None], moved, 40, 70, {})
        got, want = rig.draw(cpu_warp), rig.draw(warp, torch.float64)
        for values, expected in zip(got, want, strict=True):
            torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-6)
        assert (got.validity[3:-3, 4:-4] == 1).all()


def test_thread_count_changes_no_bit(threads, isa):
    rig = random_rig(8, height=150, width=210, rough=0.02)
    results = []
    for count in (1, 2, 3, 1):
        threads(count)
        results.append(rig.draw(cpu_warp))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_strided_inputs():
    """Views give what their copies give, and inputs stay as they were."""
    rig = random_rig(9)
    strided = replace(
        rig,
        images=[image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in rig.images],
        depths=[depth.T.contiguous().T for depth in rig.depths],
        source_to_target=rig.source_to_target.transpose(1, 2).contiguous().transpose(1, 2),
    )
    copies = [image.clone() for image in strided.images] + [depth.clone() for depth in strided.depths]
    for a, b in zip(strided.draw(cpu_warp), rig.draw(cpu_warp), strict=True):
        assert torch.equal(a, b)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(copies, strided.images + strided.depths, strict=True)
    )


def test_other_types_and_devices_are_refused():
    rig = random_rig(0)
    with pytest.raises(ValueError, match="K is torch.float64 on cpu; this kernel takes torch.float32"):
        rig.draw(cpu_warp, torch.float64)


def test_bindings_convert_nothing():
    """What would be a silent copy, and lose the result, names the argument."""
    image, depth, transfers, Ks = (
        torch.rand(3, 6, 8),
        torch.ones(6, 8),
        torch.eye(3, 4).double()[None],
        torch.eye(3)[None],
    )

    def call(images=(image,), depths=(depth,), transfers=transfers, Ks=Ks, color=None) -> None:
        out = torch.empty(3, 6, 8) if color is None else color
        outputs = (out, torch.empty(6, 8), torch.empty(6, 8))
        _cpu.forward_warp(list(images), list(depths), transfers, Ks, 0.01, 10.0, 0.02, *outputs, 1)

    call()
    for wrong in (
        {"images": [image.double()]},
        {"images": [image.permute(0, 2, 1)]},
        {"depths": [depth.double()]},
        {"transfers": transfers.float()},
        {"color": torch.empty(6, 8, 3).permute(2, 0, 1)},
    ):
        with pytest.raises(ValueError, match="images|depths|transfers|Ks|color"):
            call(**wrong)
    with pytest.raises(ValueError, match="depths.0. is"):
        call(depths=[torch.ones(6, 9)])
    with pytest.raises(ValueError, match="color is"):
        call(color=torch.empty(3, 6, 9))
