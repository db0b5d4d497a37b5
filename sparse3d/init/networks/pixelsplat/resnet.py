"""The convolutional half of pixelSplat's backbone: ResNet-50 without its max-pool and last stage, summed over four scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EXPANSION = 4


class FrozenBatchNorm(nn.Module):
    """Batch normalization with stored statistics, as at inference: a scale and a shift for each channel."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


class Bottleneck(nn.Module):
    """A residual block of ResNet-50 (He et al. 2016), its stride on the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenBatchNorm(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenBatchNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return self.bn3(self.conv3(x)).add_(shortcut).relu_()


def stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Residual blocks of one resolution; the first changes size and channels."""
    outputs = width * _EXPANSION
    return nn.Sequential(
        *(Bottleneck(inputs if i == 0 else outputs, width, stride if i == 0 else 1) for i in range(blocks))
    )


class ResNet(nn.Module):
    """The first layers of ResNet-50: maps of 1/2, 1/2, 1/4 and 1/8 of the image's size, as no max-pool is applied."""

    def __init__(self, width: int = 64, blocks: Sequence[int] = (3, 4, 6)) -> None:
        super().__init__()
        self.channels = [width, *(width * 2**i * _EXPANSION for i in range(3))]
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.layer1 = stage(self.channels[0], width, blocks[0], stride=1)
        self.layer2 = stage(self.channels[1], width * 2, blocks[1], stride=2)
        self.layer3 = stage(self.channels[2], width * 4, blocks[2], stride=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.bn1(self.conv1(images)).relu_()]
        for layer in (self.layer1, self.layer2, self.layer3):
            maps.append(layer(maps[-1]))
        return maps


class ResNetFeatures(nn.Module):
    """The four maps, each projected, enlarged to the image's size and added up."""

    def __init__(self, outputs: int = 512, width: int = 64, blocks: Sequence[int] = (3, 4, 6)) -> None:
        super().__init__()
        self.model = ResNet(width, blocks)
        self.projections = nn.ModuleDict(
            {f"layer{i}": nn.Conv2d(channels, outputs, 1) for i, channels in enumerate(self.model.channels)}
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of every pixel.

        Args:
            images: (V, 3, H, W) in [0, 1]; the published network normalizes no mean and no deviation.

        Returns:
            (V, outputs, H, W)
        """
        total: Tensor | None = None
        for projection, found in zip(self.projections.values(), self.model(images), strict=True):
            large = F.interpolate(projection(found), images.shape[-2:], mode="bilinear", align_corners=True)
            total = large if total is None else total.add_(large)
        assert total is not None
        return total
