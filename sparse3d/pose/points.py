"""The points of a reconstruction: their colours, and as our own type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparse3d.pose.mapping import image_index
from sparse3d.types import Photo, Points


def colour_points(model: Any, photos: Sequence[Photo]) -> None:
    """Gives every point the mean colour of the photos where it was found, in place."""
    for point in model.points3D.values():
        colours = []
        for element in point.track.elements:
            image = model.image(element.image_id)
            picture = photos[image_index(image.name)].image
            x, y = image.points2D[element.point2D_idx].xy
            row = min(max(int(y), 0), picture.shape[1] - 1)
            column = min(max(int(x), 0), picture.shape[2] - 1)
            colours.append(picture[:, row, column].numpy())
        point.color = np.round(255 * np.mean(colours, axis=0)).clip(0, 255).astype(np.uint8)


def points_of(model: Any, names: list[str]) -> Points:
    """The points of a reconstruction, the photos of their tracks by name."""
    found = list(model.points3D.values())
    if not found:
        return Points.none()
    tracks = tuple(
        tuple(sorted({names[image_index(model.image(e.image_id).name)] for e in point.track.elements}))
        for point in found
    )
    xyz = torch.tensor([list(point.xyz) for point in found], dtype=torch.float32)
    rgb = torch.tensor([list(point.color) for point in found], dtype=torch.float32) / 255
    return Points(xyz, rgb, torch.tensor([point.error for point in found], dtype=torch.float32), tracks)
