"""A lifted photo grown outwards: views around it drawn by a prior, of which only what is new is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.config import Config
from sparse3d.densify.accept import REPEATS, Verdict, judged
from sparse3d.densify.densify import Densified
from sparse3d.densify.known import Known, completed_depth
from sparse3d.geometry import fitted_size
from sparse3d.init.initialization import Origin, Start
from sparse3d.kernels.warp import Warp
from sparse3d.lift.align import aligned
from sparse3d.lift.depth import DepthModel
from sparse3d.lift.layers import SHELL, Layers, gaussians_of
from sparse3d.lift.path import rings, scaffold, spiral_out
from sparse3d.priors.base import Provenance, ViewPrior, ViewQuery
from sparse3d.priors.manager import draw
from sparse3d.progress import StageReporter
from sparse3d.types import Cameras, View

_SHOWN = 0.5  # validity below which a pixel is new
_LOOK = 160  # longer side of the pictures in which the unseen is counted, pixels
_AROUND = 8  # of them
_CRACK = 3  # pixels, odd: what is narrower is no hole but a seam of the warp


@dataclass(frozen=True)
class Grown:
    """What came of it."""

    start: Start  # Gaussians of the photo's layers and of what was added
    densified: Densified  # all drawn views
    added: int  # Gaussians


def grow(
    photo: View,
    made: Layers,
    start: Start,
    prior: ViewPrior,
    config: Config,
    *,
    radius: float,
    distance: float,
    depth_of: DepthModel | None,
    progress: StageReporter,
) -> Grown:
    """Draws views around a photo, nearest first, each with all that came before (LucidDreamer, arXiv:2311.13384; Text2Room, arXiv:2303.11989).

    A prior of single pictures first fills the surroundings of the photo in one wider view, then rings of views one by one; one of videos
    draws a spiral that begins with the photo. What is new of a view has the depth that a network sees in it, brought to what is known
    (`align.aligned`), or that of what lies around, and gets Gaussians; a view that contradicts what is known is left out.

    Args:
        photo: With its camera.
        made: Its layers.
        start: Their Gaussians.
        prior: Who draws.
        config: `densify` for the prior, `lift.views`, `lift.stride`, `seed`.
        radius: How far cameras go, world units.
        distance: Of what they look at, world units.
        depth_of: Tells depth of drawn pictures; None where nobody does.
        progress: Told what is drawn.
    """
    sources = _sources(photo, made)
    far = SHELL * float(made.front.max()) if bool((made.front > 0).any()) else distance
    parts, verdicts, metas = [start], list[Verdict](), list[Provenance]()
    sequences = _sequences(photo, prior, distance, radius, config.lift.views)
    total = sum(len(cameras) for cameras in sequences)
    progress.start(f"{total} views around the photo by {prior.caps.name}", total=total)
    for cameras in sequences:
        query = _asked(photo, sources, cameras, far, config.densify.prompt, config.seed + len(verdicts))
        drawn = draw(prior, query, strength=config.densify.strength, steps=config.densify.steps)
        metas.append(drawn.meta)
        for index, camera in enumerate(_each(cameras)):
            seen = _seen(sources, camera)
            name = f"drawn {len(verdicts) + 1:03d}"
            view = View(name, drawn.rgb[index], camera.K[0], camera.c2w[0], generated=True)
            verdict = _held(judged(view, drawn.conf[index, 0], seen), drawn.conf[index, 0], seen)
            verdicts.append(verdict)
            progress.step(len(verdicts), total)
            new = _opened(seen.validity < _SHOWN)
            if verdict.why_not or not new.any():
                continue
            depth = torch.where(new, _depth(verdict.view, seen, far, depth_of), 0.0)
            sources.append((verdict.view, depth))
            parts.append(Start.of(gaussians_of(verdict.view, depth, config.lift.stride), Origin.FILLED))
    calls, seconds = sum(meta.calls for meta in metas), sum(meta.seconds for meta in metas)
    meta = replace(metas[0], calls=calls, seconds=seconds)
    joined = Start.joined(parts)
    return Grown(joined, Densified(tuple(verdicts), meta, None), len(joined) - len(start))


def unseen(photo: View, made: Layers, radius: float, distance: float) -> float:
    """Share of a picture that the photo does not show, in the mean over cameras that look from `radius` away."""
    shown = _sources(photo, made)[:1]
    cameras = [photo.cameras.scaled_to(*fitted_size(photo.height, photo.width, _LOOK))] * _AROUND
    around = rings(photo, distance, radius, _AROUND, used=1)
    seen = [_seen(shown, replace(camera, c2w=c2w[None])) for camera, c2w in zip(cameras, around, strict=True)]
    return float(torch.stack([(found.validity < _SHOWN).float().mean() for found in seen]).mean())


Source = tuple[View, Tensor]  # a picture and its depth (H, W), 0 where it shows nothing


def _sources(photo: View, made: Layers) -> list[Source]:
    whole = torch.where(made.front > 0, made.front, made.sky)
    found = [(photo, whole)]
    if bool((made.behind > 0).any()):
        found.append((replace(photo, image=made.behind_color, name=f"{photo.name} behind"), made.behind))
    return found


def _sequences(photo: View, prior: ViewPrior, distance: float, radius: float, views: int) -> list[Cameras]:
    """What is drawn together."""
    if prior.caps.frames[1] > 1:
        path = spiral_out(photo, distance, radius, views + 1)
        return [Cameras(path, photo.K.expand(len(path), 3, 3), photo.height, photo.width)]
    around = rings(photo, distance, radius, views)
    return [scaffold(photo), *(Cameras(c2w[None], photo.K[None], photo.height, photo.width) for c2w in around)]


def _seen(sources: list[Source], camera: Cameras) -> Warp:
    views, depths = zip(*sources, strict=True)
    return Known(tuple(views), tuple(depths), 1.0).seen_from(camera)


def _each(cameras: Cameras) -> list[Cameras]:
    """One by one."""
    return [
        Cameras(c2w[None], K[None], cameras.height, cameras.width)
        for c2w, K in zip(cameras.c2w, cameras.K, strict=True)
    ]


def _asked(photo: View, sources: list[Source], cameras: Cameras, far: float, prompt: str, seed: int) -> ViewQuery:
    """The question: the photo, and what is known so far of each view. The photo's own camera is the photo."""
    warps = [_seen(sources, camera) for camera in _each(cameras)]
    rgb = torch.stack([warp.color for warp in warps])
    conf = torch.stack([warp.validity[None] for warp in warps])
    for index, (c2w, K) in enumerate(zip(cameras.c2w, cameras.K, strict=True)):
        if torch.equal(c2w, photo.c2w) and torch.equal(K, photo.K):
            rgb[index], conf[index] = photo.image, 1.0
    return ViewQuery(
        cond_rgb=photo.image[None],
        cond_cams=photo.cameras,
        target_cams=cameras,
        ordered=len(cameras) > 1,
        render_rgb=rgb,
        render_conf=conf,
        render_depth=torch.stack([completed_depth(warp, far)[None] for warp in warps]),
        prompt=prompt,
        seed=seed,
    )


def _held(verdict: Verdict, conf: Tensor, seen: Warp) -> Verdict:
    """The view with what is known in its place, which counts as far as it is shown. What the prior drew counts as far as it says."""
    shown = (seen.validity / _SHOWN).clamp(0, 1)
    image = shown * seen.color + (1 - shown) * verdict.view.image
    trust = shown * seen.validity + (1 - shown) * conf * verdict.agreement
    why_not = "" if verdict.why_not == REPEATS else verdict.why_not  # it still says how the photo looks from there
    return replace(verdict, view=replace(verdict.view, image=image, confidence=trust), why_not=why_not)


def _depth(view: View, seen: Warp, far: float, depth_of: DepthModel | None) -> Tensor:
    """Depth of a drawn view: a network's that agrees with what is known, else that of what lies around. (H, W)"""
    around = completed_depth(seen, far)
    if depth_of is None:
        return around
    found = depth_of(view.image, float(view.K[0, 0])).depth
    brought = aligned(found, torch.where(seen.validity > _SHOWN, seen.depth, 0.0), seen.validity)
    return torch.where(brought.isfinite(), brought, torch.full_like(brought, far))


def _opened(mask: Tensor) -> Tensor:
    """Without what is narrower than _CRACK. (H, W) bool"""
    pool: Callable[[Tensor], Tensor] = lambda values: F.max_pool2d(values[None], _CRACK, 1, _CRACK // 2)[0]
    inner = 1 - pool(1 - mask.float())
    return pool(inner) > 0
