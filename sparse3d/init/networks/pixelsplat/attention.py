"""The two attentions of pixelSplat's epipolar transformer: a pixel to its epipolar line, and an image to itself."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.init.networks.pixelsplat.epipolar import cell_centres
from sparse3d.init.networks.pixelsplat.position_code import PositionCode


class PreNorm(nn.Module):
    """`fn` of the normalized input."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        return self.fn(self.norm(x), *others)


class EpipolarAttention(nn.Module):
    """Each cell attends to the samples of its own epipolar line (pixelSplat, section 4.1)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width))

    def forward(self, x: Tensor, samples: Tensor) -> Tensor:
        """What the cells take from their samples.

        With one query for each set of keys, q (K z) is (K^T q) z: the key matrix meets the query once instead of each of S
        samples, and the value matrix likewise their mean. That is an S-th of the work and none of the memory.

        Args:
            x: (..., width) cells.
            samples: (..., S, width), the same leading shape.

        Returns:
            (..., width)
        """
        q = self.to_q(x).unflatten(-1, (self.heads, -1))  # (..., heads, d)
        keys, values = self.to_kv.weight.unflatten(0, (2, self.heads, -1))  # each (heads, d, width)
        asked = torch.einsum("...hd,hdc->...hc", q, keys)
        weights = (asked @ samples.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)  # (..., heads, S)
        return self.to_out(torch.einsum("...hc,hdc->...hd", weights @ samples, values).flatten(-2))


class TokenAttention(nn.Module):
    """Self-attention of all tokens of an image."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (V, heads, tokens, d)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TokenMLP(nn.Module):
    """Two layers with an exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # numbered as in the published weights, whose list has dropouts in between
        self.net = nn.Sequential(
            OrderedDict({"0": nn.Linear(width, hidden), "1": nn.GELU(), "3": nn.Linear(hidden, width)})
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TokenTransformer(nn.Module):
    """Pre-norm blocks without a last norm."""

    def __init__(self, width: int, depth: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [PreNorm(width, TokenAttention(width, heads, head_width)), PreNorm(width, TokenMLP(width, 2 * width))]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                x = x + part(x)
        return x


class ImageSelfAttention(nn.Module):
    """Self-attention between 4x4 blocks of a map, which spreads depth to where epipolar lines told nothing."""

    def __init__(
        self, width: int, heads: int, head_width: int, depth: int = 2, block: int = 4, octaves: int = 10
    ) -> None:
        super().__init__()
        self.positional_encoding = nn.Sequential(PositionCode(octaves), nn.Linear(4 * octaves, width))
        self.patch_embedder = nn.Sequential(nn.Conv2d(width, width, block, stride=block), nn.ReLU())
        self.transformer = TokenTransformer(width, depth, heads, head_width)
        self.resampler = nn.ConvTranspose2d(width, width, block, stride=block)

    def forward(self, image: Tensor) -> Tensor:
        """(V, width, H, W) -> the same shape; sides multiples of the block"""
        blocks = self.patch_embedder(image)
        centres = cell_centres(*blocks.shape[-2:]).to(blocks)
        tokens = blocks.flatten(2).transpose(1, 2) + self.positional_encoding(centres)
        return self.resampler(self.transformer(tokens).transpose(1, 2).unflatten(2, blocks.shape[-2:]))


class ImageBlock(nn.Module):
    """What stands in the place of a transformer's MLP: self-attention of the image added to its input.

    The weights of the first release have two convolutions after it.
    """

    def __init__(self, width: int, heads: int, head_width: int, convolutions: bool) -> None:
        super().__init__()
        self.self_attention = ImageSelfAttention(width, heads, head_width)
        self.layers: nn.Sequential | None = None
        if convolutions:
            first, second = nn.Conv2d(width, 2 * width, 7, padding=3), nn.Conv2d(2 * width, width, 7, padding=3)
            self.layers = nn.Sequential(OrderedDict({"0": first, "1": nn.GELU(), "3": second}))

    def forward(self, x: Tensor, rows: int) -> Tensor:
        """(V, cells, width) of a map with so many rows -> the same shape"""
        image = x.transpose(1, 2).unflatten(2, (rows, -1))
        image = image + self.self_attention(image)
        if self.layers is not None:
            image = self.layers(image)
        return image.flatten(2).transpose(1, 2)
