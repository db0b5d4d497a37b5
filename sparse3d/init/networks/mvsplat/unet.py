"""The U-Net that MVSplat and DepthSplat refine with: convolutions on each view, attention across all of them.

Of latent diffusion (arXiv:2112.10752), without time and with one residual block a level. In MVSplat norms follow the
convolutions; in DepthSplat they come first, as in the diffusion model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROUPS = 8
_HEAD = 32  # channels of an attention head


def _convolution(inputs: int, outputs: int, norm_first: bool, gap: bool = False) -> nn.Sequential:
    """Convolution, norm and activation, or norm, activation and convolution.

    With a gap an identity stands before the convolution, where others have dropout: names stay.
    """
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    if norm_first:
        return nn.Sequential(nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), *([nn.Identity()] if gap else []), convolution)
    return nn.Sequential(convolution, nn.GroupNorm(_GROUPS, outputs), nn.SiLU())


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, norm_first: bool) -> None:
        super().__init__()
        self.in_layers = _convolution(inputs, outputs, norm_first)
        self.out_layers = _convolution(outputs, outputs, norm_first, gap=True)
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, H, W) -> (V, C', H, W)"""
        y: Tensor = self.skip_connection(x) + self.out_layers(self.in_layers(x))
        return y


class CrossViewAttention(nn.Module):
    """Every pixel of every view asks every pixel of every view. No positions: views may come in any number and order."""

    def __init__(self, channels: int, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        self.norm = nn.GroupNorm(_GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, H, W) -> the same shape"""
        views, channels = x.shape[:2]
        tokens = self.norm(x.flatten(2)) if self.norm_first else x.flatten(2)
        split = self.qkv(tokens).unflatten(1, (channels // _HEAD, 3, _HEAD))  # (V, heads, qkv, head, pixels)
        queries, keys, values = split.permute(2, 1, 0, 4, 3).flatten(2, 3)  # each (heads, V * pixels, head)
        message = F.scaled_dot_product_attention(queries[None], keys[None], values[None])[0]
        message = message.unflatten(1, (views, -1)).permute(1, 0, 3, 2).flatten(1, 2)
        answer = self.proj_out(message)
        y: Tensor = x + (answer if self.norm_first else self.norm(answer)).unflatten(2, x.shape[2:])
        return y


class Downsample(nn.Module):
    """Half the size by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, H, W) -> (V, C, H / 2, W / 2)"""
        y: Tensor = self.op(x)
        return y


class Upsample(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, H, W) -> (V, C, 2 H, 2 W)"""
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return y


class UNet(nn.Module):
    """One width at all levels, attention across views on the lowest."""

    def __init__(self, channels: int, levels: int, norm_first: bool = False) -> None:
        super().__init__()
        down: list[nn.Module] = [nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))]
        up: list[nn.Module] = []
        for level in range(levels):
            lowest = level == levels - 1
            attention = [CrossViewAttention(channels, norm_first)] if lowest else []
            down.append(nn.Sequential(ResBlock(channels, channels, norm_first), *attention))
            if not lowest:
                down.append(nn.Sequential(Downsample(channels)))
        for level in reversed(range(levels)):
            for last in (False, True):
                layers: list[nn.Module] = [ResBlock(2 * channels, channels, norm_first)]
                if level == levels - 1:
                    layers.append(CrossViewAttention(channels, norm_first))
                if last and level > 0:
                    layers.append(Upsample(channels))
                up.append(nn.Sequential(*layers))
        self.input_blocks = nn.ModuleList(down)
        middle = ResBlock(channels, channels, norm_first), nn.Identity(), ResBlock(channels, channels, norm_first)
        self.middle_block = nn.Sequential(*middle)  # the identity stands where others have attention: names stay
        self.output_blocks = nn.ModuleList(up)
        self.out = _convolution(channels, channels, norm_first)

    def forward(self, x: Tensor) -> Tensor:
        """(V, channels, H, W) -> the same shape; H and W multiples of 2^(levels - 1)"""
        kept = []
        for block in self.input_blocks:
            x = block(x)
            kept.append(x)
        x = self.middle_block(x)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1))
        y: Tensor = self.out(x)
        return y
