"""Our own small network for depth from posed views: features, a cost volume by correlation, a U-Net over it, and Gaussians.

    features    a picture to (C, H/4, W/4), and to M of them for matching, in groups of unit length
    volume      cosine of each group with each source at D planes even in 1/depth (the meaning of `kernels.correlation`),
                mean and best over the sources that see the place, and the share of them that do
    planes      a few channels mixed over neighbouring planes and pixels: the same at every plane, so that depth is matched, not guessed
    U-Net       over planes as channels and the picture's features: context
    depth       softmax; expectation of 1/depth within two planes of the best one; up to full size by convex combination (RAFT,
                arXiv:2003.12039), and with it the probability that it is right within 3 %
    Gaussians   what the surfel of each 2 x 2 pixels is changed by: opacity, size and colour

Everything is in units of the planes, so that a world of another scale gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse3d.models.own import OwnFormat

FORMAT = OwnFormat("costvolume", 1)
STRIDE = 4  # pixels of the picture to one of the volume
MULTIPLE = 32  # of the sides of what it is fed
GAUSSIAN = 6  # channels of the head: opacity, two sizes, three colours
_REACH = 2  # planes to each side of the best one that the depth is the expectation over
_TEMPERATURE = 8.0  # of the matching scores at the start of training


@dataclass(frozen=True)
class Sizes:
    """Of the network."""

    planes: int = 64
    features: int = 48
    matching: int = 24  # channels that are compared
    groups: int = 4  # of them
    mixed: int = 8  # channels while planes are mixed
    unet: tuple[int, ...] = (56, 80, 112)


LARGE = Sizes(planes=96, features=64, matching=48, groups=8, mixed=16, unet=(80, 128, 160))


class Estimate(NamedTuple):
    """What it says of B views."""

    scores: Tensor  # (B, D, h, w) logits of the planes, at a quarter of the size
    inverse: Tensor  # (B, H, W) where in [0, 1] between the far plane (0) and the near one (1), even in 1/depth
    certain: Tensor  # (B, H, W) logit that the depth is right within 3 %
    looks: Tensor  # (B, 6, H/2, W/2) additions to logit opacity, two log sizes, three colours


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8 if channels % 8 == 0 else 4, channels)


class _Residual(nn.Module):
    """Two convolutions beside a straight way."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1),
            _norm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1),
            _norm(after),
        )
        self.straight = nn.Identity() if before == after and stride == 1 else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.straight(x))


class Encoder(nn.Module):
    """Features of one picture, alike for all views."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        wide = sizes.features
        self.first = nn.Sequential(nn.Conv2d(3, 32, 5, 2, 2), _norm(32), nn.ReLU(), _Residual(32, 32))
        self.quarter = nn.Sequential(_Residual(32, wide, 2), _Residual(wide, wide))
        self.eighth = nn.Sequential(_Residual(wide, wide, 2), _Residual(wide, wide), _Residual(wide, wide))
        self.joined = nn.Sequential(nn.Conv2d(2 * wide, wide, 3, 1, 1), _norm(wide), nn.ReLU())
        self.matching = nn.Conv2d(wide, sizes.matching, 1)
        self.groups = sizes.groups

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] -> features (B, C, h, w), and (B, M, h, w) for matching, each group of unit length."""
        quarter = self.quarter(self.first(2 * images - 1))
        eighth = F.interpolate(self.eighth(quarter), quarter.shape[2:], mode="bilinear")
        features = self.joined(torch.cat([quarter, eighth], 1))
        matching = self.matching(features).float().unflatten(1, (self.groups, -1))
        return features, F.normalize(matching, dim=2, eps=1e-4).flatten(1, 2)


class _UNet(nn.Module):
    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1), _norm(widths[0]), nn.ReLU(), _Residual(widths[0], widths[0])
        )
        steps = list(zip(widths, (*widths[1:], widths[-1]), strict=True))  # down to 1/4 of 1/8
        self.down = nn.ModuleList(nn.Sequential(_Residual(a, b, 2), _Residual(b, b)) for a, b in steps)
        self.up = nn.ModuleList(_Residual(b + a, a) for a, b in reversed(steps))

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            skip = levels.pop()
            x = up(torch.cat([F.interpolate(x, skip.shape[2:], mode="bilinear"), skip], 1))
        return x


class CostVolume(nn.Module):
    """The network. Its parts are called one by one where views share their features (`init.costvolume`), and as a whole in training."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        mixed, hidden = sizes.mixed, sizes.unet[0]
        self.encoder = Encoder(sizes)
        self.temperature = nn.Parameter(torch.tensor(_TEMPERATURE))
        self.mix = nn.Sequential(
            nn.Conv3d(2 * sizes.groups + 1, mixed, (3, 1, 1), padding=(1, 0, 0)),
            nn.ReLU(),
            nn.Conv3d(mixed, mixed, (1, 3, 3), padding=(0, 1, 1)),
            nn.ReLU(),
            nn.Conv3d(mixed, mixed, (3, 1, 1), padding=(1, 0, 0)),
            nn.ReLU(),
            nn.Conv3d(mixed, 2, 1),
        )
        self.unet = _UNet(2 * sizes.planes + sizes.features, sizes.unet)
        self.scores = _zero(nn.Conv2d(hidden, sizes.planes, 3, 1, 1))
        self.weights = nn.Sequential(nn.Conv2d(hidden, hidden, 3, 1, 1), nn.ReLU(), nn.Conv2d(hidden, 9 * STRIDE**2, 1))
        self.certain = nn.Sequential(nn.Conv2d(hidden + 4, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 1, 1))
        self.looks = nn.Sequential(
            nn.Conv2d(hidden + 5, 32, 3, 1, 1), nn.ReLU(), _zero(nn.Conv2d(32, GAUSSIAN, 3, 1, 1))
        )

    def forward(
        self, image: Tensor, K: Tensor, sources: Tensor, source_Ks: Tensor, to_sources: Tensor, depths: Tensor
    ) -> Estimate:
        """Depth of B views from S sources each.

        Args:
            image: (B, 3, H, W) in [0, 1], sides multiples of 32.
            K: (B, 3, 3) pixels.
            sources: (B, S, 3, H', W')
            source_Ks: (B, S, 3, 3) pixels.
            to_sources: (B, S, 4, 4) camera axes of the view to those of the sources.
            depths: (B, D) planes from near to far, even in 1/depth.
        """
        count = sources.shape[1]
        features, matching = self.encoder(image)
        _, theirs = self.encoder(sources.flatten(0, 1))
        scale = torch.tensor([STRIDE, STRIDE, 1.0], device=K.device)[:, None]
        cosines, seen = correlations(
            matching,
            K / scale,
            theirs.unflatten(0, (-1, count)),
            source_Ks / scale,
            to_sources,
            depths,
            self.sizes.groups,
        )
        return self.estimate(image, features, cosines, seen)

    def estimate(self, image: Tensor, features: Tensor, cosines: Tensor, seen: Tensor) -> Estimate:
        """Depth from a cost volume.

        Args:
            image: (B, 3, H, W)
            features: (B, C, h, w)
            cosines: (B, S, G, D, h, w), 0 where a source sees nothing.
            seen: (B, S, D, h, w) in [0, 1].
        """
        mask = seen[:, :, None]
        mean = (cosines * mask).sum(1) / mask.sum(1).clamp(min=1e-3)
        best = torch.where(mask > 0.5, cosines, torch.full_like(cosines, -1.0)).amax(1)
        best = torch.where(seen.amax(1)[:, None] > 0.5, best, torch.zeros_like(best))
        volume = self.mix(torch.cat([mean, best, seen.mean(1)[:, None]], 1))  # (B, 2, D, h, w)
        hidden = self.unet(torch.cat([volume.flatten(1, 2), features.to(volume.dtype)], 1))
        matched = self.temperature * 0.5 * (mean.mean(1) + best.mean(1))
        scores = (matched + volume[:, 0] + self.scores(hidden)).float()
        inverse, spread = _expected(scores)
        clue = torch.cat(
            [inverse, spread, scores.softmax(1).amax(1, keepdim=True), seen.mean((1, 2))[:, None]], 1
        ).detach()
        certain = self.certain(torch.cat([hidden, clue.to(hidden.dtype)], 1)).float()
        weights = self.weights(hidden).float()
        full = convex(torch.cat([inverse, certain], 1), weights)
        size = [side // 2 for side in image.shape[2:]]
        half = lambda x: F.interpolate(x, size, mode="bilinear")
        context = torch.cat([half(hidden), half(image).to(hidden.dtype), half(full.detach()).to(hidden.dtype)], 1)
        return Estimate(scores, full[:, 0], full[:, 1], self.looks(context).float())


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, saying nothing until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _expected(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Where the surface is, in [0, 1] from the far plane to the near one, and how wide the doubt about it. (B, 1, h, w) each"""
    planes = scores.shape[1]
    at = torch.linspace(1, 0, planes, device=scores.device)[None, :, None, None]
    best = scores.argmax(1, keepdim=True)
    index = torch.arange(planes, device=scores.device)[None, :, None, None]
    near = scores.masked_fill((index - best).abs() > _REACH, float("-inf")).softmax(1)
    inverse = (near * at).sum(1, keepdim=True)
    everywhere = scores.softmax(1)
    return inverse, (everywhere * (at - inverse).abs()).sum(1, keepdim=True)


def convex(values: Tensor, weights: Tensor) -> Tensor:
    """Maps four times as large: each pixel a convex combination of the nine around it.

    Args:
        values: (B, C, h, w)
        weights: (B, 144, h, w) logits.

    Returns:
        (B, C, 4 h, 4 w)
    """
    batch, channels, height, width = values.shape
    share = weights.reshape(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(2)
    around = F.unfold(F.pad(values, (1, 1, 1, 1), mode="replicate"), 3)
    around = around.reshape(batch, channels, 9, 1, 1, height, width)
    full = (share * around).sum(2)  # (B, C, 4, 4, h, w)
    return full.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, STRIDE * height, STRIDE * width)


def correlations(
    matching: Tensor, K: Tensor, sources: Tensor, source_Ks: Tensor, to_sources: Tensor, depths: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """`kernels.correlation.feature_sweep` for a batch, each group and source by itself, with gradients to the features.

    Args:
        matching: (B, M, h, w)
        K: (B, 3, 3) in pixels of `matching`.
        sources: (B, S, M, h', w')
        source_Ks: (B, S, 3, 3) in their pixels.
        to_sources: (B, S, 4, 4)
        depths: (B, D)
        groups: G, that M is cut into.

    Returns:
        (B, S, G, D, h, w) dot products, and (B, S, D, h, w) 1 where a source sees the place, else 0.
    """
    batch, _, height, width = matching.shape
    ours = matching.float().unflatten(1, (groups, -1))
    products, seen = [], []
    with torch.autocast(matching.device.type, enabled=False):
        for source, source_K, transform in zip(
            sources.unbind(1), source_Ks.unbind(1), to_sources.unbind(1), strict=True
        ):
            grid = places((height, width), K, source.shape[2:], source_K, transform, depths)
            warped = F.grid_sample(source.float(), grid, align_corners=False).unflatten(1, (groups, -1))
            warped = warped.unflatten(-1, (height, width))  # (B, G, M / G, D, h, w)
            products.append((warped * ours[:, :, :, None]).sum(2))
            seen.append((grid.abs() <= 1).all(-1).reshape(batch, -1, height, width).float())
    return torch.stack(products, 1), torch.stack(seen, 1)


def places(
    size: tuple[int, int], K: Tensor, source_size: torch.Size, source_K: Tensor, transform: Tensor, depths: Tensor
) -> Tensor:
    """Where a source has what a view's pixels show if it lies on the planes, as `grid_sample` counts; beyond its border where that is behind it.

    Args:
        size: Height and width of the view.
        K: (B, 3, 3) in its pixels.
        source_size: Height and width of the source.
        source_K: (B, 3, 3) in its pixels.
        transform: (B, 4, 4) camera axes of the view to those of the source.
        depths: (B, D)

    Returns:
        (B, D, h w, 2)
    """
    device = K.device
    y, x = torch.meshgrid(*(torch.arange(side, device=device) + 0.5 for side in size), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    turn = source_K @ transform[:, :3, :3] @ torch.linalg.inv(K) @ pixels  # (B, 3, h w)
    shift = source_K @ transform[:, :3, 3:]
    points = depths[:, :, None, None] * turn[:, None] + shift[:, None]  # (B, D, 3, h w)
    ahead = points[:, :, 2] > 1e-6 * depths[:, :1, None]
    place = points[:, :, :2] / torch.where(ahead, points[:, :, 2], 1.0)[:, :, None]
    grid = (2 * place.transpose(2, 3) / torch.tensor([source_size[1], source_size[0]], device=device) - 1).clamp(-3, 3)
    return torch.where(ahead[..., None], grid, -3.0)
