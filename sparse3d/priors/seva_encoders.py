"""The two published networks around Stable Virtual Camera's own: Stable Diffusion 2.1's VAE, and CLIP's picture encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d import errors
from sparse3d.errors import UserError
from sparse3d.models.fetch import offline
from sparse3d.priors.networks.seva import LATENT

SHRINK = 8  # pixels of a picture along a pixel of its latents
_SCALE = 0.18215  # brings latents to a standard deviation of about 1
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures (arXiv:2103.00020)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_PURPOSE = "drawing views with Stable Virtual Camera"


class LatentCodec:
    """Pictures to latents and back, in float32 throughout: half precision leaves bands in the sky."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        """
        Args:
            vae: An AutoencoderKL of diffusers.
            device: Where it runs.

        Raises:
            UserError: it makes latents of other channels or size.
        """
        channels, shrink = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
        if (channels, shrink) != (LATENT, SHRINK):
            raise UserError(
                f"the VAE makes latents of {channels} channels at 1/{shrink} of the size, needed {LATENT} at 1/{SHRINK}: "
                "give the VAE of Stable Diffusion 2.1"
            )
        self._vae = vae.to(device=device, dtype=torch.float32).requires_grad_(False).eval()
        self._device = device

    def encode(self, rgb: Tensor, *, grad: bool = False) -> Tensor:
        """Means of the latents, one picture at a time. (n, 3, H, W) in [0, 1] -> (n, 4, H / 8, W / 8)"""
        with torch.set_grad_enabled(grad):
            pictures = rgb.to(self._device, torch.float32) * 2 - 1
            return torch.cat([self._vae.encode(one).latent_dist.mean for one in pictures.split(1)]) * _SCALE

    def decode(self, z: Tensor) -> Tensor:
        """(n, 4, h, w) -> (n, 3, 8 h, 8 w), about [0, 1], one at a time; gradients flow."""
        latents = z.to(self._device, torch.float32) / _SCALE
        return torch.cat([self._vae.decode(one).sample for one in latents.split(1)]) / 2 + 0.5


class PictureEmbedder:
    """What is on a picture, as CLIP puts it."""

    def __init__(self, clip: Any, channels: int, device: torch.device, dtype: torch.dtype) -> None:
        """
        Args:
            clip: A CLIPVisionModelWithProjection of transformers.
            channels: Of an embedding.
            device, dtype: Where and in what it runs.

        Raises:
            UserError: its embeddings have another number of channels.
        """
        if clip.config.projection_dim != channels:
            raise UserError(
                f"the picture encoder gives {clip.config.projection_dim} numbers, needed {channels}: give CLIP ViT-H/14 "
                "(laion/CLIP-ViT-H-14-laion2B-s32B-b79K)"
            )
        self._clip = clip.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self._device, self._dtype = device, dtype

    @torch.no_grad()
    def embed(self, rgb: Tensor) -> Tensor:
        """(n, 3, H, W) in [0, 1] -> (n, channels) float32

        Pictures are squeezed into CLIP's square, so that all of them counts; of square ones, which the weights were trained with,
        this is what cutting out the middle gives too.
        """
        size = self._clip.config.image_size
        pictures = rgb.to(self._device, torch.float32)
        small = F.interpolate(pictures, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        mean, std = (torch.tensor(values, device=self._device)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
        normalized = ((small - mean) / std).to(self._dtype)
        return torch.cat([self._clip(pixel_values=one).image_embeds for one in normalized.split(1)]).float()


def load_vae(given: str | Path | None, beside: Path) -> Any:
    """An AutoencoderKL of diffusers.

    Args:
        given: A folder with it, or with a folder `vae`; or `owner/name`, `owner/name/folder` on the hub. None: the folder `vae` in
            `beside`. Nothing on the hub is the default: Stable Diffusion 2 was taken off it, and only copies of others are there.
        beside: The folder of the checkpoint.

    Raises:
        UserError: diffusers is missing, or the VAE is, or its files are not whole.
    """
    diffusers = errors.require("diffusers", extra="diffusion", purpose=_PURPOSE)
    if given is None:
        given = beside / "vae"
        if not given.is_dir():
            raise UserError(
                f"Stable Virtual Camera needs the VAE of Stable Diffusion 2.1, and there is no folder {given}. Put it there (config.json and "
                "diffusion_pytorch_model.safetensors), or give a folder or a repository on the hub as `vae`"
            )
    return _pretrained(diffusers.AutoencoderKL.from_pretrained, "VAE", given, "vae")


def load_clip(given: str | Path) -> Any:
    """A CLIPVisionModelWithProjection of transformers.

    Args:
        given: A folder with it, or with a folder `image_encoder`; or `owner/name`, `owner/name/folder` on the hub.

    Raises:
        UserError: transformers is missing, or there is no such folder, or its files are not whole.
    """
    transformers = errors.require("transformers", extra="diffusion", purpose=_PURPOSE)
    from_pretrained = transformers.CLIPVisionModelWithProjection.from_pretrained
    return _pretrained(from_pretrained, "picture encoder", given, "image_encoder")


def _pretrained(from_pretrained: Callable[..., Any], what: str, given: str | Path, inside: str) -> Any:
    place, folder, local = _located(what, given, inside)
    settings: dict[str, Any] = {"subfolder": folder} if folder else {}
    try:
        network, report = from_pretrained(
            place, local_files_only=local or offline() is not None, output_loading_info=True, **settings
        )
    except Exception as error:  # diffusers, transformers, safetensors, json and the hub have no error in common
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the {what} {given} could not be loaded: {said}. Give a whole folder of it") from error
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):  # they fill in random weights for these
        if report.get(problem):
            names = sorted(map(str, report[problem]))
            raise UserError(
                f"the {what} {given} does not fit: {problem.replace('_', ' ')}: {names[0]}"
                + (f" and {len(names) - 1} more" if len(names) > 1 else "")
                + ". It is another network, or its files are not whole"
            )
    return network


def _located(what: str, given: str | Path, inside: str) -> tuple[str, str, bool]:
    """Folder or repository, the folder in it, and whether it is on this machine."""
    path = Path(given).expanduser()
    if path.is_dir():
        return str(path), "" if (path / "config.json").is_file() or not (path / inside).is_dir() else inside, True
    parts = str(given).split("/")
    if isinstance(given, Path) or len(parts) < 2 or not all(parts) or parts[0].startswith((".", "~")):
        raise UserError(f"there is no folder {given} with a {what}. Give one, or owner/name of a repository on the hub")
    return "/".join(parts[:2]), "/".join(parts[2:]), False
