"""The dense head of DPT (Ranftl et al., arXiv:2103.13413) that DepthSplat ends with: features of a few sizes to a full-size map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.init.networks.depthsplat.layout import CNN, MATCHING, Layout

# pixels of the image in a feature of each level where features are joined; one more level, of 16, has the prior's alone
LEVELS = (2, 4, 8)


@dataclass(frozen=True)
class Features:
    """What was found in V views, before depth."""

    prior: list[Tensor]  # 4 of (V, C, H / 8, W / 8), first block to last
    convolved: list[Tensor]  # (V, C, H / f, W / f) for f of Layout.convolved, fine to coarse
    matched: list[Tensor]  # (V, C, H / f, W / f) for f of Layout.matched, coarse to fine


class DenseHead(nn.Module):
    """All features of V views joined level by level, from coarse to fine.

    Args:
        layout: Of the network.
        channels: Of the maps that come out where no disparity goes in.
        refines: Disparity goes in, and what is to be added to it comes out.
    """

    def __init__(self, layout: Layout, channels: int, refines: bool) -> None:
        super().__init__()
        self.layout, self.refines = layout, refines
        widths = layout.prior.widths
        self.projects = nn.ModuleList([nn.Conv2d(layout.prior.channels, width, 1) for width in widths])
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(widths[0], widths[0], 4, 4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, 2, 1),
            ]
        )
        self.concat_projects = nn.ModuleList()
        for factor, width in zip(LEVELS, widths, strict=False):
            joined = width + sum(count for at, count in zip(layout.convolved, CNN, strict=True) if at == factor)
            joined += sum(MATCHING >> scale for scale, at in enumerate(layout.matched) if at == factor)
            joined += int(refines and layout.finest == factor)
            self.concat_projects.append(nn.Conv2d(joined, width, 1))
        self.scratch = _Fusion(widths, channels, refines)

    def forward(self, features: Features, disparity: Tensor | None = None) -> Tensor:
        """The full-size map.

        Args:
            features: Of V views.
            disparity: (V, 1, H / f, W / f), f the layout's finest; only where the head refines it.

        Returns:
            (V, C, H, W), or (V, 1, H, W) where the head refines disparity.
        """
        levels = [
            resize(project(m))
            for project, resize, m in zip(self.projects, self.resize_layers, features.prior, strict=True)
        ]
        for index, (factor, project) in enumerate(zip(LEVELS, self.concat_projects, strict=True)):
            convolved = [m for m, at in zip(features.convolved, self.layout.convolved, strict=True) if at == factor]
            others = [m for m, at in zip(features.matched, self.layout.matched, strict=True) if at == factor]
            if disparity is not None and self.layout.finest == factor:
                others.append(disparity)
            # the published order: the prior's features come last at the finest level, and after the convolved ones at the others
            own = [levels[index]]
            levels[index] = project(torch.cat(convolved + (others + own if index == 0 else own + others), dim=1))
        joined: Tensor = self.scratch(levels)
        return joined


class _Fusion(nn.Module):
    """Levels added up from coarse to fine, with convolutions between; the published code calls it scratch."""

    def __init__(self, widths: tuple[int, ...], channels: int, refines: bool) -> None:
        super().__init__()
        for level, width in enumerate(widths, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(width, channels, 3, 1, 1, bias=False))
            self.add_module(f"refinenet{level}", _Joint(channels, adds=level < len(widths)))
        half, last = channels // 2, 16
        layers: list[nn.Module] = [
            nn.Conv2d(channels, half, 3, 1, 1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(half, last, 3, 1, 1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(last, 1, 1),
        ]
        self.output_conv = nn.Sequential(*(layers if refines else []))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(V, C, H / f, W / f) for f = 2, 4, 8, 16 -> (V, C, H, W)"""
        maps = [self.get_submodule(f"layer{level}_rn")(m) for level, m in enumerate(levels, start=1)]
        sizes = [[2 * side for side in maps[0].shape[-2:]], *(m.shape[-2:] for m in maps[:-1])]
        path: Tensor | None = None
        for level in range(len(maps), 0, -1):
            path = self.get_submodule(f"refinenet{level}")(maps[level - 1], path, sizes[level - 1])
        out: Tensor = self.output_conv(path)
        return out


class _Joint(nn.Module):
    """A level added to the coarser ones, brought to the size of the next finer."""

    def __init__(self, channels: int, adds: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if adds:
            self.resConfUnit1 = _Residual(channels)
        self.resConfUnit2 = _Residual(channels)

    def forward(self, level: Tensor, coarser: Tensor | None, size: Sequence[int]) -> Tensor:
        """(V, C, h, w), twice -> (V, C, *size)"""
        joined = level if coarser is None else coarser + self.resConfUnit1(level)
        return self.out_conv(resized(self.resConfUnit2(joined), size))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, h, w) -> (V, C, h, w)"""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at another size, bilinear between corners that stay where they are. (V, C, h, w) -> (V, C, *size)"""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)
