"""Parts of photos as a network is fed them in training: a region of a view, and of the others what shows the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import invert_rigid
from sparse3d.train.loop import Batch
from sparse3d.train.shards import Shards
from sparse3d.train.textures import choice, uniform

_WIDEN = (1.02, 1.6)  # what the true range of depths is widened by, as that of sparse points is
_WIDE = 0.12  # share of the samples whose range is that of scenes without sparse points
_MOST_SOURCES = 4
_FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))


class DepthCrops:
    """Batches of a view's region, its true depth, and sources that see it. All of batch n is drawn from (seed, n)."""

    def __init__(self, folders: Shards, batch: int, size: tuple[int, int], planes: int, seed: int) -> None:
        """
        Args:
            folders: Shards of scenes.
            batch: Samples in a batch.
            size: Height and width of the regions, multiples of 32.
            planes: Depth planes.
            seed: Of everything.
        """
        self._shards, self._batch, self._size, self._planes, self._seed = folders, batch, size, planes, seed

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        sources = 1 + choice(generator, _MOST_SOURCES)
        parts = [
            depth_crop(self._shards.sample(step * self._batch + k), sources, self._size, self._planes, generator)
            for k in range(self._batch)
        ]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def depth_crop(
    sample: dict[str, Tensor], sources: int, size: tuple[int, int], planes: int, generator: torch.Generator
) -> Batch:
    """One view's region with sources.

    Returns:
        image (3, H, W), K (3, 3), depth (H, W) with 0 in the sky, sources (S, 3, H, W), source_Ks (S, 3, 3), to_sources (S, 4, 4),
        depths (D,).
    """
    views, _, height, width = sample["images"].shape
    at = choice(generator, views)
    sources = min(sources, views - 1)
    others = [j for j in torch.randperm(views, generator=generator).tolist() if j != at][:sources]
    depth = sample["depth"][at].float()
    scale = uniform(generator, max(size[0] / height, size[1] / width), 1.0)
    region = (min(height, round(size[0] / scale)), min(width, round(size[1] / scale)))
    corner = (choice(generator, height - region[0] + 1), choice(generator, width - region[1] + 1))
    image, K = _part(sample["images"][at], sample["K"][at], corner, region, size)
    inside = depth[corner[0] : corner[0] + region[0], corner[1] : corner[1] + region[1]]
    inside = F.interpolate(inside[None, None], size, mode="nearest-exact")[0, 0]
    transforms = invert_rigid(sample["c2w"][others]) @ sample["c2w"][at]
    known = inside[inside > 0]
    middle = float(known.median()) if len(known) else 1.0
    centre = torch.linalg.inv(K) @ torch.tensor([size[1] / 2, size[0] / 2, 1.0]) * middle
    parts = []
    for j, transform in zip(others, transforms, strict=True):
        there = sample["K"][j] @ (transform[:3, :3] @ centre + transform[:3, 3])
        pixel = (there[:2] / there[2].clamp(min=1e-3)).tolist()
        first = [
            int(min(max(0, round(p - side / 2)), most - side))
            for p, side, most in zip(reversed(pixel), region, (height, width), strict=True)
        ]
        parts.append(_part(sample["images"][j], sample["K"][j], (first[0], first[1]), region, size))
    pictures, Ks = torch.stack([image, *(p for p, _ in parts)]), torch.stack([K, *(k for _, k in parts)])
    pictures = _recolored(pictures, generator)
    if choice(generator, 2):
        pictures, inside = pictures.flip(-1), inside.flip(-1)
        Ks = torch.cat([Ks[:, :1], Ks[:, 1:]], 1).clone()
        Ks[:, 0, 2] = size[1] - Ks[:, 0, 2]
        transforms = _FLIP @ transforms @ _FLIP
    return {
        "image": pictures[0],
        "K": Ks[0],
        "depth": inside,
        "sources": pictures[1:],
        "source_Ks": Ks[1:],
        "to_sources": transforms,
        "depths": _planes(known, planes, generator),
    }


def _part(
    image: Tensor, K: Tensor, corner: Sequence[int], region: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """A region of a picture (uint8) at another size, and its intrinsics."""
    (top, left), (height, width) = corner, region
    cut = image[:, top : top + height, left : left + width].float() / 255
    if (height, width) != size:
        cut = F.interpolate(cut[None], size, mode="bilinear", antialias=True)[0]
    K = K.clone()
    K[0, 2] -= left
    K[1, 2] -= top
    return cut, torch.tensor([size[1] / width, size[0] / height, 1.0])[:, None] * K


def _recolored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """All pictures of a sample with other colours and contrast, the same for all. (V, 3, H, W)"""
    gain = 1 + 0.15 * torch.randn(3, 1, 1, generator=generator)
    if uniform(generator) < 0.3:
        pictures = pictures[:, torch.randperm(3, generator=generator)]
    return (pictures.clamp(min=1e-4) ** uniform(generator, 0.8, 1.25) * gain).clamp(0, 1)


def _planes(known: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Depth planes as initialization would choose them: the range of what is seen, widened; now and then far too wide. (D,)"""
    low, high = known.quantile(torch.tensor([0.01, 0.99])).tolist() if len(known) else (1.0, 2.0)
    near, far = low / uniform(generator, *_WIDEN), high * uniform(generator, *_WIDEN)
    if uniform(generator) < _WIDE:
        near, far = near / uniform(generator, 1, 3), far * uniform(generator, 1, 10)
    return 1 / torch.linspace(1 / near, 1 / max(far, 1.2 * near), count)
