"""One picture of many: all held-out views of a run as photo, render and difference, or frames of a flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

LABEL_PX = 16  # height of the strip above each row
_GAIN = 3.0  # of the differences


class Row(NamedTuple):
    """A held-out view."""

    label: str
    photo: Tensor  # (3, H, W) in [0, 1]
    render: Tensor  # (3, H, W) in [0, 1]


def contact_sheet(rows: Sequence[Row]) -> Tensor:
    """Photo, render and three times their absolute difference, a row for each view under its label. (3, H', W')

    Rows narrower than the widest are filled with black.
    """
    strips = [_row(row) for row in rows]
    width = max(strip.shape[2] for strip in strips)
    return torch.cat([F.pad(strip, (0, width - strip.shape[2])) for strip in strips], dim=1)


def frame_sheet(frames: Sequence[tuple[str, Tensor]], columns: int) -> Tensor:
    """Labelled pictures (3, H, W) of one size, row by row. (3, H', W')

    The last row is filled with black.
    """
    cells = [torch.cat([_label(label, picture.shape[2]), picture], dim=1) for label, picture in frames]
    cells += [torch.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [torch.cat(cells[first : first + columns], dim=2) for first in range(0, len(cells), columns)]
    return torch.cat(rows, dim=1)


def _row(row: Row) -> Tensor:
    difference = (_GAIN * (row.photo - row.render).abs()).clamp(0, 1)
    pictures = torch.cat([row.photo, row.render, difference], dim=2)
    return torch.cat([_label(row.label, pictures.shape[2]), pictures], dim=1)


def _label(text: str, width: int) -> Tensor:
    """White on black, in Pillow's own font, which may lack all but ASCII. (3, LABEL_PX, width)"""
    picture = Image.new("RGB", (width, LABEL_PX))
    ImageDraw.Draw(picture).text((3, 1), text.encode("ascii", "replace").decode(), fill="white")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
