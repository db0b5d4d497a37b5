"""Attention within and across views: the transformer of Stable Virtual Camera (Zhou et al. 2025, arXiv:2503.14489, section 3).

Two blocks stand side by side: one attends over places, the other over views at each place. Where the feature map is small, the first
attends over the places of all views at once. No view has a position of its own: only its rays, in the features, say where it is.

`F` are the views of a scene, `B` scenes; both lie in one batch of B * F maps, view by view.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedUnit(nn.Module):
    """GEGLU: values times the GELU of gates (arXiv:2002.05202)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        values, gates = self.proj(x).chunk(2, dim=-1)
        return values * F.gelu(gates)


class FeedForward(nn.Module):
    """A gated perceptron of four times the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # the identity stands where others have dropout: names stay
        self.net = nn.Sequential(GatedUnit(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)"""
        y: Tensor = self.net(x)
        return y


class Attention(nn.Module):
    """Every token asks the tokens of a context, or of its own sequence."""

    def __init__(self, channels: int, context: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(S, T, C) and what it asks (S, M, context), x itself where None -> (S, T, C)"""
        asked = x if context is None else context
        queries, keys, values = (
            made.unflatten(-1, (-1, self.head)).transpose(1, 2)  # (S, heads, tokens, head)
            for made in (self.to_q(x), self.to_k(asked), self.to_v(asked))
        )
        message = F.scaled_dot_product_attention(queries, keys, values)
        y: Tensor = self.to_out(message.transpose(1, 2).flatten(2))
        return y


class SpatialBlock(nn.Module):
    """Attention over the tokens of a sequence, to the context, and a perceptron; each with its norm first and a shortcut."""

    def __init__(self, channels: int, context: int, head: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, head)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, context, head)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(S, T, C) and (S, M, context) -> (S, T, C)"""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        y: Tensor = x + self.ff(self.norm3(x))
        return y


class ViewBlock(nn.Module):
    """The same over the views of a scene at each place, a perceptron before it, and no shortcut past the one behind."""

    def __init__(self, channels: int, context: int, head: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels)
        self.attn1 = Attention(channels, channels, head)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, context, head)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        """(B * F, T, C), context (B, M, context) and F -> (B * F, T, C)"""
        places = x.shape[1]
        x = x.unflatten(0, (-1, views)).transpose(1, 2).flatten(0, 1)  # (B * T, F, C)
        context = context.repeat_interleave(places, dim=0)
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        x = self.ff(self.norm3(x))
        return x.unflatten(0, (-1, places)).transpose(1, 2).flatten(0, 1)


class MultiviewTransformer(nn.Module):
    """A spatial and a view block, their answers added, beside a shortcut."""

    def __init__(self, channels: int, context: int, head: int, joint: bool) -> None:
        """
        Args:
            channels: C, a multiple of `head` and of 32.
            context: Channels of the context.
            head: Channels of an attention head.
            joint: The spatial block attends over all views of a scene at once.
        """
        super().__init__()
        self.joint = joint
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, context, head)])
        self.proj_out = nn.Linear(channels, channels)
        self.time_mix_blocks = nn.ModuleList([ViewBlock(channels, context, head)])

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        """(B * F, C, H, W), context (B * F, M, context) and F -> (B * F, C, H, W)"""
        of_scene = context[::views]  # that of the first view
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for spatial, across in zip(self.transformer_blocks, self.time_mix_blocks, strict=True):
            if self.joint:
                joined = tokens.unflatten(0, (-1, views)).flatten(1, 2)  # (B, F * H * W, C)
                tokens = spatial(joined, of_scene).unflatten(1, (views, -1)).flatten(0, 1)
            else:
                tokens = spatial(tokens, context)
            tokens = tokens + across(tokens, of_scene, views)
        made: Tensor = self.proj_out(tokens)
        return x + made.transpose(1, 2).unflatten(2, x.shape[2:])


def wave_code(index: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Cosines, then sines, of a step of the schedule, at frequencies from 1 down to 1 / 10000 (arXiv:2006.11239).

    Args:
        index: (n,) of 0 to 999.
        channels: Even.
        dtype: Of the result; half precision is rounded at the end, for it cannot count to 999 in angles.

    Returns:
        (n, channels)
    """
    half, exact = channels // 2, torch.promote_types(dtype, torch.float32)
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=exact, device=index.device) / half)
    angles = index.to(exact)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(dtype)
