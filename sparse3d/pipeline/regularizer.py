"""Who takes part in the optimization besides the photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from sparse3d.config import Config
from sparse3d.densify.densify import Plan, plan, query_of
from sparse3d.densify.known import Known
from sparse3d.errors import UserError
from sparse3d.geometry import fitted_size
from sparse3d.io.scene import SceneFolder
from sparse3d.optimize.distilled import Distilled
from sparse3d.optimize.refresh import Refresh
from sparse3d.optimize.regularize import Regularizer
from sparse3d.pipeline.densify_stage import known_of
from sparse3d.priors.base import ScorePrior, ViewPrior
from sparse3d.priors.manager import bound
from sparse3d.priors.names import load_prior, regularizing
from sparse3d.progress import StageReporter
from sparse3d.types import PosedViews


def regularizer_of(
    scene: SceneFolder, training: PosedViews, names: Sequence[str], config: Config, progress: StageReporter
) -> Regularizer | None:
    """The prior that the settings name, ready; None where they name none, and, with a warning, where there is no view to ask it for.

    Raises:
        UserError: no such prior, its weights or packages are missing, or it cannot be what is asked for.
    """
    if config.regularize.kind == "none":
        return None
    prior = load_prior(regularizing(config), progress.warning)
    try:
        known = known_of(scene, training, list(names))
        planned = views_to_ask_for(known, prior, config)
    except UserError as error:
        progress.warning(f"{prior.caps.name} takes no part in the optimization: {error}")
        return None
    return regularizer_with(prior, known, planned, config, progress)


def views_to_ask_for(known: Known, prior: ViewPrior, config: Config) -> Plan:
    """Cameras by the policy of densification, as many and as large as `config.regularize` says.

    Raises:
        UserError: none can be drawn.
    """
    wanted = replace(config.densify, views=config.regularize.views, path="auto")
    size = fitted_size(known.views[0].height, known.views[0].width, config.regularize.max_size)
    return plan(known, size, prior.caps, wanted, torch.Generator().manual_seed(config.seed), again=True)


def regularizer_with(
    prior: ViewPrior, known: Known, planned: Plan, config: Config, progress: StageReporter
) -> Regularizer:
    """A prior with the views that it may be asked for.

    Raises:
        UserError: the prior's network has no score, or takes no low-rank addition where that is asked for.
    """
    kind = config.regularize.kind
    query, seen = query_of(planned, known, config.densify.prompt, config.seed)
    if kind == "refresh":
        return Regularizer(Refresh(prior, query, seen, config.regularize, config.seed, progress), progress)
    if not isinstance(prior, ScorePrior):
        raise UserError(f"--regularizer {kind} needs a prior with a score, and {prior.caps.name} has none")
    way = Distilled(kind, bound(prior, query), prior.caps, query, seen, config.regularize)
    return Regularizer(way, progress)
