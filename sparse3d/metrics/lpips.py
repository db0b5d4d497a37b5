"""LPIPS with VGG-16 (Zhang et al. 2018, arXiv:1801.03924), in plain PyTorch, from weights that the user has fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.models.weights import load_state
from sparse3d.shapes import check_shapes

_BACKBONE = "vgg16-397923af.pth"  # torchvision's file, as torch.hub caches it
_SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # convolutions in torchvision's `features`
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # published with the metric, for images in [-1, 1]

HOW_TO_GET = (
    "LPIPS left out: it needs two weight files. Get them with: sparse3d models fetch lpips. Or set SPARSE3D_LPIPS to a folder "
    f"with {_BACKBONE} (torchvision's VGG-16) and vgg.pth (weights/v0.1 of the lpips package)"
)


class Lpips:
    """Perceptual distance of two images; 0 for equal ones."""

    def __init__(self, backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        """Takes torchvision's VGG-16 state dict and the linear heads of LPIPS v0.1.

        Raises:
            UserError: a tensor is missing; names it.
        """
        try:
            self._convolutions = [
                [(backbone[f"features.{i}.weight"].float(), backbone[f"features.{i}.bias"].float()) for i in layers]
                for layers in _SLICES
            ]
            self._heads = [heads[f"lin{i}.model.1.weight"].float() for i in range(len(_SLICES))]
        except KeyError as error:
            raise UserError(
                f"the LPIPS weight files lack {error}. Needed: {_BACKBONE} of torchvision and vgg.pth of lpips v0.1"
            ) from error

    @classmethod
    def find(cls) -> Lpips | None:
        """The network from SPARSE3D_LPIPS, else from the fetched weights, VGG-16 also from torch.hub's cache; None without both."""
        chosen = os.environ.get("SPARSE3D_LPIPS")
        backbones = [store.path("vgg16"), Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE]
        heads = [store.path("lpips-vgg")]
        if chosen:
            backbones.insert(0, Path(chosen) / _BACKBONE)
            heads.insert(0, Path(chosen) / "vgg.pth")
        backbone = next((file for file in backbones if file and file.is_file()), None)
        head = next((file for file in heads if file and file.is_file()), None)
        if backbone is None or head is None:
            return None
        return cls(load_state(backbone), load_state(head))

    def __call__(self, image: Tensor, target: Tensor) -> float:
        """Distance of two images, (3, H, W) in [0, 1], each side at least 16 px."""
        check_shapes(image=(image, "3 H W"), target=(target, "3 H W"))
        shift, scale = torch.tensor(_SHIFT)[:, None, None], torch.tensor(_SCALE)[:, None, None]
        x = (2 * torch.stack([image, target]) - 1 - shift) / scale
        total = 0.0
        with torch.no_grad():
            for index, (layers, head) in enumerate(zip(self._convolutions, self._heads, strict=True)):
                if index:
                    x = F.max_pool2d(x, 2)
                for weight, bias in layers:
                    x = F.relu(F.conv2d(x, weight, bias, padding=1))
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                total += float(F.conv2d((unit[:1] - unit[1:]) ** 2, head).mean())
        return total
