"""The U-Net of Stable Virtual Camera (Zhou et al. 2025, arXiv:2503.14489): many views at once, each with the rays of its camera.

Written from the paper and the names and shapes of the published tensors, held to stored results of the original. In latent diffusion's
U-Net (arXiv:2112.10752), every residual block is modulated by the rays, and every transformer attends across views.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.priors.networks.multiview import MultiviewTransformer, wave_code

LATENT = 4  # channels of the picture's latent, which come out
RAYS = 6  # channels of the Plücker map
_GROUPS = 32


@dataclass(frozen=True)
class UNetSettings:
    """Sizes of the network; the defaults are those of the published weights."""

    channels: int = 320  # of the largest map
    multipliers: tuple[int, ...] = (1, 2, 4, 4)  # of `channels`, level by level
    blocks: int = 2  # residual blocks of a level on the way down; one more on the way up
    head: int = 64  # channels of an attention head
    context: int = 1024  # channels of a picture's embedding

    @property
    def multiple(self) -> int:
        """Height and width of latents are multiples of it."""
        return int(2 ** (len(self.multipliers) - 1))


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; rays modulate the first, the step of the schedule is added behind it."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, outputs))
        self.dense_emb_layers = nn.Sequential(nn.Conv2d(RAYS, 2 * inputs, 1))
        # the identity stands where others have dropout: names stay
        convolution = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(_GROUPS, outputs), nn.SiLU(), nn.Identity(), convolution)
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor, rays: Tensor) -> Tensor:
        """(n, C, H, W), time (n, time) and rays (n, 6, H', W') -> (n, C', H, W)"""
        resized = F.interpolate(rays, x.shape[2:], mode="bilinear", align_corners=True)
        scale, shift = self.dense_emb_layers(resized).chunk(2, dim=1)
        norm, activation, convolution = self.in_layers
        h = convolution(activation(norm(x)) * (1 + scale) + shift)
        h = h + self.emb_layers(time)[:, :, None, None]
        y: Tensor = self.skip_connection(x) + self.out_layers(h)
        return y


class Downsample(nn.Module):
    """Half the size by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, C, H / 2, W / 2)"""
        y: Tensor = self.op(x)
        return y


class Upsample(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, C, 2 H, 2 W)"""
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


class Stage(nn.ModuleList):
    """Layers one after the other, each given what it takes."""

    def forward(self, x: Tensor, time: Tensor, rays: Tensor, context: Tensor, views: int) -> Tensor:
        """(n, C, H, W) -> (n, C', H', W'), see `SevaUNet.forward`"""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, time, rays)
            elif isinstance(layer, MultiviewTransformer):
                x = layer(x, context, views)
            else:
                x = layer(x)
        return x


class SevaUNet(nn.Module):
    """Noise in the latents of views, as far as views, rays and the embedding of the input pictures tell.

    The largest map is 1/8 of the picture, as latents are; each level halves it. All levels but the smallest attend. On the way down
    a view attends to its own places, in the middle and on the way up to those of all views, but for the largest map.
    """

    def __init__(self, settings: UNetSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or UNetSettings()
        base, time = settings.channels, 4 * settings.channels
        lowest = len(settings.multipliers) - 1

        def attention(channels: int, joint: bool) -> MultiviewTransformer:
            return MultiviewTransformer(channels, settings.context, settings.head, joint)

        self.time_embed = nn.Sequential(nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))
        down = [Stage([nn.Conv2d(LATENT + 1 + RAYS, base, 3, padding=1)])]
        kept, channels = [base], base
        for level, multiplier in enumerate(settings.multipliers):
            for _ in range(settings.blocks):
                layers: list[nn.Module] = [ResBlock(channels, multiplier * base, time)]
                channels = multiplier * base
                if level < lowest:
                    layers.append(attention(channels, joint=False))
                down.append(Stage(layers))
                kept.append(channels)
            if level < lowest:
                down.append(Stage([Downsample(channels)]))
                kept.append(channels)
        self.input_blocks = nn.ModuleList(down)
        middle = ResBlock(channels, channels, time), attention(channels, joint=True), ResBlock(channels, channels, time)
        self.middle_block = Stage(middle)
        up = []
        for level in reversed(range(lowest + 1)):
            for number in range(settings.blocks + 1):
                layers = [ResBlock(channels + kept.pop(), settings.multipliers[level] * base, time)]
                channels = settings.multipliers[level] * base
                if level < lowest:
                    layers.append(attention(channels, joint=level > 0))
                if level > 0 and number == settings.blocks:
                    layers.append(Upsample(channels))
                up.append(Stage(layers))
        self.output_blocks = nn.ModuleList(up)
        last = nn.Conv2d(channels, LATENT, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(_GROUPS, channels), nn.SiLU(), last)

    def forward(self, x: Tensor, index: Tensor, context: Tensor, rays: Tensor, views: int) -> Tensor:
        """The noise of B scenes of F views each, n = B * F, scene by scene.

        Args:
            x: (n, 11, H, W) latents scaled by c_in (4), 1 on input views and 0 elsewhere (1), rays (6); H and W multiples of
                `settings.multiple`.
            index: (n,) step of the schedule, 0 to 999.
            context: (n, M, context) embeddings of the input pictures.
            rays: (n, 6, H, W) Plücker maps.
            views: F.

        Returns:
            (n, 4, H, W)
        """
        time = self.time_embed(wave_code(index, self.settings.channels, x.dtype))
        kept = []
        for block in self.input_blocks:
            x = block(x, time, rays, context, views)
            kept.append(x)
        x = self.middle_block(x, time, rays, context, views)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), time, rays, context, views)
        y: Tensor = self.out(x)
        return y
