"""Pictures of which each pixel counts as far as it may be trusted: those that a prior drew."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparse3d.kernels import cpu_loss
from sparse3d.kernels.cpu_loss import Target


@dataclass(frozen=True)
class Trusted:
    """A picture with the confidence of its pixels.

    What is compared with it is the render where it is trusted, and the picture itself where it is not: p + c (r - p). So a pixel of
    confidence c has c times the L1, and one of confidence 0 pulls at nothing, as a masked one.
    """

    picture: Tensor  # (3, H, W) in the memory of (H, W, 3), as renders are
    confidence: Tensor  # (H, W) in [0, 1]

    @classmethod
    def of(cls, picture: Tensor, confidence: Tensor) -> Trusted:
        """Of a picture (3, H, W)."""
        return cls(picture.permute(1, 2, 0).contiguous().permute(2, 0, 1), confidence)

    def applied(self, rgb: Tensor) -> Tensor:
        """The render as far as the picture may say anything about it. (3, H, W)"""
        return self.picture + self.confidence * (rgb - self.picture)

    def loss_and_gradient(
        self, rgb: Tensor, target: Target, ssim_weight: float, mask: Tensor | None
    ) -> tuple[float, Tensor]:
        """`cpu_loss.loss_and_gradient` of what `applied` gives, with the gradient in `rgb`."""
        loss, gradient = cpu_loss.loss_and_gradient(self.applied(rgb), target, ssim_weight, mask)
        return loss, gradient.mul_(self.confidence)
