"""The published checkpoint of ZeroNVS as networks of diffusers and transformers: what is in it, by names and shapes, and nothing run from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse3d import errors
from sparse3d.errors import UserError
from sparse3d.models.weights import check_manifest, load_state

UNET, VAE, CLIP, PROJECTION, EMA = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.model.visual.",
    "cc_projection.",
    "model_ema.",
)
HEADS = 8  # of attention, which shapes do not tell
_PURPOSE = "drawing views with ZeroNVS"
_CLIP_HEAD = 64  # channels of one head


@dataclass(frozen=True)
class ZeroNvsNetworks:
    """All of it."""

    unet: Any  # UNet2DConditionModel of diffusers, 8 channels in
    vae: Any  # AutoencoderKL of diffusers
    clip: Any  # CLIPVisionModelWithProjection of transformers
    projection: nn.Linear  # [embedding, pose] to the one token of cross-attention


def load_networks(path: Path, heads: int = HEADS) -> ZeroNvsNetworks:
    """From the published .ckpt, or any file of the same layout and other sizes.

    The UNet's running means (EMA) are taken where there are any, as the published inference does.

    Args:
        path: Of the file.
        heads: Attention heads of the UNet.

    Raises:
        UserError: no such file, one that would run code, or tensors that are not ZeroNVS'.
    """
    errors.require("diffusers", extra="diffusion", purpose=_PURPOSE)
    errors.require("transformers", extra="diffusion", purpose=_PURPOSE)
    state = load_state(path, "state_dict", optional=True)
    for prefix, what in ((UNET, "UNet"), (VAE, "VAE"), (CLIP, "picture encoder"), (PROJECTION, "pose projection")):
        if not any(name.startswith(prefix) for name in state):
            raise UserError(f"{path} has no {what} (no tensor {prefix}...): it is no checkpoint of ZeroNVS")
    try:
        networks = {
            "unet": unet_of(averaged(state), heads),
            "vae": vae_of(state),
            "clip": clip_of(state),
            "projection": projection_of(state),
        }
    except (KeyError, IndexError) as error:
        raise UserError(f"{path} is no whole checkpoint of ZeroNVS: {error} is missing") from error
    return ZeroNvsNetworks(**networks)


def averaged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet's tensors by their published names, each its running mean where the file has one."""
    found = {}
    for name, value in state.items():
        if name.startswith(UNET):
            mean = EMA + name.removeprefix("model.").replace(".", "")
            found[name] = state.get(mean, value)
    return found


def unet_of(state: Mapping[str, Tensor], heads: int) -> Any:
    """Stable Diffusion 1's UNet with 8 channels in; sizes by the tensors."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    channels = state[f"{UNET}time_embed.0.weight"].shape[1]
    context = state[f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    with torch.device("meta"):
        network: Any = UNet2DConditionModel(
            in_channels=state[f"{UNET}input_blocks.0.0.weight"].shape[1],
            out_channels=4,
            block_out_channels=tuple(channels * factor for factor in (1, 2, 4, 4)),
            layers_per_block=2,
            cross_attention_dim=context,
            attention_head_dim=heads,  # diffusers' name for their number
        )
    return _filled(network, convert_ldm_unet_checkpoint(dict(state), network.config), "UNet")


def vae_of(state: Mapping[str, Tensor]) -> Any:
    """Stable Diffusion 1's VAE; sizes by the tensors."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    own = {name: value for name, value in state.items() if name.startswith(VAE)}
    channels: list[int] = []
    while (name := f"{VAE}encoder.down.{len(channels)}.block.0.conv1.weight") in own:
        channels.append(own[name].shape[0])
    with torch.device("meta"):
        network: Any = AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            layers_per_block=2,
            latent_channels=4,
        )
    return _filled(network, convert_ldm_vae_checkpoint(own, network.config), "VAE")


def clip_of(state: Mapping[str, Tensor]) -> Any:
    """OpenAI's CLIP picture encoder as transformers has it; sizes by the tensors."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    own = {name.removeprefix(CLIP): value for name, value in state.items() if name.startswith(CLIP)}
    hidden, _, patch, _ = own["conv1.weight"].shape
    layers = 1 + max(int(name.split(".")[2]) for name in own if name.startswith("transformer.resblocks."))
    side = round((own["positional_embedding"].shape[0] - 1) ** 0.5)
    config = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=own["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        projection_dim=own["proj"].shape[1],
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // _CLIP_HEAD),
        image_size=side * patch,
        patch_size=patch,
        hidden_act="quick_gelu",
    )
    with torch.device("meta"):
        network = CLIPVisionModelWithProjection(config)
    model = "vision_model."
    found = {
        f"{model}embeddings.class_embedding": own["class_embedding"],
        f"{model}embeddings.patch_embedding.weight": own["conv1.weight"],
        f"{model}embeddings.position_embedding.weight": own["positional_embedding"],
        "visual_projection.weight": own["proj"].T.contiguous(),
    }
    for theirs, ours in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        found |= {f"{model}{ours}.{kind}": own[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    for layer in range(layers):
        found |= _clip_layer(own, f"transformer.resblocks.{layer}.", f"{model}encoder.layers.{layer}.")
    _filled(network, found, "picture encoder")
    embeddings = network.vision_model.embeddings
    embeddings.position_ids = torch.arange(side * side + 1)[None]  # computed, not in files
    return network


def projection_of(state: Mapping[str, Tensor]) -> nn.Linear:
    """The layer that joins embedding and pose."""
    weight = state[f"{PROJECTION}weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    return _filled(layer, {kind: state[f"{PROJECTION}{kind}"] for kind in ("weight", "bias")}, "pose projection")


def _clip_layer(own: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    found = {}
    names = (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"))
    for kind in ("weight", "bias"):
        joint = own[f"{theirs}attn.in_proj_{kind}"].chunk(3)
        for part, value in zip("qkv", joint, strict=True):
            found[f"{ours}self_attn.{part}_proj.{kind}"] = value.contiguous()
        found[f"{ours}self_attn.out_proj.{kind}"] = own[f"{theirs}attn.out_proj.{kind}"]
        found |= {f"{ours}{name}.{kind}": own[f"{theirs}{other}.{kind}"] for other, name in names}
    return found


def _filled(network: Any, state: Mapping[str, Tensor], what: str) -> Any:
    """The network with these tensors in it, and no others. float32"""
    check_manifest(state, network, what=f"of ZeroNVS ({what})")
    network.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return network.requires_grad_(False).eval()
