"""Attention within and across views, in windows: the transformer of GMFlow (arXiv:2111.13680) for any number of views.

Windows are 2 x 2, each a quarter of the feature map, moved by half a window in every second block as in Swin (arXiv:2103.14030).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SPLITS = 2  # windows along each axis
_TEMPERATURE = 10000
_APART = -100.0  # added to the scores between regions that only the cyclic shift made neighbours


class Attention(nn.Module):
    """source + norm(message), or with a perceptron behind it; queries from the source, keys and values from the target."""

    def __init__(self, channels: int, perceptron: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(channels, channels, bias=False)
        self.k_proj = nn.Linear(channels, channels, bias=False)
        self.v_proj = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(channels, channels, bias=False)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp: nn.Sequential | None = None
        if perceptron:
            wide = 8 * channels
            self.mlp = nn.Sequential(
                nn.Linear(2 * channels, wide, bias=False), nn.GELU(), nn.Linear(wide, channels, bias=False)
            )
            self.norm2 = nn.LayerNorm(channels)

    def forward(self, source: Tensor, target: Tensor, shift: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Every view asks its targets, window by window.

        Args:
            source: (V, H, W, C)
            target: (V, M, H, W, C), the M views that each view looks at.
            shift: Rows and columns that the windows are moved by.
            mask: (windows, tokens, M * tokens), added to the scores; None: nothing.

        Returns:
            (V, H, W, C)
        """
        queries = _windows(self.q_proj(source)[:, None], shift)
        keys, values = (_windows(project(target), shift) for project in (self.k_proj, self.v_proj))
        message = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        message = self.norm1(self.merge(_unwindowed(message, source.shape, shift)))
        if self.mlp is not None:
            message = self.norm2(self.mlp(torch.cat([source, message], dim=-1)))
        return source + message


class Block(nn.Module):
    """Attention within each view, then to the other views."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, perceptron=False)
        self.cross_attn_ffn = Attention(channels, perceptron=True)

    def forward(self, x: Tensor, pairs: Tensor, shift: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(V, H, W, C) and indices (V, M) of the views to look at -> (V, H, W, C). These are seen as they were before the block."""
        others = x[pairs]
        y = self.self_attn(x, x[:, None], shift, mask)
        # as published: the mask repeats for each other view, while the keys of a window go token by token, its views side by side
        tiled = None if mask is None else mask.tile(1, 1, pairs.shape[1])
        z: Tensor = self.cross_attn_ffn(y, others, shift, tiled)
        return z


class Transformer(nn.Module):
    """Six blocks; odd ones move their windows by half a window."""

    def __init__(self, channels: int = 128, blocks: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(channels) for _ in range(blocks))

    def forward(self, features: Tensor, pairs: Sequence[Sequence[int]] | None = None) -> Tensor:
        """Features of V views that know of each other.

        Args:
            features: (V, C, H, W), V at least 2, H and W multiples of 4.
            pairs: For each view the views that it looks at, as many for each; None: all others.

        Returns:
            (V, C, H, W)
        """
        height, width = features.shape[-2:]
        window = height // _SPLITS, width // _SPLITS
        code = position_code(*window, features.shape[1]).to(features)
        x = (features + code.tile(1, _SPLITS, _SPLITS)).permute(0, 2, 3, 1)
        looked_at = torch.tensor(everyone(len(features)) if pairs is None else pairs, device=features.device)
        shift = window[0] // 2, window[1] // 2
        mask = shifted_mask(height, width, shift).to(features)
        for number, block in enumerate(self.layers):
            x = block(x, looked_at, shift, mask) if number % 2 else block(x, looked_at, (0, 0), None)
        return x.permute(0, 3, 1, 2)


def everyone(views: int) -> list[list[int]]:
    """For each view all the others, in order."""
    return [[other for other in range(views) if other != view] for view in range(views)]


def position_code(height: int, width: int, channels: int) -> Tensor:
    """Sines of the position as DETR has them (arXiv:2005.12872): y in the first half of the channels, x in the second.

    Returns:
        (channels, height, width) float64
    """
    index = torch.arange(channels // 2, dtype=torch.float64)
    frequencies = _TEMPERATURE ** (-2 * (index // 2) / (channels // 2))
    y, x = (2 * math.pi * torch.arange(1, size + 1, dtype=torch.float64) / (size + 1e-6) for size in (height, width))

    def waves(places: Tensor) -> Tensor:
        angles = frequencies[:, None] * places
        return torch.where((index % 2 == 0)[:, None], angles.sin(), angles.cos())  # (channels / 2, places)

    rows = waves(y)[:, :, None].expand(-1, -1, width)
    return torch.cat([rows, waves(x)[:, None].expand(-1, height, -1)])


def shifted_mask(height: int, width: int, shift: tuple[int, int]) -> Tensor:
    """What keeps tokens of a shifted window apart that are not neighbours in the map (Swin, section 3.2).

    Returns:
        (windows, tokens, tokens): 0, or -100 between regions.
    """

    def regions(size: int, moved: int) -> Tensor:
        places = torch.arange(size)
        return (places >= size - size // _SPLITS).int() + (places >= size - moved).int()

    region = 3 * regions(height, shift[0])[:, None] + regions(width, shift[1])
    of = _windows(region[None, None, ..., None], (0, 0))[0, ..., 0]  # (windows, tokens)
    return torch.where(of[:, :, None] == of[:, None], 0.0, _APART)


def _windows(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """(V, M, H, W, C) -> (V, windows, tokens * M, C): token by token, the M views of each side by side."""
    rolled = torch.roll(x, (-shift[0], -shift[1]), dims=(2, 3))
    split = rolled.unflatten(3, (_SPLITS, -1)).unflatten(2, (_SPLITS, -1))  # (V, M, rows, h, columns, w, C)
    return split.permute(0, 2, 4, 3, 5, 1, 6).flatten(3, 5).flatten(1, 2)


def _unwindowed(x: Tensor, shape: torch.Size, shift: tuple[int, int]) -> Tensor:
    """(V, windows, tokens, C) -> (V, H, W, C), the inverse of `_windows` for one view at a time."""
    _, height, width, channels = shape
    split = x.unflatten(2, (height // _SPLITS, width // _SPLITS)).unflatten(1, (_SPLITS, _SPLITS))
    return torch.roll(split.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels), shift, dims=(1, 2))
