"""The transformer half of pixelSplat's backbone: ViT-B/8 as DINO trained it (Caron et al. 2021, arXiv:2104.14294)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORM_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """One token for each patch, row by row. (V, 3, H, W) -> (V, H W / patch^2, width)"""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention of all tokens of an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (V, heads, tokens, d)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with an exact (erf) GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT-B/8: 12 blocks of width 768 and 12 heads, on patches of 8 pixels.

    Args:
        grid: Patches along one side of the images that the position embedding was trained for (224 pixels / 8).
    """

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12, patch: int = 8, grid: int = 28) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = PatchEmbedding(patch, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the last block, normalized.

        Args:
            images: (V, 3, H, W), sides multiples of the patch.

        Returns:
            The class token (V, width), and the patch tokens as a map (V, width, H / patch, W / patch).
        """
        rows, columns = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), self.patch_embed(images)], dim=1)
        x = x + self._positions(rows, columns)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 0], x[:, 1:].transpose(1, 2).unflatten(2, (rows, columns))

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The position embedding for another grid, bicubic; that of the class token stays. (1, 1 + rows columns, width)"""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        # DINO asks for a tenth of a patch more, against a size that rounds down; the tenth shifts the coordinates too
        factors = [(rows + 0.1) / self.grid, (columns + 0.1) / self.grid]
        patches = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        resized = F.interpolate(patches, scale_factor=factors, mode="bicubic", recompute_scale_factor=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
