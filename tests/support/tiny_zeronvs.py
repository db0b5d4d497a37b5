"""A checkpoint in the layout of ZeroNVS' with random weights, small enough for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEADS, EMBEDDING, TOKEN, WIDTH, LAYERS, PATCH, SIDE = 4, 24, 24, 64, 2, 4, 8


def tiny_state(unet_shapes: dict[str, list[int]] | None = None) -> dict[str, Tensor]:
    """Tensors by their published names: a UNet of 32 channels, a VAE of four levels, a CLIP of two layers.

    Args:
        unet_shapes: Names and shapes of the UNet's tensors; those of diffusers' own small UNet, renamed, when None.
    """
    torch.manual_seed(0)
    state = {f"model.diffusion_model.{name}": _random(shape) for name, shape in (unet_shapes or _unet()).items()}
    state |= {f"first_stage_model.{name}": _random(shape) for name, shape in _vae().items()}
    state |= {f"cond_stage_model.model.visual.{name}": value for name, value in OpenClip().state_dict().items()}
    state |= {"cc_projection.weight": _random([TOKEN, EMBEDDING + 19]), "cc_projection.bias": _random([TOKEN])}
    return state | {"cond_stage_model.model.logit_scale": torch.zeros(()), "betas": torch.zeros(1000)}


def _random(shape: list[int]) -> Tensor:
    if len(shape) == 1:
        return 1 + 0.1 * torch.randn(shape)
    return torch.randn(shape) / max(1.0, torch.tensor(shape[1:]).prod().item() ** 0.5)


class OpenClip(nn.Module):
    """CLIP's picture encoder as its authors wrote it (Radford et al. 2021), on torch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(_Block() for _ in range(LAYERS))
        self.proj = nn.Parameter(torch.randn(WIDTH, EMBEDDING) / WIDTH**0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, SIDE, SIDE) normalized -> (n, EMBEDDING)"""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 1, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        h = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(h * torch.sigmoid(1.702 * h))


def _unet(channels: int = 32) -> dict[str, list[int]]:
    """Names and shapes of Stable Diffusion 1's UNet in its authors' layout, from the rules of its making."""
    found: dict[str, list[int]] = {}
    embedding = 4 * channels

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = list(shape), [shape[0]]

    def residual(name: str, before: int, after: int) -> None:
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", after, embedding)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name: str, width: int) -> None:
        layer(f"{name}.norm", width)
        layer(f"{name}.proj_in", width, width, 1, 1)
        inner = f"{name}.transformer_blocks.0"
        for which, context in (("attn1", width), ("attn2", TOKEN)):
            found[f"{inner}.{which}.to_q.weight"] = [width, width]
            for part in "kv":
                found[f"{inner}.{which}.to_{part}.weight"] = [width, context]
            layer(f"{inner}.{which}.to_out.0", width, width)
        layer(f"{inner}.ff.net.0.proj", 8 * width, width)
        layer(f"{inner}.ff.net.2", width, 4 * width)
        for norm in (1, 2, 3):
            layer(f"{inner}.norm{norm}", width)
        layer(f"{name}.proj_out", width, width, 1, 1)

    layer("time_embed.0", embedding, channels)
    layer("time_embed.2", embedding, embedding)
    layer("input_blocks.0.0", channels, 8, 3, 3)
    skips, width, block = [channels], channels, 1
    for level, factor in enumerate((1, 2, 4, 4)):
        for _ in range(2):
            residual(f"input_blocks.{block}.0", width, factor * channels)
            width = factor * channels
            if level < 3:
                attention(f"input_blocks.{block}.1", width)
            skips.append(width)
            block += 1
        if level < 3:
            layer(f"input_blocks.{block}.0.op", width, width, 3, 3)
            skips.append(width)
            block += 1
    residual("middle_block.0", width, width)
    attention("middle_block.1", width)
    residual("middle_block.2", width, width)
    block = 0
    for level, factor in reversed(list(enumerate((1, 2, 4, 4)))):
        for index in range(3):
            residual(f"output_blocks.{block}.0", width + skips.pop(), factor * channels)
            width = factor * channels
            if level < 3:
                attention(f"output_blocks.{block}.1", width)
            if level and index == 2:
                layer(f"output_blocks.{block}.{2 if level < 3 else 1}.conv", width, width, 3, 3)
            block += 1
    layer("out.0", channels)
    layer("out.2", 4, channels, 3, 3)
    return found


def _vae(channels: int = 32, levels: int = 4) -> dict[str, list[int]]:
    """Names and shapes of the VAE of latent diffusion, all levels equally wide."""
    found: dict[str, list[int]] = {}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = list(shape), [shape[0]]

    def residual(name: str) -> None:
        for part in "12":
            layer(f"{name}.norm{part}", channels)
            layer(f"{name}.conv{part}", channels, channels, 3, 3)

    for side, blocks, change in (("encoder.down", 2, "downsample"), ("decoder.up", 3, "upsample")):
        for level in range(levels):
            for block in range(blocks):
                residual(f"{side}.{level}.block.{block}")
            if (level < levels - 1) if change == "downsample" else level > 0:
                layer(f"{side}.{level}.{change}.conv", channels, channels, 3, 3)
    for half, into, out in (("encoder", 3, 8), ("decoder", 4, 3)):
        layer(f"{half}.conv_in", channels, into, 3, 3)
        for block in "12":
            residual(f"{half}.mid.block_{block}")
        layer(f"{half}.mid.attn_1.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{half}.mid.attn_1.{part}", channels, channels, 1, 1)
        layer(f"{half}.norm_out", channels)
        layer(f"{half}.conv_out", out, channels, 3, 3)
    layer("quant_conv", 8, 8, 1, 1)
    layer("post_quant_conv", 4, 4, 1, 1)
    return found
