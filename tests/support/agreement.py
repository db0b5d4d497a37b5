"""What it means that a compiled rasterizer agrees with the reference."""

from __future__ import annotations

import torch
from support.gaussian_scenes import Scene, outputs_and_gradients

from sparse3d.kernels import cpu, reference

# float32 against the float64 reference, relative to the largest entry of each result; about 5x the largest difference
# over 20 seeds of all kinds of random_scene on each instruction set. Rotations are the worst: a needle turns its gradient into
# a difference of large numbers.
TOLERANCE = {"grad quats": 1e-4, "grad means": 2e-5, "grad viewmats": 2e-5}
TOLERANCE_ELSE = 1e-5


def assert_agree(scene: Scene, looser: float = 1.0) -> None:
    """The C++ rasterizer draws and differentiates `scene` as the reference in float64; `looser` multiplies the tolerances."""
    got = outputs_and_gradients(cpu.rasterize, scene)
    want = outputs_and_gradients(reference.rasterize, scene.to(torch.float64))
    for name, wanted in want.items():
        assert got[name].isfinite().all(), name
        # the floor: 1 - coverage of a nearly opaque pixel is known to 6e-8 and not better
        scale = max(wanted.abs().max().item(), 0.01) if wanted.numel() else 0.0
        torch.testing.assert_close(
            got[name],
            wanted,
            rtol=0,
            atol=looser * TOLERANCE.get(name, TOLERANCE_ELSE) * scale,
            msg=lambda m, name=name, scale=scale: f"{name} (largest {scale:.3g}): {m}",
        )
