"""The priors by the names that the command line knows, and which of them this machine can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sparse3d.config import Config, DensifyConfig
from sparse3d.errors import UserError, did_you_mean
from sparse3d.models import store
from sparse3d.models.registry import lookup
from sparse3d.priors.base import ViewPrior

Warn = Callable[[str], None]

_BEST = "wan-vace"  # what auto takes where it can run: its licence allows any use


def _seva(config: DensifyConfig, warn: Warn) -> ViewPrior:
    from sparse3d.priors.seva import Seva

    if not config.accept_license:
        raise UserError(
            "Stable Virtual Camera is under Stability AI's non-commercial licence: neither its weights nor what is drawn with them may be used "
            "commercially. If your use is allowed, say so with --set densify.accept_license=true"
        )
    return Seva.load(config.weights or "seva", device="cuda" if _gpu_gb() else "cpu", accept=True)


def _pipeline(name: str) -> Callable[[DensifyConfig, Warn], ViewPrior]:
    def load(config: DensifyConfig, warn: Warn) -> ViewPrior:
        prior: ViewPrior = getattr(_module(name), _CLASSES[name]).load(config.weights, warn)
        return prior

    return load


def _classical(config: DensifyConfig, warn: Warn) -> ViewPrior:
    from sparse3d.priors.classical import Classical

    return Classical()


_CLASSES = {"wan-vace": "WanVace", "svd": "Svd", "sana-wm": "SanaWm", "inpaint": "Inpaint"}

_LOADERS: dict[str, Callable[[DensifyConfig, Warn], ViewPrior]] = {
    "classical": _classical,
    **{name: _pipeline(name) for name in _CLASSES},
    "seva": _seva,
}

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
            f"unknown prior {config.prior!r}{did_you_mean(config.prior, NAMES)}; choose none, auto or one of: {', '.join(NAMES)}"
        )
    prior = _LOADERS[config.prior](config, warn)
    if prior.caps.weights is not None and not _gpu_gb():
        warn(f"{config.prior} is a network for a GPU, and this machine shows none: a view may take hours")
    return prior


def resolved(config: DensifyConfig, otherwise: str = "none") -> DensifyConfig:
    """`auto` as what this machine can run: wan-vace where there are a GPU and its weights.

    Args:
        config: Of any prior; only auto is changed.
        otherwise: What auto is where it cannot run.
    """
    if config.prior != "auto":
        return config
    return replace(config, prior=otherwise if why_not(_BEST, config.weights) else _BEST)


def regularizing(config: Config) -> DensifyConfig:
    """Who takes part in the optimization: the prior that `densify.prior` names, classical where it names none.

    Raises:
        UserError: no such prior, or none whose score is at hand where `regularize.kind` needs that.
    """
    named, kind = config.densify, config.regularize.kind
    if named.prior in ("auto", "none"):
        named = replace(named, prior="classical", weights="")
    if kind in ("none", "refresh"):
        return named
    scores = [name for name in NAMES if getattr(_module(name), "SCORE", False)]
    if named.prior not in scores:
        raise UserError(
            f"--regularizer {kind} needs a prior with a score, and {named.prior} has none. Name one with --prior: {', '.join(scores)}; or take "
            "--regularizer refresh"
        )
    return named


def why_not(name: str, weights: str = "") -> str:
    """What keeps this machine from running a prior and what to do about it; empty when nothing does.

    Args:
        name: One of NAMES.
        weights: Those given; the published ones when empty.
    """
    module = _module(name)
    models: tuple[str, ...] = getattr(module, "MODELS", ())
    needed: float = getattr(module, "MEMORY_GB", 0.0)
    lacking = []
    if models and find_spec("diffusers") is None:
        lacking.append("diffusers: pip install 'sparse3d[diffusion]'")
    if not weights:
        lacking += [
            f"weights: sparse3d models fetch {model}{_accept(model)}" for model in models if store.path(model) is None
        ]
    if needed > _gpu_gb():
        lacking.append(f"a GPU with {needed:g} GB")
    return "; ".join(lacking)


def _accept(model: str) -> str:
    return "" if lookup(model).commercial else " --accept-license"


def _module(name: str) -> Any:
    return import_module(f"sparse3d.priors.{name.replace('-', '_')}")


def _gpu_gb() -> float:
    """Memory of the GPU; 0 where there is none."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 0.0
