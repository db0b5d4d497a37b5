"""The Vision Transformer of DINOv2 (Oquab et al., arXiv:2304.07193), patches of 14 pixels, as the monocular prior."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14  # pixels
_GRID = 37  # patches a side that the position code was trained for
_HEAD = 64  # channels
_EPS = 1e-6
_OFFSET = 0.1  # patches; DINOv2 stretches its position code by so much more than asked for


class VisionTransformer(nn.Module):
    """Features of an image after some of its blocks, all passed through the last norm."""

    def __init__(self, channels: int, depth: int, taken: tuple[int, ...]) -> None:
        super().__init__()
        self.taken = taken
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _GRID * _GRID, channels))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, channels, PATCH, PATCH)})
        self.blocks = nn.ModuleList([_Block(channels) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(V, 3, H, W) normalized, sides multiples of 14 -> of each block taken (V, C, H / 14, W / 14)"""
        patches = self.patch_embed["proj"](images)
        rows, columns = patches.shape[-2:]
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self._positions(rows, columns)
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taken:
                maps.append(self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)))
        return maps

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The position code for so many patches. (1, 1 + rows * columns, C)"""
        if rows == columns == _GRID:
            return self.pos_embed
        first, code = self.pos_embed.split([1, _GRID * _GRID], dim=1)
        factors = [(count + _OFFSET) / _GRID for count in (rows, columns)]
        stretched = F.interpolate(
            code.transpose(1, 2).unflatten(2, (_GRID, _GRID)), scale_factor=factors, mode="bicubic"
        )
        return torch.cat([first, stretched.flatten(2).transpose(1, 2)], dim=1)


class _Block(nn.Module):
    """Attention, then a perceptron, each on normalized tokens and weighed before it is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.attn = _Attention(channels)
        self.ls1 = _Weighed(channels)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = _Perceptron(channels)
        self.ls2 = _Weighed(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(V, T, C) -> (V, T, C)"""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(V, T, C) -> (V, T, C)"""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, -1, _HEAD)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Perceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(V, T, C) -> (V, T, C)"""
        return self.fc2(F.gelu(self.fc1(tokens)))


class _Weighed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """(V, T, C) -> (V, T, C)"""
        return tokens * self.gamma
