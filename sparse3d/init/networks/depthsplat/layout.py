"""The networks that DepthSplat was published as: one architecture in four resolutions of its features, three sizes of its prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sparse3d.errors import UserError

CANDIDATES = 128  # inverse depths at the coarsest scale; a quarter of them at the next
MATCHING = 128  # channels of the features that are matched; half of them at the next scale
_FINEST_LEVEL = "feature_upsampler.concat_projects.0.weight"
CNN = (64, 96, 128)  # channels of the convolutional features, fine to coarse


@dataclass(frozen=True)
class Prior:
    """A Vision Transformer of DINOv2 as the monocular prior, and the widths of what reads its features."""

    channels: int
    depth: int  # blocks
    taken: tuple[int, int, int, int]  # the blocks whose features are read
    widths: tuple[int, int, int, int]  # channels of the four levels of a dense head
    disparity_features: int  # channels of the dense head that refines disparity
    gaussian_features: int  # channels of the dense head that describes Gaussians


PRIORS = {
    384: Prior(384, 12, (2, 5, 8, 11), (48, 96, 192, 384), 32, 64),
    768: Prior(768, 12, (2, 5, 8, 11), (96, 192, 384, 768), 48, 96),
    1024: Prior(1024, 24, (4, 11, 17, 23), (128, 256, 512, 1024), 64, 128),
}


@dataclass(frozen=True)
class Layout:
    """Where features are matched."""

    prior: Prior
    scales: int  # 1, or 2: matched once more on features of twice the size
    coarsest: int  # pixels of the image in one of the coarsest features, 4 or 8

    @property
    def finest(self) -> int:
        """Pixels of the image in one of the finest features that are matched."""
        return self.coarsest >> (self.scales - 1)

    @property
    def multiple(self) -> int:
        """Both sides of an image must be multiples of this: the coarsest features are halved twice more."""
        return 4 * self.coarsest

    @property
    def matched(self) -> tuple[int, ...]:
        """Pixels of the image in a feature of each scale, coarse to fine."""
        return tuple(self.coarsest >> scale for scale in range(self.scales))

    @property
    def convolved(self) -> tuple[int, int, int]:
        """Pixels of the image in a feature of each level of the convolutional network, fine to coarse."""
        return (2, self.coarsest // 2, self.coarsest)


def layout_of(state: Mapping[str, Tensor], what: str) -> Layout:
    """The layout that weights were trained in, told from their shapes.

    Args:
        state: The tensors of a checkpoint, named as `network.DepthSplat` names them.
        what: What the message calls them.

    Raises:
        UserError: they are not DepthSplat's, or in a layout that was never published.
    """
    token, finest = (state.get(name) for name in ("depth_predictor.pretrained.cls_token", _FINEST_LEVEL))
    if token is None or finest is None or token.shape[-1] not in PRIORS:
        raise UserError(
            f"the weights {what} are not of a DepthSplat that predicts Gaussians. Its depth models (depthsplat-depth-...) and what was "
            "published before March 2025 cannot be used; see: sparse3d models list"
        )
    prior = PRIORS[token.shape[-1]]
    scales = 2 if "depth_predictor.regressor.1.0.weight" in state else 1
    # what a dense head joins at half the size beside the prior's features: the fewer convolved ones, the coarser the rest
    joined = finest.shape[1] - prior.widths[0]
    known = {CNN[0]: 8, CNN[0] + CNN[1] + (MATCHING // 2 if scales == 2 else 0): 4}
    if joined not in known:
        raise UserError(f"the weights {what} have a layout that was not published; see: sparse3d models list")
    return Layout(prior, scales, known[joined])
