"""What a camera makes of light: exposure, white balance, blur, noise, tone, and the marks that JPEG leaves."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sparse3d.train.textures import choice, uniform

_READ_NOISE = 0.0015  # standard deviation in the dark


class Sensor:
    """One camera on one walk: what all its photos share, and what changes from photo to photo."""

    def __init__(self, generator: torch.Generator, brightness: float) -> None:
        """
        Args:
            brightness: Mean linear light of the first picture, which automatic exposure brings to a middle grey.
        """
        self._generator = generator
        number = lambda low, high: uniform(generator, low, high)
        self._exposure = number(0.13, 0.27) / max(brightness, 1e-4)
        self._drift = number(0, 0.12) if number(0, 1) < 0.5 else 0.02  # relative, from photo to photo
        self._balance = 1 + 0.06 * torch.randn(3, generator=generator)
        self._balance_drift = 0.02 if number(0, 1) < 0.3 else 0.0
        self._vignetting = number(0, 0.2)
        self._blur_px = number(0.2, 0.75)
        self._shot = 10 ** number(-5, -3.3)  # variance of the noise per unit of light
        self._gamma = number(0.9, 1.12)
        self._jpeg = int(number(70, 97))

    def photograph(self, light: Tensor) -> Tensor:
        """A picture of linear light. (3, H, W) -> (3, H, W) uint8, sRGB"""
        generator = self._generator
        normal = lambda *shape: torch.randn(*shape, generator=generator)
        height, width = light.shape[1:]
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in (height, width)), indexing="ij")
        gain = self._exposure * (1 + self._drift * normal(1)) * (1 - self._vignetting * 0.5 * (x * x + y * y))
        balance = self._balance * (1 + self._balance_drift * normal(3))
        exposed = _blurred(light * gain * balance[:, None, None], self._blur_px, self._moved())
        deviation = (exposed.clamp(min=0) * self._shot + _READ_NOISE**2).sqrt()
        exposed = exposed + deviation * normal(3, height, width)
        # highlights are rolled off, not cut, as cameras do
        toned = torch.where(exposed > 0.8, 0.8 + 0.2 * torch.tanh((exposed - 0.8) / 0.2), exposed)
        picture = to_srgb(toned) ** self._gamma
        return _through_jpeg((255 * picture + 0.5).clamp(0, 255).byte(), self._jpeg)

    def _moved(self) -> tuple[int, int]:
        """Pixels that the camera shook by, mostly none."""
        if uniform(self._generator) > 0.08:
            return 0, 0
        return choice(self._generator, 3) - 1, choice(self._generator, 3) - 1


def to_srgb(linear: Tensor) -> Tensor:
    """sRGB of linear light, clipped to [0, 1] (IEC 61966-2-1)."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _blurred(image: Tensor, sigma: float, moved: tuple[int, int]) -> Tensor:
    """Gaussian blur of 5 x 5 pixels, and the mean with itself moved to and fro."""
    at = torch.arange(-2, 3, dtype=image.dtype)
    line = torch.exp(-0.5 * (at / sigma) ** 2)
    line = line / line.sum()
    kernel = (line[:, None] * line)[None, None].expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(image[None], (2, 2, 2, 2), mode="replicate"), kernel, groups=3)[0]
    if moved == (0, 0):
        return blurred
    back = (-moved[0], -moved[1])  # to both sides, or the picture would be off by half of it
    return (blurred + blurred.roll(moved, (1, 2)) + blurred.roll(back, (1, 2))) / 3


def _through_jpeg(picture: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).contiguous()
