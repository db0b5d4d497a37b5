"""Stable Virtual Camera (Zhou et al. 2025, arXiv:2503.14489): draws many views at once from their cameras and 1 to 32 photos.

Weights and the pictures drawn with them are under Stability AI's non-commercial licence. The code here is our own, written from the
paper and the names and shapes of the published tensors, and held to stored results. Not yet run with the published weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.registry import lookup
from sparse3d.models.weights import check_manifest, load_state
from sparse3d.priors.base import OnStep, PriorCaps, Provenance, Stopped, ViewQuery, ViewSamples
from sparse3d.priors.networks.seva import SevaUNet, UNetSettings
from sparse3d.priors.seva_encoders import SHRINK, LatentCodec, PictureEmbedder, load_clip, load_vae
from sparse3d.priors.seva_scene import Frames, SevaParts, SevaScene
from sparse3d.priors.seva_schedule import STEP_UP, sampling_sigmas

MODELS = ("seva", "clip-vit-h-14")
SCORE = True
MEMORY_GB = 16.0  # 1.3 billion weights and CLIP's 0.6 in bfloat16, 21 views at once; not measured

FRAMES = 21  # views in one call, in training
_LICENCE = "Stability AI Non-Commercial"
_FILES = ("modelv1.1.safetensors", "model.safetensors")  # the newer first
_CLIP = "clip-vit-h-14"
_STEPS = 50
_PHOTOS = 32
_TRUST = 0.5  # of drawn pixels: the network says nothing of how sure it is, and 1 is what photos have
_CALLS = 2  # of the network a step: with the inputs and without


class Seva:
    """A `ScorePrior`. Of photos and targets fewer than 21, targets repeat; of more, all are drawn together as in the paper's longer runs."""

    def __init__(
        self,
        network: SevaUNet,
        vae: Any,
        clip: Any,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        frames: int = FRAMES,
        guidance: float = 2.0,
        least_guidance: float = 1.2,
        weights: str | None = None,
    ) -> None:
        """From networks that are loaded; `load` does this from files.

        Args:
            network: With weights.
            vae: AutoencoderKL of diffusers, kept in float32.
            clip: CLIPVisionModelWithProjection of transformers.
            device, dtype: Where and in what they run.
            frames: Views in one call, photos among them, at least 2.
            guidance, least_guidance: Of a view farthest from all input views, and of one at an input view.
            weights: What provenance calls them.

        Raises:
            UserError: VAE or CLIP do not fit the network.
            ValueError: fewer than 2 frames.
        """
        if frames < 2:
            raise ValueError(f"frames is {frames}, needed at least 2: a photo and a view to draw")
        place = torch.device(device)
        self._weights = weights
        self._parts = SevaParts(
            network.to(device=place, dtype=dtype).requires_grad_(False).eval(),
            LatentCodec(vae, place),
            PictureEmbedder(clip, network.settings.context, place, dtype),
            place,
            dtype,
            frames,
            guidance,
            least_guidance,
        )

    @classmethod
    def load(
        cls,
        weights: str | Path = "seva",
        *,
        vae: str | Path | None = None,
        clip: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        accept: bool = False,
        settings: UNetSettings | None = None,
        frames: int = FRAMES,
    ) -> Seva:
        """The prior with published weights.

        Args:
            weights: The published .safetensors file, or a folder with modelv1.1.safetensors; `seva`: as fetched by sparse3d models.
            vae: VAE of Stable Diffusion 2.1: a folder, or `owner/name` or `owner/name/folder` on the hub. None: the folder `vae` beside
                the weights.
            clip: CLIP ViT-H/14, given likewise. None: as fetched by sparse3d models.
            device: Where all of it runs.
            dtype: Of the network and CLIP. None: bfloat16 on a GPU, else float32.
            accept: The user read and accepted the licence, which forbids commercial use of weights and pictures.
            settings: Sizes of another network than the published one.
            frames: Views in one call.

        Raises:
            UserError: licence not accepted, a library, file or folder missing, or tensors that are not exactly the network's.
        """
        if not accept:
            raise UserError(
                f"Stable Virtual Camera is under the licence {_LICENCE}: neither its weights nor pictures drawn with them may be used "
                f"commercially. Read it at {lookup('seva').licence_url}; if your use is allowed, say so with accept=True"
            )
        file = _weight_file(weights)
        place = torch.device(device)
        dtype = dtype or (torch.float32 if place.type == "cpu" else torch.bfloat16)
        autoencoder = load_vae(vae, file.parent)
        encoder = load_clip(store.require(_CLIP) if clip is None else clip)
        network = _filled(load_state(file), settings, dtype, file)
        return cls(network, autoencoder, encoder, device=place, dtype=dtype, frames=frames, weights=str(file))

    @property
    def caps(self) -> PriorCaps:
        """What it can take. `frames` counts targets: one view of a call is a photo."""
        return PriorCaps(
            name="seva",
            licence=_LICENCE,
            commercial=False,
            weights=self._weights,
            multiple=self._parts.network.settings.multiple * SHRINK,
            frames=(1, self._parts.frames - 1, 1),
            max_cond=_PHOTOS,
            uses=frozenset({"cameras", "render"}),  # renders only with strength < 1, and those that are known
            score=True,
            verified=False,
            min_vram_gb=MEMORY_GB,
            pixels=576 * 576,
        )

    def bind(self, query: ViewQuery) -> SevaScene:
        """Encodes photos, known targets and cameras once.

        Raises:
            ValueError: the query does not fit `caps`.
        """
        self._check(query)
        return SevaScene(self._parts, query)

    @torch.no_grad()
    def generate(
        self, query: ViewQuery, *, strength: float = 1.0, steps: int | None = None, on_step: OnStep | None = None
    ) -> ViewSamples:
        """Draws the targets, all in one scene. Those that are known come back as they are, trusted wholly, others by half.

        Args:
            query: As `caps` says.
            strength: In (0, 1]. 1: from noise. Less: from the encoded renders with the noise of that part of the steps.
            steps: Of Euler's method, 50 when None.
            on_step: Told (calls done, calls in all) after each call of the network, of which a step has two; False stops.

        Raises:
            Stopped: `on_step` said so.
            ValueError: the query does not fit `caps`, or strength below 1 without renders.
        """
        began = time.monotonic()
        self._check(query)
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}, needed more than 0 and at most 1")
        if strength < 1 and query.render_rgb is None:
            raise ValueError(
                f"strength {strength} starts from renders, and the query has none; give them, or strength 1"
            )
        steps = _STEPS if steps is None else steps
        sigmas = sampling_sigmas(steps)[steps - max(1, round(strength * steps)) :]
        drawn = (~query.known).nonzero()[:, 0]
        rgb = torch.zeros(len(query), *query.cond_rgb.shape[1:])
        if query.render_rgb is not None:
            rgb[query.known] = query.render_rgb[query.known].float().cpu()
        calls = 0
        if len(drawn):
            calls = _CALLS * (len(sigmas) - 1)
            scene = SevaScene(self._parts, query)
            frames = scene.frames(drawn)
            start = None
            if strength < 1:
                assert query.render_rgb is not None
                start = scene.encode(query.render_rgb[drawn], grad=False)
            counter = _Counter(calls, on_step)
            latents = _sampled(scene, frames, start, sigmas, query.seed, counter)
            rgb[drawn] = scene.decode(latents[frames.drawn]).clamp(0, 1).cpu()
        conf = torch.where(query.known, 1.0, _TRUST)[:, None, None, None].expand(-1, 1, *rgb.shape[2:]).clone()
        meta = Provenance("seva", self._weights, _LICENCE, query.seed, calls, time.monotonic() - began)
        return ViewSamples(rgb, conf, meta)

    def _check(self, query: ViewQuery) -> None:
        caps = self.caps
        height, width = query.cond_rgb.shape[2:]
        if height % caps.multiple or width % caps.multiple:
            raise ValueError(f"pictures of {height}x{width}, needed multiples of {caps.multiple}")
        if not caps.frames[0] <= len(query) <= caps.frames[1]:
            raise ValueError(f"{len(query)} targets, needed {caps.frames[0]} to {caps.frames[1]} in one query")
        if not 1 <= len(query.cond_cams) <= caps.max_cond:
            raise ValueError(f"{len(query.cond_cams)} photos, needed 1 to {caps.max_cond}")


class _Counter:
    """Counts calls of the network and asks whether to go on."""

    def __init__(self, total: int, on_step: OnStep | None) -> None:
        self._done, self._total, self._on_step = 0, total, on_step

    def __call__(self) -> None:
        self._done += 1
        if self._on_step is not None and self._on_step(self._done, self._total) is False:
            raise Stopped(f"after {self._done} of {self._total} calls")


def _sampled(
    scene: SevaScene, frames: Frames, start: Tensor | None, sigmas: Tensor, seed: int, called: _Counter
) -> Tensor:
    """Euler's method of EDM (arXiv:2206.00364, algorithm 2) without churn, but for a trace of new noise before each step.

    Args:
        scene, frames: What the network is told.
        start: (n, 4, h, w) latents of the views to draw, to begin from with noise; None: from noise alone.
        sigmas: (steps + 1,) falling, 0 at the end.
        seed: Of noise, which is made on the CPU: the same on every device.
        called: Told of each call of the network.

    Returns:
        (F, 4, h, w) clean latents.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(frames.clean.shape, generator=generator).to(frames.clean)

    x = frames.clean.clone()
    if start is not None:
        x[~frames.inputs] = start[frames.shown]
    x = x + float(sigmas[0]) * noise()
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        raised = sigma + STEP_UP
        x = x + (raised**2 - sigma**2) ** 0.5 * noise()
        clean = scene.denoised(frames, x, torch.full((len(x),), raised, device=x.device), called)
        x = x + (x - clean) / raised * (following - raised)
    return x


def _weight_file(weights: str | Path) -> Path:
    if str(weights) == "seva" and not Path(weights).exists():
        return store.require("seva")
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path
    found = next((path / name for name in _FILES if (path / name).is_file()), None)
    if found is None:
        raise UserError(f"{path} holds no {_FILES[0]}. Give the folder or file of the published weights of seva")
    return found


def _filled(state: Mapping[str, Tensor], settings: UNetSettings | None, dtype: torch.dtype, file: Path) -> SevaUNet:
    """The network with the tensors of a file in it; memory is taken once."""
    with torch.device("meta"):
        network = SevaUNet(settings)
    check_manifest(state, network, what=f"of seva in {file.name}")
    network.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return network
