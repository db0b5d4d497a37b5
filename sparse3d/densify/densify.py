"""Photos and a prior to more views: where to look from, what the prior draws there, what of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse3d.config import Config, DensifyConfig
from sparse3d.densify.accept import REPEATS, Verdict, confirmed, judged
from sparse3d.densify.frontier import Candidate, choose, looked_at, nearest_first
from sparse3d.densify.known import Known, completed_depth
from sparse3d.densify.trajectories import PATHS, ellipse, perturbed, spline
from sparse3d.errors import UserError
from sparse3d.init.initialization import Initialization
from sparse3d.init.initialize import initialize
from sparse3d.kernels.warp import Warp
from sparse3d.priors.base import PriorCaps, Provenance, ViewPrior, ViewQuery
from sparse3d.priors.manager import chunks, draw
from sparse3d.progress import StageReporter
from sparse3d.types import Cameras, PosedViews, View

_EACH_PATH = 24  # candidates along each of the named paths
_REACHES = (
    1.5,
    2.5,
    4.0,
)  # of ellipses beyond the cameras' spread, which go on as long as enough of their views is known
_UNCOVERS = 0.03  # share of new pixels from which a view is worth looking for depth in
_MOST_UNCOVERING = 12  # views that take part in the second initialization: it takes seconds for each


@dataclass(frozen=True)
class Plan:
    """Where new views are to be drawn."""

    c2w: Tensor  # (T, 4, 4) camera to world, in the order of drawing
    K: Tensor  # (3, 3) pixels of height x width
    height: int
    width: int
    ordered: bool  # a path, of which neighbours in the list are neighbours
    left_out: tuple[str, ...] = ()  # cameras of a given path that cannot be drawn, with reasons

    def __len__(self) -> int:
        return len(self.c2w)

    @property
    def cameras(self) -> Cameras:
        """All of them."""
        return Cameras(self.c2w, self.K.expand(len(self), 3, 3), self.height, self.width)

    def calls(self, caps: PriorCaps) -> int:
        """How often a prior is asked."""
        return len(chunks(len(self), caps, self.ordered))


@dataclass(frozen=True)
class Densified:
    """What came of it."""

    verdicts: tuple[Verdict, ...]  # of all views that were drawn
    meta: Provenance
    first: Initialization | None  # first Gaussians anew, where drawn views uncovered something

    @property
    def views(self) -> tuple[View, ...]:
        """Those that are kept."""
        return tuple(verdict.view for verdict in self.verdicts if not verdict.why_not)


def plan(
    known: Known,
    size: tuple[int, int],
    caps: PriorCaps,
    config: DensifyConfig,
    generator: torch.Generator,
    given: Cameras | None = None,
    *,
    again: bool = False,
) -> Plan:
    """Where to look from.

    `config.path` "auto" takes, for a prior that draws pictures one by one, the views out of all named paths and of random
    perturbations that uncover most; for one that draws videos the named path that does.

    Args:
        known: Photos with depth.
        size: Height and width of the views to draw; the first photo's focal length is kept.
        caps: Of the prior.
        config: `views`, `path`.
        generator: Of perturbations.
        given: Cameras of a path of the user's, of any size: these are drawn and no others.
        again: As of `choose`: several views of what is unknown rather than some of what is known.

    Raises:
        UserError: no such path, or no camera of it can be drawn.
    """
    first = known.views[0].cameras.scaled_to(*size)
    K, cameras = first.K[0], known.cameras
    if given is not None:
        looks = looked_at(given.c2w, known, given.scaled_to(*size).K[0], *size)
        return _those(looks, range(len(looks)), given.scaled_to(*size).K[0], size, ordered=True)
    if config.path != "auto":
        if config.path not in PATHS:
            raise UserError(
                f"unknown path {config.path!r}; choose auto or one of {', '.join(PATHS)}, or give a nerfstudio camera path (a .json file)"
            )
        looks = looked_at(PATHS[config.path](cameras, config.views), known, K, *size)
        return _those(looks, range(len(looks)), K, size, ordered=True)
    if caps.frames[1] > 1:
        return _best_path(known, K, size, config.views)
    count = max(_EACH_PATH, config.views // 2)
    pool = [path(cameras, count) for name, path in PATHS.items() if name != "spline" or len(cameras) > 1]
    pool += [ellipse(cameras, count, reach) for reach in _REACHES]
    pool.append(perturbed(cameras, 2 * count, generator))
    looks = looked_at(torch.cat(pool), known, K, *size)
    chosen = choose(looks, config.views, again=again)
    if not chosen:
        raise UserError(_nothing_to_draw(looks))
    order = nearest_first(torch.stack([looks[i].c2w for i in chosen]), cameras)
    return _those(looks, [chosen[i] for i in order], K, size, ordered=False)


def _best_path(known: Known, K: Tensor, size: tuple[int, int], count: int) -> Plan:
    """The named path whose views uncover most, from the photo nearest to its begin to that nearest to its end."""
    best, most = None, -1.0
    for name, path in PATHS.items():
        if name == "spline" and len(known.views) < 2:
            continue
        c2w = path(known.cameras, count)
        c2w = c2w if path is spline else _between_photos(c2w, known.cameras)
        looks = looked_at(c2w, known, K, *size)
        gain = sum(len(look.frontier) for look in looks if not look.why_not) / len(looks)
        if gain > most:
            best, most = looks, gain
    assert best is not None
    return _those(best, range(len(best)), K, size, ordered=True)


def _between_photos(path: Tensor, cameras: Tensor) -> Tensor:
    """The path with its first and last camera replaced by the nearest photographed ones."""
    ends = torch.cdist(path[[0, -1], :3, 3], cameras[:, :3, 3]).argmin(1)
    return torch.cat([cameras[ends[:1]], path[1:-1], cameras[ends[1:]]])


def _those(looks: list[Candidate], chosen: range | list[int], K: Tensor, size: tuple[int, int], ordered: bool) -> Plan:
    kept = [i for i in chosen if not looks[i].why_not]
    if not kept:
        raise UserError(_nothing_to_draw(looks))
    left_out = tuple(f"camera {i + 1}: {looks[i].why_not}" for i in chosen if looks[i].why_not)
    return Plan(torch.stack([looks[i].c2w for i in kept]), K, *size, ordered, left_out)


def _nothing_to_draw(looks: list[Candidate]) -> str:
    reasons = sorted({look.why_not for look in looks})
    return (
        f"none of the {len(looks)} cameras can be drawn: {'; '.join(reasons[:3])}. Give a path that stays nearer to where the photos were taken, "
        "or leave out --path"
    )


def query_of(planned: Plan, known: Known, prompt: str, seed: int) -> tuple[ViewQuery, list[Warp]]:
    """The question that a plan asks, and what the photos show of each of its views. A camera of a photo is that photo."""
    height, width = planned.height, planned.width
    sources = known.at(max(height, width))
    warps = [sources.seen_from(Cameras(c2w[None], planned.K[None], height, width)) for c2w in planned.c2w]
    rgb = torch.stack([warp.color for warp in warps])
    conf = torch.stack([warp.validity[None] for warp in warps])
    pictures = [view.resized(height, width) for view in sources.views]
    for index, c2w in enumerate(planned.c2w):
        for view in pictures:
            if torch.allclose(view.c2w, c2w, atol=1e-6) and torch.allclose(view.K, planned.K, rtol=1e-4):
                rgb[index], conf[index] = view.image, 1.0
    photos = Cameras(torch.stack([v.c2w for v in pictures]), torch.stack([v.K for v in pictures]), height, width)
    return (
        ViewQuery(
            cond_rgb=torch.stack([view.image for view in pictures]),
            cond_cams=photos,
            target_cams=planned.cameras,
            ordered=planned.ordered,
            render_rgb=rgb,
            render_conf=conf,
            render_depth=torch.stack([completed_depth(warp, known.far)[None] for warp in warps]),
            cond_depth=_depths(sources, height, width),
            prompt=prompt,
            seed=seed,
        ),
        warps,
    )


def _depths(known: Known, height: int, width: int) -> Tensor:
    nearest = torch.nn.functional.interpolate
    return torch.stack([nearest(d[None, None], (height, width), mode="nearest-exact")[0] for d in known.depths])


def densify(
    training: PosedViews,
    known: Known,
    planned: Plan,
    prior: ViewPrior,
    config: Config,
    progress: StageReporter,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Densified:
    """Views that a prior draws, as far as photos and each other speak for them.

    Views that uncover something take part in a second initialization: where no photo shows a pixel it is trusted as far as several drawn
    views give it one depth, and gets Gaussians to start from.

    Args:
        training: The photos.
        known: They with their depth.
        planned: Where to look from.
        prior: Who draws.
        config: `densify`, `init`, `seed`.
        progress: Told what is drawn and kept.
        stop: Asked after each call of the prior; True stops.

    Raises:
        Stopped: `stop` said so.
    """
    query, warps = query_of(planned, known, config.densify.prompt, config.seed)
    progress.start(f"{len(query)} views by {prior.caps.name}", total=100)

    def on_step(done: int, total: int) -> bool:
        progress.step(round(90 * done / max(total, 1)), 100)
        return not stop()

    drawn = draw(prior, query, strength=config.densify.strength, steps=config.densify.steps, on_step=on_step)
    verdicts = []
    for index, warp in enumerate(warps):
        view = View(f"drawn {index + 1:03d}", drawn.rgb[index], planned.K, planned.c2w[index], generated=True)
        verdict = judged(view, drawn.conf[index, 0], warp)
        verdicts.append(replace(verdict, new=0.0, why_not=REPEATS) if query.known[index] else verdict)  # a photo itself
    uncovering = sorted(
        (i for i, v in enumerate(verdicts) if not v.why_not and v.new >= _UNCOVERS), key=lambda i: -verdicts[i].new
    )
    first = None
    if chosen := sorted(uncovering[:_MOST_UNCOVERING]):
        progress.note(
            f"{len(uncovering)} of {len(verdicts)} views uncover something; looking for depth in {len(chosen)} of them"
        )
        views = PosedViews(
            (*training.views, *(replace(verdicts[i].view, confidence=None) for i in chosen)), training.points
        )
        first = initialize(views, config.init, progress, torch.Generator().manual_seed(config.seed))
        maps = {found.view.name: found for found in first.maps}
        found = [maps[verdicts[i].view.name] for i in chosen]
        for i, verdict in zip(
            chosen, confirmed([verdicts[i] for i in chosen], found, [warps[i].validity for i in chosen]), strict=True
        ):
            verdicts[i] = verdict
    return Densified(tuple(verdicts), drawn.meta, first)
