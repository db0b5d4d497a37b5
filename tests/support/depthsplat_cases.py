"""DepthSplat's network with weights by recipe, and what went through its parts, named as in tests/goldens/depthsplat/README.md."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from support.noise_views import noise_views
from support.recipe_weights import fill
from torch import Tensor, nn

from sparse3d.init.networks.depthsplat.gaussians import published_gaussians
from sparse3d.init.networks.depthsplat.layout import CANDIDATES, PRIORS, Layout
from sparse3d.init.networks.depthsplat.network import DepthSplat

FOLDER = Path(__file__).resolve().parents[1] / "goldens" / "depthsplat"
NEAR, FAR = 0.5, 100.0
SMALL = Layout(PRIORS[384], scales=1, coarsest=4)
LAYOUTS = {  # of the published checkpoints, by their names in the manifests
    "small": SMALL,
    "base": Layout(PRIORS[768], scales=2, coarsest=4),
    "large": Layout(PRIORS[1024], scales=2, coarsest=4),
    "base_quarter": Layout(PRIORS[768], scales=2, coarsest=8),
    "small_eighth": Layout(PRIORS[384], scales=1, coarsest=8),
}


def manifests() -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of a checkpoint's tensors, without `encoder.` in front, for each of `LAYOUTS`."""
    stored = json.loads(gzip.decompress((FOLDER / "manifests.json.gz").read_bytes()))
    return {
        which: {name.removeprefix("encoder."): tuple(shape) for name, shape in tensors.items()}
        for which, tensors in stored.items()
    }


def shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """What our network of a layout needs."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in DepthSplat(layout).state_dict().items()}


@cache
def weights(layout: Layout) -> dict[str, Tensor]:
    """By recipe, without `encoder.` in front, as the goldens were made with."""
    values = fill({f"encoder.{name}": shape for name, shape in shapes(layout).items()})
    return {name.removeprefix("encoder."): torch.from_numpy(value) for name, value in values.items()}


class Run:
    """One pass of the network over views of noise, and every array that goldens may hold."""

    def __init__(self, layout: Layout, views: int, height: int, width: int, dtype: torch.dtype) -> None:
        with torch.device("meta"):
            network = DepthSplat(layout)
        network.load_state_dict(weights(layout), assign=True)
        network.to(dtype).eval()
        self.arrays: dict[str, Tensor] = {}
        self._watch(network)
        images, c2w, K = (value.to(dtype) for value in noise_views(views, height, width))
        with torch.no_grad():
            raw, depths, opacities, _ = network(images, c2w, K, NEAR, FAR)
        made = published_gaussians(raw, depths[..., None], opacities[..., None], c2w, K)
        self.arrays |= {
            "depth": depths,
            "opacities": made.opacities,
            "scales": made.scales,
            "rotations_xyzw": made.rotations,
            "means": made.means,
            "covariances": made.covariances,
            "harmonics": made.harmonics,
        }

    def _watch(self, network: DepthSplat) -> None:
        predictor, found = network.depth_predictor, self.arrays

        def keep(module: nn.Module, name: str) -> None:
            module.register_forward_hook(lambda _, given, out: found.update({name: out}))

        for scale in range(network.layout.scales):
            count = CANDIDATES >> 2 * scale
            predictor.regressor[scale].register_forward_pre_hook(
                lambda _, given, scale=scale, count=count: found.update({f"cost_volume{scale}": given[0][:, :count]})
            )
            predictor.depth_head[scale].register_forward_pre_hook(
                lambda _, given, scale=scale: found.update({f"refined{scale}": given[0]})
            )
            keep(predictor.depth_head[scale], f"logits{scale}")
        if network.layout.scales > 1:
            predictor.mono_pyramid.register_forward_hook(
                lambda _, given, out: found.update({f"mono{scale}": m for scale, m in enumerate(out)})
            )

        def features(_: nn.Module, given: tuple) -> None:
            found.update({f"cnn{i}": m for i, m in enumerate(reversed(given[0].convolved))})
            found.update({f"transformer{i}": m for i, m in enumerate(given[0].matched)})
            found.update({f"vit{i}": m for i, m in enumerate(given[0].prior)})

        network.feature_upsampler.register_forward_pre_hook(features)
        predictor.upsampler.register_forward_pre_hook(lambda _, given: found.update(coarse_disparity=given[1]))
        keep(predictor.upsampler, "disparity_residual")
        keep(network.feature_upsampler, "features")
        keep(network.gaussian_regressor, "regressed")
        keep(network.gaussian_head, "raw")


def sampled(values: Tensor, count: int) -> Tensor:
    """The entries of an array that goldens hold, so many of them."""
    flat = values.reshape(-1)
    return flat[torch.from_numpy(np.arange(count) * (flat.numel() - 1) // (count - 1))]
