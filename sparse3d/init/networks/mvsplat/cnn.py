"""Image features of a few sizes: the residual network of GMFlow (arXiv:2111.13680), which MVSplat and DepthSplat start from."""

from __future__ import annotations

from torch import Tensor, nn

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours
_STAGES = (64, 96, 128)  # channels


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + relu(norm(conv(relu(norm(conv(x)))))))"""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if (inputs, stride) != (outputs, 1):
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.InstanceNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(V, C, H, W) -> (V, C', H / stride, W / stride)"""
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y)).relu()
        return (self.downsample(x) + y).relu()


class Cnn(nn.Module):
    """Stem, three stages of two residual blocks, 1x1 convolution. Norms are over each image and have no parameters."""

    def __init__(self, channels: int = 128, strides: tuple[int, int, int] = (1, 2, 1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STAGES[0], 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.InstanceNorm2d(_STAGES[0])
        inputs = _STAGES[0]
        for number, (outputs, stride) in enumerate(zip(_STAGES, strides, strict=True), start=1):
            blocks = ResidualBlock(inputs, outputs, stride), ResidualBlock(outputs, outputs, 1)
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = outputs
        self.conv2 = nn.Conv2d(inputs, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(V, 3, H, W) sRGB in [0, 1] -> (V, channels, H / f, W / f), f twice the product of the strides"""
        return self.levels(images)[-1]

    def levels(self, images: Tensor) -> list[Tensor]:
        """What every stage ends with, fine to coarse: 64, 96 and `channels` channels. (V, 3, H, W) -> (V, C, H / f, W / f)"""
        x = self.norm1(self.conv1(standardized(images))).relu()
        found = []
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            found.append(x)
        return [*found[:-1], self.conv2(x)]


def standardized(images: Tensor) -> Tensor:
    """Colours less ImageNet's mean, over its deviation, as pretrained networks want them. (V, 3, H, W) -> the same shape"""
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (images - mean) / deviation
