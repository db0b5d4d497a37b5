"""Pairs of a view as few photos show it and the truth, made by our own reconstruction: what the render fixer learns from.

Of each set some photos are kept back. The others go through initialization as they would in use; what they show of the held-out cameras, by
the depth that was found (right or wrong), stands beside the held-out photo. In some sets Gaussians are optimized for a while and drawn
instead: needles, floaters, blur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.config import Config, InitConfig, OptimizeConfig
from sparse3d.densify.densify import Plan, query_of
from sparse3d.densify.known import Known
from sparse3d.errors import UserError
from sparse3d.init.depth_map import sampled, world_points
from sparse3d.init.initialization import Initialization, Origin
from sparse3d.init.initialize import initialize
from sparse3d.io.folders import output_folder
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import load_views
from sparse3d.optimize.loop import look_of, optimize
from sparse3d.pipeline.pose_stage import POSE
from sparse3d.priors.base import ViewQuery
from sparse3d.priors.builtin import conditions
from sparse3d.progress import StageReporter
from sparse3d.render import drawer, rasterizer
from sparse3d.train.data import in_parallel, views_of
from sparse3d.train.shards import facts_of, read_shard, write_shard
from sparse3d.train.textures import choice, uniform
from sparse3d.types import Points, PosedViews, View

_POINTS = 80  # pixels of each photo whose depth stands in for structure from motion
_SAME = 0.01  # relative depth up to which another photo sees such a point
_STEPS = (60, 300)  # of the optimization, from half-baked to memorized
_SEEN = 0.3  # share of a held-out view that the others must show
_SHOTS = 24  # drawings of lots for each scene folder


@dataclass(frozen=True)
class PairPlan:
    """What pairs to make."""

    targets: int = 3  # held-out views of each set at most
    optimized: float = 0.3  # share of the sets whose Gaussians are optimized and drawn
    height: int = 240  # pixels; of real photos, which are cut to this shape
    width: int = 320
    seed: int = 0


def make_pairs(
    shards: Sequence[Path], scenes: Sequence[Path], plan: PairPlan, folder: Path, workers: int, progress: StageReporter
) -> int:
    """Writes a shard of pairs for each shard of procedural scenes and each scene folder, leaving out those that are there.

    Args:
        shards: Folders of `sparse3d train data`.
        scenes: Scene folders with cameras, of photos whose licence allows training.
        plan: What to make.
        folder: Made when missing.
        workers: Processes.
        progress: Told each shard.

    Returns:
        Shards that were made.

    Raises:
        UserError: nothing to make pairs of, or a scene folder without cameras.
    """
    sources = [path for given in shards for path in sorted(given.glob("*.safetensors"))]
    for given in scenes:
        if not (SceneFolder.open(given).stage_path(POSE[0])).is_dir():
            raise UserError(f"{given} has no cameras yet. Find them with: sparse3d pose PHOTOS -o {given}")
    sources += list(scenes)
    if not sources:
        raise UserError(
            "nothing to make pairs of: give folders of `sparse3d train data` or scene folders with --photos"
        )
    jobs: list[tuple[object, ...]] = []
    for number, source in enumerate(sources):
        facts = {
            "source": source.name,
            "seed": plan.seed + number,
            "plan": [plan.targets, plan.optimized, plan.height, plan.width],
        }
        path = output_folder(folder) / f"pairs-{number:05d}.safetensors"
        if facts_of(path) != facts:
            jobs.append((path, source, replace(plan, seed=plan.seed + number), facts))
    in_parallel(_write, jobs, workers, progress, "pairs")
    return len(jobs)


def _write(path: Path, source: Path, plan: PairPlan, facts: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(plan.seed * 7_919 + 1)
    if source.is_dir():
        posed = framed(load_views(SceneFolder.open(source).stage_path(POSE[0])), plan.height, plan.width)
        sets = [(posed, None)] * _SHOTS
    else:
        tensors = read_shard(source, "scenes")
        samples = [{name: value[row] for name, value in tensors.items()} for row in range(len(tensors["K"]))]
        sets = [with_points(views_of(sample), sample["depth"].float(), generator) for sample in samples]
    found = [pair for posed, seen in sets for pair in pairs_of(posed, plan, generator, seen)]
    if not found:
        raise UserError(f"no photo of {source} is shown well enough by others to make a pair; leave it out")
    write_shard(path, "pairs", {name: torch.stack([pair[name] for pair in found]) for name in found[0]}, facts)


def with_points(
    views: Sequence[View], depths: Tensor, generator: torch.Generator
) -> tuple[PosedViews, tuple[float, float]]:
    """Views with sparse points as structure from motion would give, and the nearest and farthest depth of all."""
    xyz, tracks = [], []
    for at, (view, depth) in enumerate(zip(views, depths, strict=True)):
        known = torch.nonzero(depth.flatten() > 0)[:, 0]
        chosen = known[torch.randperm(len(known), generator=generator)[:_POINTS]]
        points = world_points(view, depth).reshape(-1, 3)[chosen]
        seen = torch.zeros(len(views), len(points), dtype=torch.bool)
        seen[at] = True
        for other, (there_view, there_depth) in enumerate(zip(views, depths, strict=True)):
            there, z = sampled(there_depth, there_view, points)
            seen[other] |= (there > 0) & ((there - z).abs() < _SAME * z)
        for point, column in zip(points, seen.T, strict=True):
            if int(column.sum()) > 1:
                xyz.append(point)
                tracks.append(tuple(views[k].name for k in torch.nonzero(column)[:, 0].tolist()))
    if not xyz:
        points_of = Points.none()
    else:
        points_of = Points(
            torch.stack(xyz), torch.full((len(xyz), 3), 0.5), torch.full((len(xyz),), 0.5), tuple(tracks)
        )
    everywhere = depths[depths > 0]
    return PosedViews(tuple(views), points_of), (float(everywhere.min()), float(everywhere.max()))


def framed(posed: PosedViews, height: int, width: int) -> PosedViews:
    """Views at one size: shrunk until one side fits, the middle of the other taken. Views that are too small are left out."""
    kept = []
    for view in posed.views:
        scale = max(height / view.height, width / view.width)
        if scale > 1:
            continue
        small = view.resized(max(height, round(view.height * scale)), max(width, round(view.width * scale)))
        top, left = (small.height - height) // 2, (small.width - width) // 2
        K = small.K.clone()
        K[0, 2] -= left
        K[1, 2] -= top
        cut = lambda values, t=top, el=left: values[..., t : t + height, el : el + width]
        mask = None if small.mask is None else cut(small.mask)
        kept.append(View(view.name, cut(small.image).clone(), K, view.c2w, mask))
    return PosedViews(tuple(kept), posed.points)


def pairs_of(
    posed: PosedViews, plan: PairPlan, generator: torch.Generator, near_far: tuple[float, float] | None = None
) -> list[dict[str, Tensor]]:
    """Pairs of one drawing of lots: 2 to 4 photos to reconstruct from, others to compare with.

    Args:
        posed: Views of one size.
        plan: Targets, and how often Gaussians are optimized.
        generator: Of the lots.
        near_far: Depth range where there are too few points to tell; as initialization has it when None.

    Returns:
        known (16, H, W) uint8 as `priors.builtin.conditions`, truth (3, H, W) uint8; none when nothing can be matched.
    """
    names = posed.names
    if len(names) < 3:
        return []
    count = min(2 + choice(generator, 3), len(names) - 1)
    # a run of neighbours: the first among them anywhere, the others nearest to it
    centres = torch.stack([view.c2w[:3, 3] for view in posed.views])
    first = choice(generator, len(names))
    near = (centres - centres[first]).norm(dim=1).argsort().tolist()
    pool = near[: min(len(names), count + 2 * plan.targets)]
    order = [pool[k] for k in torch.randperm(len(pool), generator=generator).tolist()]
    training = posed.only([names[k] for k in order[:count]])
    targets = [posed.views[k] for k in order[count : count + plan.targets]]
    width = max(view.width for view in training.views)
    config = InitConfig(max_size=width)
    if len(training.points) < 30 and near_far is not None:
        config = replace(config, near=near_far[0] / 1.1, far=near_far[1] * 1.1)
    try:
        found = initialize(training, config, StageReporter("init"))
        known = Known.of([m.view for m in found.maps], [m.depth for m in found.maps])
    except (UserError, ValueError):  # cameras too far apart, or nothing to match: no pair
        return []
    asked = [_question(target, known) for target in targets]
    if uniform(generator) < plan.optimized:
        asked = _drawn(found, training, asked, generator)
    pairs = []
    for target, query in zip(targets, asked, strict=True):
        if query.render_conf is None or float((query.render_conf > 0).float().mean()) < _SEEN:
            continue
        if target.mask is not None and not bool(target.mask.all()):
            continue
        pairs.append({"known": _bytes(conditions(query, 0)), "truth": _bytes(target.image)})
    return pairs


def _question(target: View, known: Known) -> ViewQuery:
    """What a prior is asked about a held-out camera."""
    planned = Plan(target.c2w[None], target.K, target.height, target.width, ordered=False)
    return query_of(planned, known, "", 0)[0]


def _drawn(
    found: Initialization, training: PosedViews, asked: Sequence[ViewQuery], generator: torch.Generator
) -> list[ViewQuery]:
    """The questions with renders of half-optimized Gaussians instead of warps; trusted as far as they are opaque."""
    steps = _STEPS[0] + choice(generator, _STEPS[1] - _STEPS[0])
    config = OptimizeConfig(steps=steps, refine_cameras="off", exposure="off")
    backend = Config().renderer
    fit = optimize(
        found.gaussians,
        training.views,
        config,
        rasterizer(backend),
        generator=generator,
        progress=StageReporter("optimize"),
        guessed=found.start.origin == int(Origin.GUESSED),
    )
    draw = drawer(fit.gaussians, look_of(training.views, config), backend)
    queries = []
    for query in asked:
        rendered = draw(query.target_cams)
        conf = torch.where(rendered.alpha > 0.05, rendered.alpha, 0.0).clamp(0, 1)
        queries.append(replace(query, render_rgb=rendered.image.clamp(0, 1), render_conf=conf[:, None]))
    return queries


def _bytes(values: Tensor) -> Tensor:
    return (255 * values.clamp(0, 1) + 0.5).byte()
