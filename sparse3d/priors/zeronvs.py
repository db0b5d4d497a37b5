"""ZeroNVS (Sargent et al. 2024, arXiv:2310.17994): draws a view of a place from one photo and the camera's way from it.

Its pictures are squares of 256 pixels, and its use is a score for distillation more than pictures: 11 to 15 dB on Mip-NeRF 360 in the paper's own
table. Held to stored results of the published code with weights by recipe; never run with the published ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.seva_encoders import SHRINK, LatentCodec, PictureEmbedder
from sparse3d.priors.zeronvs_pose import depth_scale, pose_vector
from sparse3d.priors.zeronvs_weights import HEADS, ZeroNvsNetworks, load_networks

BY_FILE = "the checkpoint zeronvs.ckpt (its authors' page has it, no hub does): --weights FILE"
MEMORY_GB = 8.0  # a billion weights in float32 and one picture; not measured

_LICENCE = "that of its weights, which come without one"
_SIDE = 256  # pixels
_LEVELS = 1000
_BETAS = (0.00085, 0.012)  # first and last, their roots evenly spaced
_STEPS = 50
_GUIDANCE = 9.5  # of the published inference
_TRUST = 0.3  # of drawn pixels: half of what it draws is another place
_SCALE = 0.18215  # of latents that are noised; those of the photo are not scaled


class ZeroNvs:
    """A `ScorePrior` of single pictures. Of several photos the nearest is told."""

    def __init__(
        self,
        networks: ZeroNvsNetworks,
        weights: str = "",
        *,
        device: str | torch.device = "cpu",
        guidance: float = _GUIDANCE,
        side: int = _SIDE,
    ) -> None:
        """From networks that are loaded; `load` does this from the published file.

        Args:
            networks: With weights.
            weights: What provenance calls them.
            device: Where they run.
            guidance: Classifier-free (arXiv:2207.12598): 1 is the conditional prediction alone.
            side: Of the square pictures, pixels, a multiple of 64.

        Raises:
            UserError: the networks do not fit each other.
        """
        place = torch.device(device)
        token = networks.projection.out_features
        embedding = networks.clip.config.projection_dim
        if networks.unet.config.cross_attention_dim != token or networks.projection.in_features != embedding + 19:
            raise UserError(
                f"the pose projection takes {networks.projection.in_features} numbers and gives {token}, needed {embedding + 19} and "
                f"{networks.unet.config.cross_attention_dim}: these networks are not of one checkpoint"
            )
        self.unet, self.projection = networks.unet.to(place), networks.projection.to(place)
        self.codec = LatentCodec(networks.vae, place)
        self.embedder = PictureEmbedder(networks.clip, embedding, place, torch.float32)
        self.device, self.guidance, self.side = place, guidance, side
        self.caps = PriorCaps(
            name="zeronvs",
            licence=_LICENCE,
            commercial=False,
            weights=weights or "zeronvs.ckpt",
            multiple=1,
            frames=(1, 1, 1),
            max_cond=1,
            uses=frozenset({"cameras"}),
            score=True,
            min_vram_gb=MEMORY_GB,
        )

    @classmethod
    def load(cls, weights: str, warn: Callable[[str], None], *, heads: int = HEADS) -> ZeroNvs:
        """From a checkpoint.

        Raises:
            UserError: it is missing, or no checkpoint of ZeroNVS.
        """
        if not weights:
            raise UserError(f"zeronvs needs {BY_FILE}. --prior classical works without any")
        path = Path(weights).expanduser()
        return cls(load_networks(path, heads), str(path), device="cuda" if torch.cuda.is_available() else "cpu")

    def bind(self, query: ViewQuery) -> ZeroNvsScene:
        """Encodes the photo and the cameras once."""
        return ZeroNvsScene(self, query)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """As `ViewPrior.generate`, by DDIM (arXiv:2010.02502, eta 0). What lies outside the square that is drawn is black and not trusted.

        `strength` below 1 begins with the noised renders, which the query then needs.

        Raises:
            ValueError: strength below 1 without renders.
            Stopped: `on_step` said so.
        """
        if strength < 1 and query.render_rgb is None:
            raise ValueError(
                f"strength {strength} starts from renders, and the query has none; give them, or strength 1"
            )
        began, scene, calls = time.monotonic(), self.bind(query), 0
        steps = _STEPS if steps is None else steps
        levels = torch.linspace(strength, 0, steps + 1)
        pictures = []
        for index in range(len(query)):
            generator = torch.Generator().manual_seed(query.seed + index)
            noise = torch.randn(1, 4, self.side // SHRINK, self.side // SHRINK, generator=generator).to(self.device)
            z, chosen = noise, torch.tensor([index])
            if strength < 1:
                assert query.render_rgb is not None
                alpha, sigma = scene.alpha_sigma(levels[:1])
                z = alpha * scene.encode(query.render_rgb[chosen], grad=False) + sigma * noise
            for now, following in pairwise(levels):
                clean = scene.predict_x0(z, now[None], chosen)
                alpha, sigma = scene.alpha_sigma(now[None])
                following_alpha, following_sigma = scene.alpha_sigma(following[None])
                z = following_alpha * clean + following_sigma * (z - alpha * clean) / sigma
                calls += 1
                if on_step is not None and on_step(calls, steps * len(query)) is False:
                    raise Stopped(f"after {calls} of {steps * len(query)} calls")
            pictures.append(scene.decode(z))
        rgb = torch.cat(pictures).clamp(0, 1).cpu()
        conf = _TRUST * scene.drawn.expand(len(query), 1, *scene.drawn.shape[-2:]).cpu()
        meta = Provenance("zeronvs", self.caps.weights, self.caps.licence, query.seed, calls, time.monotonic() - began)
        return ViewSamples(rgb * (conf > 0), conf, meta)


class ZeroNvsScene:
    """A `BoundScore`: one photo and the targets of a query."""

    def __init__(self, prior: ZeroNvs, query: ViewQuery) -> None:
        """Encodes the photo nearest to the targets and all cameras."""
        self._prior, query = prior, query.nearest_photos(1)
        self._height, self._width = query.cond_rgb.shape[2:]
        photo, targets = query.cond_cams, query.target_cams
        side, top, left = _middle(self._height, self._width)
        self.drawn = torch.zeros(1, 1, self._height, self._width)  # 1 where it draws
        self.drawn[..., top : top + side, left : left + side] = 1
        with torch.no_grad():
            crop = self._cropped(query.cond_rgb)
            self._latent = prior.codec.encode(crop) / _SCALE
            embedding = prior.embedder.embed(crop)
            fov = 2 * math.atan(0.5 * side / float(photo.K[0, 0, 0]))
            poses = pose_vector(photo.c2w[0].double(), targets.c2w.double(), _scale(query), fov).float()
            told = torch.cat([embedding.expand(len(poses), -1), poses.to(prior.device)], dim=1)
            self._tokens = prior.projection(told)[:, None]
        roots = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, _LEVELS, dtype=torch.float64)
        self._kept = (1 - roots**2).cumprod(0)

    def encode(self, rgb: Tensor, *, grad: bool) -> Tensor:
        """The square in the middle. (n, 3, H, W) in [0, 1] -> (n, 4, 32, 32)"""
        return self._prior.codec.encode(self._cropped(rgb), grad=grad)

    def decode(self, z: Tensor) -> Tensor:
        """(n, 4, 32, 32) -> (n, 3, H, W), 0 outside the square (`drawn`)."""
        side, top, left = _middle(self._height, self._width)
        square = F.interpolate(self._prior.codec.decode(z), (side, side), mode="bilinear", antialias=True)
        right, bottom = self._width - side - left, self._height - side - top
        return F.pad(square, (left, right, top, bottom))

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of z_t, variance preserving: alpha^2 + sigma^2 = 1, exactly clean at t = 0. (n,) -> (n, 1, 1, 1) twice"""
        kept = torch.where(t.cpu() <= 0, 1.0, self._kept[_level(t)]).to(t.device)
        return kept.sqrt().float()[:, None, None, None], (1 - kept).sqrt().float()[:, None, None, None]

    def predict_x0(self, z_t: Tensor, t: Tensor, idx: Tensor, *, guidance: float | None = None) -> Tensor:
        """Mean of z_0 given z_t: (z_t - sigma noise) / alpha, of the noise that the UNet sees. (n, 4, 32, 32)

        Without conditions the token and the photo's latents are 0.
        """
        weight = self._prior.guidance if guidance is None else guidance
        level = _level(t).to(self._prior.device)
        tokens = self._tokens[idx.to(self._tokens.device)]
        photo = self._latent.expand(len(z_t), -1, -1, -1)
        noise = self._noise(torch.cat([z_t, photo], dim=1), level, tokens)
        if weight != 1:
            free = self._noise(torch.cat([z_t, torch.zeros_like(photo)], dim=1), level, torch.zeros_like(tokens))
            noise = free + weight * (noise - free)
        alpha, sigma = self.alpha_sigma(t)
        return (z_t - sigma.to(z_t) * noise) / alpha.to(z_t)

    def lora(self) -> None:
        """None: there is no addition for it."""

    def _noise(self, z: Tensor, level: Tensor, tokens: Tensor) -> Tensor:
        found: Any = self._prior.unet(z, level, encoder_hidden_states=tokens)
        noise: Tensor = found.sample
        return noise

    def _cropped(self, rgb: Tensor) -> Tensor:
        """The middle square at the network's size. (n, 3, H, W) -> (n, 3, side, side)"""
        side, top, left = _middle(self._height, self._width)
        square = rgb[..., top : top + side, left : left + side].to(self._prior.device, torch.float32)
        size = (self._prior.side, self._prior.side)
        return F.interpolate(square, size, mode="bilinear", antialias=True).clamp(0, 1)


def _level(t: Tensor) -> Tensor:
    """Which of the thousand noise levels; t in [0, 1]."""
    return (t.cpu() * (_LEVELS - 1)).round().long().clamp(0, _LEVELS - 1)


def _middle(height: int, width: int) -> tuple[int, int, int]:
    """Side, first row and first column of the square in the middle."""
    side = min(height, width)
    return side, (height - side) // 2, (width - side) // 2


def _scale(query: ViewQuery) -> float:
    """By the photo's depth, else by that of what is known of the targets."""
    if query.cond_depth is not None:
        return depth_scale(query.cond_depth)
    if query.render_depth is not None and query.render_conf is not None:
        return depth_scale(torch.where(query.render_conf > 0.5, query.render_depth, 0.0))
    return 1.0
