from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.kernels.ssim import ssim_map, window_mean
from sparse3d.metrics.image import psnr, ssim
from sparse3d.metrics.lpips import Lpips
from sparse3d.metrics.pose import align_cameras, pose_errors


def pictures(height: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, height, width, generator=generator, dtype=dtype)
    return image, (image + 0.2 * torch.randn(3, height, width, generator=generator, dtype=dtype)).clamp(0, 1)


def test_psnr_of_a_known_error():
    image = torch.full((3, 8, 8), 0.5)
    assert psnr(image, image + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr(image, image) == math.inf
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:2] = True
    spoiled = image.clone()
    spoiled[:, 2:] = 0
    assert psnr(spoiled, image + 0.1, mask) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("size", [(40, 50), (64, 129), (11, 200)])
def test_window_is_the_gaussian_convolution(size):
    image, _ = pictures(*size)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    kernel = (window[:, None] * window)[None, None]
    expected = torch.nn.functional.conv2d(image[:, None], kernel, padding=5)[:, 0]
    torch.testing.assert_close(window_mean(image), expected)


def test_ssim_agrees_with_scikit_image():
    image, noisy = pictures(60, 70)
    _, expected = structural_similarity(
        image.permute(1, 2, 0).numpy(), noisy.permute(1, 2, 0).numpy(), channel_axis=2, data_range=1.0, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, full=True,
    )  # fmt: skip
    got = ssim_map(image, noisy).permute(1, 2, 0).numpy()
    # scikit-image reflects at the border where the 3DGS papers pad with zeros: the inner part must be equal
    np.testing.assert_allclose(got[6:-6, 6:-6], expected[6:-6, 6:-6], atol=1e-9)
    assert ssim(image, image) == pytest.approx(1.0)


def test_ssim_gradient_is_the_derivative():
    image, noisy = pictures(14, 17)
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, noisy), image.requires_grad_())


def random_cameras(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    c2w = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    c2w[:, :3, :3] = rotation_from_quat(torch.randn(count, 4, generator=generator, dtype=torch.float64))
    c2w[:, :3, 3] = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return c2w


def moved(c2w: torch.Tensor, scale: float) -> torch.Tensor:
    rotation = rotation_from_quat(torch.tensor([0.3, -0.5, 0.7, 0.2], dtype=torch.float64))
    result = c2w.clone()
    result[:, :3, :3] = rotation @ c2w[:, :3, :3]
    result[:, :3, 3] = scale * c2w[:, :3, 3] @ rotation.T + torch.tensor([1.0, -2, 3], dtype=torch.float64)
    return result


@pytest.mark.parametrize("count", [2, 3, 10])
def test_similarity_is_found_and_leaves_no_error(count):
    """Two cameras leave a turn around their line open, which the orientations settle."""
    truth = random_cameras(count)
    errors = pose_errors(moved(truth, 0.37), truth)
    assert errors.rotation_deg.max() < 1e-5 and errors.position.max() < 1e-9
    assert align_cameras(moved(truth, 0.37), truth).scale == pytest.approx(1 / 0.37)


def test_a_turned_camera_shows_its_angle():
    truth = random_cameras(40)
    estimate = moved(truth, 2.0)
    angle = math.radians(5)
    turn = rotation_from_quat(torch.tensor([math.cos(angle / 2), math.sin(angle / 2), 0, 0], dtype=torch.float64))
    estimate[7, :3, :3] = estimate[7, :3, :3] @ turn
    errors = pose_errors(estimate, truth)
    assert errors.rotation_deg[7] == pytest.approx(5, abs=0.1) and errors.rotation_deg.median() < 0.1


def test_alignment_needs_two_places():
    with pytest.raises(ValueError, match="at least 2 cameras"):
        align_cameras(random_cameras(1), random_cameras(1))
    same = torch.eye(4).repeat(3, 1, 1)
    with pytest.raises(ValueError, match="all are in one"):
        align_cameras(same, same)


def vgg_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = {
        0: (3, 64),
        2: (64, 64),
        5: (64, 128),
        7: (128, 128),
        10: (128, 256),
        12: (256, 256),
        14: (256, 256),
        17: (256, 512),
    }
    widths |= {i: (512, 512) for i in (19, 21, 24, 26, 28)}
    weights = {}
    for index, (inputs, outputs) in widths.items():
        weights[f"features.{index}.weight"] = (
            torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        )
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return weights


def test_lpips_follows_its_definition(tmp_path, monkeypatch):
    """Against the same layers as torch modules in torchvision's order, and the published formula spelled out."""
    weights = vgg_weights()
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    torch.save(weights, tmp_path / "vgg16-397923af.pth")
    torch.save(heads, tmp_path / "vgg.pth")
    monkeypatch.setenv("SPARSE3D_LPIPS", str(tmp_path))
    network = Lpips.find()
    assert network is not None

    layers: list[torch.nn.Module] = []
    for block in ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)):
        for inputs, outputs in itertools.pairwise(block):
            layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU()]
        layers.append(torch.nn.MaxPool2d(2))
    features = torch.nn.Sequential(*layers)
    features.load_state_dict({name.removeprefix("features."): value for name, value in weights.items()})
    image, target = pictures(32, 48, torch.float32)
    mean = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    std = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    x = torch.stack([(2 * image - 1 - mean) / std, (2 * target - 1 - mean) / std])
    expected = 0.0
    with torch.no_grad():
        for index, layer in enumerate(features):
            x = layer(x)
            if index in (3, 8, 15, 22, 29):  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
                unit = x / x.norm(dim=1, keepdim=True)
                head = heads[f"lin{(3, 8, 15, 22, 29).index(index)}.model.1.weight"]
                expected += float(((unit[0] - unit[1]) ** 2 * head[0]).sum(0).mean())
    assert network(image, target) == pytest.approx(expected, rel=1e-4)
    assert network(image, image) == 0


def test_lpips_is_absent_without_weights_and_says_what_a_wrong_file_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE3D_LPIPS", str(tmp_path))
    monkeypatch.setenv("SPARSE3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert Lpips.find() is None
    with pytest.raises(UserError, match="features.0.weight"):
        Lpips({}, {})
