"""Depth by networks that come with packages of their own: MoGe-2 and Depth Anything 3. What is written here was read in their repositories.

Neither was run with its published weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.lift.depth import DepthModel, PhotoDepth, resized, unit_median
from sparse3d.models.fetch import offline
from sparse3d.pose.networks import depth_anything3
from sparse3d.pose.networks.weights import Package, Published, import_network, load_model, prints_to_stderr

_MOGE = Package("MoGe-2", "moge", "pip install git+https://github.com/microsoft/MoGe.git")
_MOGE_WEIGHTS = Published("Ruicheng/moge-2-vitl-normal", "MIT", restricted=False)
_DA3_WEIGHTS = Published("depth-anything/DA3MONO-LARGE", "Apache-2.0", restricted=False)
_DA3_SIZE = 504  # longer side that it sees, pixels: the package's process_res
_DA3_FOCAL = 300.0  # pixels: that of the camera which DA3METRIC's depth is for (README, "metric depth")
_SKY = 0.3  # of Depth Anything 3's sky map: from here on it is sky, as the package has it


@dataclass(frozen=True)
class MoGe2:
    """MoGe-2 (Wang et al. 2025, arXiv:2507.02546): depth in metres and a field of view; the sky is masked out."""

    model: Any  # moge.model.v2.MoGeModel
    name: str
    licence: str

    @classmethod
    def load(cls, weights: str = "") -> MoGe2:
        """From a hub id or a model.pt; the authors' large one when empty.

        Raises:
            UserError: the package or the weights are missing.
        """
        needs = f"the weights {_MOGE_WEIGHTS.hub_id} ({_MOGE_WEIGHTS.license})"
        found = import_network(_MOGE, "moge.model.v2", needs)
        source = weights or _MOGE_WEIGHTS.hub_id
        options = {} if Path(source).exists() else {"local_files_only": offline() is not None}
        try:
            with prints_to_stderr():
                model = found.MoGeModel.from_pretrained(source, **options)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(_unloadable(_MOGE, source, _MOGE_WEIGHTS, error)) from error
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return cls(model, f"MoGe-2 ({source})", "that of its weights" if weights else _MOGE_WEIGHTS.license)

    def __call__(self, image: Tensor, focal: float | None = None) -> PhotoDepth:
        """As `DepthModel`. A focal length that is known is told to the network, else the network's own comes back."""
        width = image.shape[2]
        options: dict[str, Any] = {"use_fp16": torch.cuda.is_available()}
        if focal is not None:
            options["fov_x"] = math.degrees(2 * math.atan(0.5 * width / focal))
        with prints_to_stderr():
            found = self.model.infer(image.to(next(self.model.parameters()).device), **options)
        depth = found["depth"].float().cpu()
        depth = torch.where(depth.isfinite() & (depth > 0), depth, torch.inf)
        own = float(found["intrinsics"][0, 0]) * width  # relative to the picture's width
        metric = hasattr(self.model, "scale_head")
        _check(depth, self.name)
        return PhotoDepth(depth if metric else unit_median(depth), metric, self.name, self.licence, focal or own)


@dataclass(frozen=True)
class DepthAnything3:
    """Depth Anything 3 (Lin et al. 2025, arXiv:2511.10647): depth, not disparity, up to a scale; of some models in metres; some know the sky."""

    model: Any  # depth_anything_3.api.DepthAnything3
    name: str
    licence: str

    @classmethod
    def load(cls, weights: str = "") -> DepthAnything3:
        """From a hub id or folder; DA3MONO-LARGE when empty.

        Raises:
            UserError: the package or the weights are missing.
        """
        needs = f"the weights {_DA3_WEIGHTS.hub_id} ({_DA3_WEIGHTS.license})"
        api = import_network(depth_anything3.PACKAGE, "depth_anything_3.api", needs)
        model = load_model(api.DepthAnything3, depth_anything3.PACKAGE, _DA3_WEIGHTS, weights or None)
        name = f"Depth Anything 3 ({weights or _DA3_WEIGHTS.hub_id})"
        return cls(model, name, "that of its weights" if weights else _DA3_WEIGHTS.license)

    def __call__(self, image: Tensor, focal: float | None = None) -> PhotoDepth:
        """As `DepthModel`.

        The package says whether depth is in metres (`is_metric`, of the nested models). DA3METRIC's is that of a camera with a focal length of 300
        pixels, and is scaled by the one that is known; without one it stays relative.
        """
        height, width = image.shape[1:]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        picture = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        with torch.no_grad(), prints_to_stderr():
            self.model.to(device)
            self.model.device = device  # the package remembers the device of its first call
            found = self.model.inference([picture], process_res=_DA3_SIZE, process_res_method="upper_bound_resize")
        depth = torch.as_tensor(found.depth)[0].float()
        seen = depth.shape[1] / width  # how much smaller what it saw is
        own = getattr(found, "intrinsics", None)
        own = None if own is None else float(torch.as_tensor(own)[0, 0, 0]) / seen
        metric = bool(getattr(found, "is_metric", 0))
        known = focal or own
        if not metric and "METRIC" in self.name.upper() and known:
            depth, metric = depth * known * seen / _DA3_FOCAL, True
        depth = torch.where(depth.isfinite() & (depth > 0), depth, torch.inf)
        if (sky := getattr(found, "sky", None)) is not None:
            depth = torch.where(torch.as_tensor(sky)[0].float() >= _SKY, torch.inf, depth)
        _check(depth, self.name)
        full = resized(depth, height, width)
        return PhotoDepth(full if metric else unit_median(full), metric, self.name, self.licence, known)


PACKAGES: dict[str, Callable[[str], DepthModel]] = {"moge-2": MoGe2.load, "depth-anything-3": DepthAnything3.load}


def by_package(chosen: str) -> DepthModel | None:
    """The network of `NAME` or `NAME:WEIGHTS`; None where the name is of no package."""
    name, _, weights = chosen.partition(":")
    return PACKAGES[name](weights) if name in PACKAGES else None


def _check(depth: Tensor, name: str) -> None:
    if not bool(depth.isfinite().any()):
        raise UserError(f"the depth network {name} finds no depth in this picture; its weights may be broken")


def _unloadable(package: Package, source: str, published: Published, error: Exception) -> str:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{package.title}: the weights {source} could not be loaded: {said}. Needed is model.pt of https://huggingface.co/{published.hub_id}, by that id "
        "where the hub can be reached, or as a file. --depth-model geometric needs none"
    )
