"""What changes over the steps: learning rate, SH degree, dropout."""

from __future__ import annotations

from sparse3d.config import OptimizeConfig


def exponential(start: float, end: float, step: int, steps: int) -> float:
    """A value that goes from `start` at step 0 to `end` at the last step by equal factors (3DGS, Plenoxels)."""
    share = step / max(1, steps - 1)
    return start ** (1 - share) * end**share


def sh_degree_at(step: int, config: OptimizeConfig) -> int:
    """Degree of spherical harmonics in use: one more every `sh_interval` steps, up to `sh_degree`."""
    return min(config.sh_degree, step // config.sh_interval)


def dropout_at(step: int, config: OptimizeConfig) -> float:
    """Share of Gaussians left out of this step: none at first, then `dropout`."""
    return config.dropout if step >= config.dropout_from * config.steps else 0.0


def shrink_at(step: int, config: OptimizeConfig) -> int:
    """By how much the views are reduced at this step: 2 at first, then 1. Early steps move large shapes, which half the
    pixels show as well in less than half the time."""
    return 2 if step < config.coarse * config.steps else 1
