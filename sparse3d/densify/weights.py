"""How often the optimization looks at a drawn view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparse3d.config import OptimizeConfig


def with_drawn(photos: Sequence[float], drawn: int, share: float) -> tuple[float, ...]:
    """The share of the rounds that each view takes part in, photos first, so that `share` of all steps look at a drawn one.

    Args:
        photos: How much each photo counts, in (0, 1].
        drawn: Number of drawn views.
        share: In [0, 1). Few drawn views may have less: none takes part more than once in a round.
    """
    if drawn == 0:
        return tuple(photos)
    each = share / (1 - share) * sum(photos) / drawn
    return (*photos, *[min(1.0, each)] * drawn)


def with_steps(config: OptimizeConfig, drawn: int, share: float) -> OptimizeConfig:
    """Settings with as many more steps as look at drawn views: the photos keep theirs."""
    return replace(config, steps=round(config.steps / (1 - share))) if drawn else config
