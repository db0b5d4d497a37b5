"""What a network makes of posed views."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparse3d.shapes import check_shapes
from sparse3d.types import Gaussians, View


@dataclass(frozen=True)
class Prediction:
    """Gaussians that a network predicted, with the depth maps behind them."""

    gaussians: Gaussians
    views: tuple[View, ...]  # V, as they were fed: resized and cropped
    depths: Tensor  # (V, H, W) z in camera axes, world units
    confidences: Tensor  # (V, H, W) in [0, 1]
    notes: tuple[str, ...] = ()  # what the user should know about how it came about

    def __post_init__(self) -> None:
        sizes = check_shapes(depths=(self.depths, "V H W"), confidences=(self.confidences, "V H W"))
        fed = {(view.height, view.width) for view in self.views}
        if len(self.views) != sizes["V"] or fed != {(sizes["H"], sizes["W"])}:
            raise ValueError(
                f"{len(self.views)} views of size {sorted(fed)} for {sizes['V']} depth maps of {sizes['H']} x {sizes['W']} pixels"
            )
