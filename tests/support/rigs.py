"""Arguments of the plane sweeps: cameras side by side and textured images, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse3d.geometry import rotation_from_quat


@dataclass(frozen=True)
class Rig:
    """Arguments of zncc_sweep; the other sweeps take all but the window."""

    reference: Tensor
    K: Tensor
    sources: list[Tensor]
    source_Ks: Tensor
    reference_to_sources: Tensor
    depths: Tensor
    window: int

    def arguments(self, dtype: torch.dtype = torch.float32) -> tuple:
        return (
            self.reference.to(dtype),
            self.K.to(dtype),
            [source.to(dtype) for source in self.sources],
            self.source_Ks.to(dtype),
            self.reference_to_sources.to(dtype),
            self.depths.to(dtype),
            self.window,
        )


def texture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Waves of a few pixels up to the size of the image, and noise."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.full((height, width), 0.5)
    for _ in range(12):
        a, b, phase, weight = (torch.rand(4, generator=generator) - 0.5) * torch.tensor([1.6, 1.6, 12.0, 0.4])
        image += weight * torch.sin(a * u + b * v + phase)
    return (image + 0.02 * torch.randn(height, width, generator=generator)).clamp(0, 1)


def random_rig(
    seed: int,
    height: int = 29,
    width: int = 37,
    sources: int = 2,
    planes: int = 33,
    window: int = 7,
    sizes: bool = True,
) -> Rig:
    """Cameras side by side, each turned a little and, with `sizes`, of its own size; planes from depth 2 to 8."""
    generator = torch.Generator().manual_seed(seed)
    transforms, images, Ks = torch.eye(4).repeat(sources, 1, 1), [], []
    for s in range(sources):
        grown = (height + 5 * s, width + 3 * s) if sizes else (height, width)
        images.append(texture(*grown, generator))
        Ks.append(torch.tensor([[0.9 * grown[1], 0, grown[1] / 2], [0, 0.95 * grown[1], grown[0] / 2], [0, 0, 1]]))
        turn = torch.cat([torch.ones(1), 0.05 * torch.randn(3, generator=generator)])
        transforms[s, :3, :3] = rotation_from_quat(turn)
        transforms[s, :3, 3] = torch.randn(3, generator=generator) * torch.tensor([0.5, 0.2, 0.2])
    K = torch.tensor([[0.95 * width, 0, width / 2 + 1], [0, 0.9 * width, height / 2], [0, 0, 1]])
    depths = 1 / torch.linspace(1 / 2, 1 / 8, planes)
    return Rig(texture(height, width, generator), K, images, torch.stack(Ks), transforms, depths, window)


def relief(rig: Rig) -> Tensor:
    """A tilted and wavy surface around depth 1, as wide as the reference of a rig. (H, W)"""
    height, width = rig.reference.shape
    v, u = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return 1 + 0.3 * u - 0.2 * v + 0.05 * torch.sin(5 * u + 3 * v)


def clear_of_borders(rig: Rig, relief: Tensor | None = None) -> Tensor:
    """Where rounding cannot decide whether a source sees the pixel. (D, H, W) bool"""
    height, width = rig.reference.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).double()
    clear = torch.ones(len(rig.depths), height, width, dtype=torch.bool)
    for source, source_K, transform in zip(rig.sources, rig.source_Ks, rig.reference_to_sources, strict=True):
        to_source = source_K.double() @ transform[:3, :3].double() @ torch.linalg.inv(rig.K.double())
        depths = rig.depths.double()[:, None, None] * (1 if relief is None else relief.double())
        seen = depths[..., None] * (pixels @ to_source.T)
        seen = seen + source_K.double() @ transform[:3, 3].double()
        x, y, z = seen.unbind(-1)
        for distance in (x / z, source.shape[1] - x / z, y / z, source.shape[0] - y / z, z):
            clear &= distance.abs() > 1e-3
    return clear
