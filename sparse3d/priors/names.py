"""The priors by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Callable

from sparse3d.config import DensifyConfig
from sparse3d.errors import UserError, did_you_mean
from sparse3d.priors.base import ViewPrior

Warn = Callable[[str], None]


def _classical(config: DensifyConfig, warn: Warn) -> ViewPrior:
    from sparse3d.priors.classical import Classical

    return Classical()


def _svd(config: DensifyConfig, warn: Warn) -> ViewPrior:
    from sparse3d.priors.svd import Svd

    return Svd.load(config.weights, warn)


def _seva(config: DensifyConfig, warn: Warn) -> ViewPrior:
    from sparse3d.priors.seva import Seva

    if not config.accept_license:
        raise UserError(
            "Stable Virtual Camera is under Stability AI's non-commercial licence: neither its weights nor what is drawn with them may be used "
            "commercially. If your use is allowed, say so with --set densify.accept_license=true"
        )
    return Seva.load(config.weights or "seva", device="cuda" if _has_gpu() else "cpu", accept=True)


_LOADERS: dict[str, Callable[[DensifyConfig, Warn], ViewPrior]] = {"classical": _classical, "svd": _svd, "seva": _seva}

NAMES = tuple(_LOADERS)


def load_prior(config: DensifyConfig, warn: Warn) -> ViewPrior:
    """The prior that `config.prior` names, with its weights.

    Args:
        config: `prior`, `weights`.
        warn: Called with what the user should know.

    Raises:
        UserError: no such prior, or its weights or packages are missing; says how to get them.
    """
    if config.prior not in _LOADERS:
        raise UserError(
            f"unknown prior {config.prior!r}{did_you_mean(config.prior, NAMES)}; choose none or one of: {', '.join(NAMES)}"
        )
    prior = _LOADERS[config.prior](config, warn)
    if prior.caps.weights is not None and not _has_gpu():
        warn(f"{config.prior} is a network for a GPU, and this machine shows none: a view may take hours")
    return prior


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
