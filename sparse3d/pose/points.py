"""Colours of triangulated points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse3d.pose.mapping import image_index
from sparse3d.types import Photo


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
