"""The PyTorch sweep by correlation of features: MVSplat's equations by hand, and gradients."""

from __future__ import annotations

import torch

from sparse3d.kernels.correlation import feature_sweep

DOUBLE = torch.float64


def random_arguments(channels=3, height=4, width=5, sources=2, planes=3):
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(channels, height, width, generator=generator, dtype=DOUBLE)
    maps = torch.randn(sources, channels, height, width, generator=generator, dtype=DOUBLE)
    K = torch.tensor([[5.0, 0, width / 2], [0, 5, height / 2], [0, 0, 1]], dtype=DOUBLE)
    transforms = torch.eye(4, dtype=DOUBLE).repeat(sources, 1, 1)
    transforms[:, :2, 3] = torch.tensor([[0.3, 0.1], [-0.4, 0.07]])[:sources]
    return reference, K, maps, K.repeat(sources, 1, 1), transforms, torch.linspace(1, 3, planes, dtype=DOUBLE)


def test_equations_by_hand():
    """MVSplat eq. 2 and 3 at one pixel: cameras side by side shift it by focal * baseline / depth."""
    reference, K, maps, Ks, transforms, depths = random_arguments()
    got = feature_sweep(reference, K, maps, Ks, transforms, depths)
    y, x, d = 2, 2, 1
    want = 0.0
    for s in range(2):
        column, row = x + 5 * transforms[s, 0, 3] / depths[d], y + 5 * transforms[s, 1, 3] / depths[d]
        for v in range(4):
            for u in range(5):
                weight = max(0.0, 1 - abs(column - u)) * max(0.0, 1 - abs(row - v))
                want += weight * (reference[:, y, x] @ maps[s, :, v, u]) / 3**0.5 / 2
    torch.testing.assert_close(got[d, y, x], want)


def test_gradients():
    reference, K, maps, *cameras = random_arguments()
    assert torch.autograd.gradcheck(
        lambda first, second: feature_sweep(first, K, second, *cameras),
        (reference.requires_grad_(), maps.requires_grad_()),
    )
