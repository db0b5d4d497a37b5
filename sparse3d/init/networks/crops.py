"""Photos in the one size that a network takes: resized until they cover it, then cropped about their middle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import resize_mask
from sparse3d.types import View

MULTIPLE = 16  # of the sides, pixels: the networks halve an image four times, a few of them five
_SMALLEST = 32


def check_size(height: int, width: int, multiple: int = MULTIPLE) -> None:
    """Holds the size of a network's input to what the networks can take.

    Raises:
        UserError: a side is no multiple of so many pixels, or below 32.
    """
    if height % multiple or width % multiple or min(height, width) < _SMALLEST:
        fitting = " x ".join(str(max(_SMALLEST, round(side / multiple) * multiple)) for side in (height, width))
        raise UserError(
            f"the network's input size is {height} x {width} pixels (height x width), needed multiples of {multiple} of at least "
            f"{_SMALLEST}. Use {fitting}, or 256 x 256, which all of these networks can take"
        )


def cropped(view: View, height: int, width: int) -> View:
    """A view as the published pipelines feed it: resized until it covers the size, cropped about the middle, nothing padded.

    The image is resized in 8 bits with Lanczos' filter, as published. `K` follows exactly; the published pipelines move
    the principal point by up to a pixel where the margins are odd or the new size is rounded.

    Args:
        view: Of any size; enlarged when smaller.
        height, width: Pixels, as `check_size` wants them.

    Returns:
        The view at that size, its mask and `K` with it.

    Raises:
        UserError: see `check_size`.
    """
    check_size(height, width)
    factor = max(height / view.height, width / view.width)
    tall, wide = max(height, round(view.height * factor)), max(width, round(view.width * factor))
    top, left = (tall - height) // 2, (wide - width) // 2
    scale = torch.tensor([wide / view.width, tall / view.height, 1.0], dtype=view.K.dtype)
    K = view.K * scale[:, None]
    K[:2, 2] -= torch.tensor([left, top], dtype=K.dtype)
    mask = None if view.mask is None else resize_mask(view.mask, tall, wide)[top : top + height, left : left + width]
    image = _lanczos(view.image, tall, wide)[:, top : top + height, left : left + width]
    return replace(view, image=image, K=K, mask=mask)


def normalized_K(view: View) -> Tensor:
    """`K` with the first row divided by the width and the second by the height, as the networks take it. (3, 3)"""
    return view.K / torch.tensor([view.width, view.height, 1.0], dtype=view.K.dtype)[:, None]


def _lanczos(image: Tensor, height: int, width: int) -> Tensor:
    """(3, H, W) in [0, 1] -> (3, height, width), in steps of 1 / 255"""
    pixels = (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
