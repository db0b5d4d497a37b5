"""Raw head outputs to Gaussians against stored results of the published MVSplat encoder, and into the world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.goldens import arrays, largest
from torch import Tensor

from sparse3d.geometry import rotation_from_quat
from sparse3d.init.networks.adapter import Published, published_gaussians, to_gaussians
from sparse3d.init.networks.harmonics import published_basis
from sparse3d.kernels.reference import sh_basis


def pixels(field: Tensor) -> Tensor:
    """(V, C..., H, W) -> (V, H, W, 1, C...)"""
    return field.movedim((-2, -1), (1, 2))[:, :, :, None]


@pytest.fixture(scope="module")
def case(goldens: Path) -> tuple[dict[str, Tensor], Published, Tensor]:
    """The golden at its sampled pixels, and what our adapter makes of the raw outputs there."""
    stored, inputs = arrays(goldens / "mvsplat/golden_gaussians_f64.npz"), arrays(goldens / "mvsplat/inputs.npz")
    raw = torch.zeros(2, 256, 256, 84, dtype=torch.float64)
    at = stored["index256_harmonics"].long()
    raw[:, at[:, None], at[None]] = stored["raw_gaussians"].movedim(1, -1)
    c2w, K = (inputs[name][:2].double() for name in ("extrinsics_c2w", "intrinsics_normalised"))
    made = published_gaussians(raw, stored["depth"][..., None], stored["opacities"][..., None], c2w, K)
    return stored, made, c2w


def test_published_quantities_are_the_goldens(case):
    stored, made, _ = case
    both = [i for i, at in enumerate(stored["index256_gaussians"].tolist()) if at in stored["index256_harmonics"]]
    at = stored["index256_gaussians"].long()[both]
    names = {"means": "means", "covariances": "covariances", "scales": "scales", "rotations": "rotations_xyzw"}
    assert len(both) > 8
    for ours, theirs in names.items():
        want = pixels(stored[theirs])[:, both][:, :, both]
        assert largest(getattr(made, ours)[:, at[:, None], at[None]], want) < 1e-12, ours
    at = stored["index256_harmonics"].long()
    assert largest(made.harmonics[:, at[:, None], at[None]], pixels(stored["harmonics"])) < 1e-12


def small(case: tuple[dict[str, Tensor], Published, Tensor]) -> tuple[Published, Tensor]:
    stored, made, c2w = case
    at = stored["index256_harmonics"].long()
    return Published(*(getattr(made, name)[:, at[:, None], at[None]] for name in made.__dataclass_fields__)), c2w


def test_gaussians_in_the_world_are_the_published_ones(case):
    """Same centres, covariances, opacities and, from any direction, colours."""
    made, c2w = small(case)
    found = to_gaussians(made, c2w, torch.eye(4, dtype=torch.float64))
    assert len(found) == 2 * 17 * 17 and all(value.dtype == torch.float32 for value in vars(found).values())
    torch.testing.assert_close(found.means, made.means.reshape(-1, 3).float())
    torch.testing.assert_close(found.opacities, made.opacities.reshape(-1).float(), rtol=0, atol=2e-6)
    axes = rotation_from_quat(found.quats.double()) * found.scales.double()[:, None]
    assert largest(axes @ axes.transpose(-1, -2), made.covariances.reshape(-1, 3, 3)) < 1e-6
    directions = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    want = made.harmonics.reshape(-1, 3, 25)[..., :16].float() @ published_basis(3, directions).T
    torch.testing.assert_close(found.sh.transpose(1, 2) @ sh_basis(3, directions).T, want, rtol=0, atol=1e-5)


def test_frame_and_unit_move_everything_along(case):
    made, c2w = small(case)
    plain = to_gaussians(made, c2w, torch.eye(4, dtype=torch.float64))
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3], frame[:3, 3] = (
        rotation_from_quat(torch.tensor([0.3, -0.5, 0.7, 0.4]).double()),
        torch.tensor([3.0, -1.0, 2.0]),
    )
    turn = frame[:3, :3].float()
    moved = to_gaussians(made, c2w, frame, unit=2.5)
    torch.testing.assert_close(moved.means, plain.means @ turn.T * 2.5 + frame[:3, 3].float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(moved.scales, plain.scales * 2.5)
    want = turn @ rotation_from_quat(plain.quats)
    torch.testing.assert_close(rotation_from_quat(moved.quats), want, rtol=0, atol=1e-5)
    directions = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    colors = moved.sh.transpose(1, 2) @ sh_basis(3, directions @ turn.T).T
    torch.testing.assert_close(colors, plain.sh.transpose(1, 2) @ sh_basis(3, directions).T, rtol=0, atol=1e-5)


def test_opacities_of_0_and_1_stay_finite(case):
    made, c2w = small(case)
    extreme = replace(made, opacities=(made.opacities > 0.5).double())
    found = to_gaussians(extreme, c2w, torch.eye(4, dtype=torch.float64))
    assert found.logit_opacities.isfinite().all()
    torch.testing.assert_close(found.opacities.double(), extreme.opacities.reshape(-1), rtol=0, atol=2e-6)
