"""Whatever can be looked at: scene folders, files of splats, COLMAP models and transforms.json with their photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io.colmap import find_model
from sparse3d.io.load import load_scene
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.io.scene import MANIFEST
from sparse3d.io.splats import SUFFIXES, read_splats
from sparse3d.pose.known import load_known
from sparse3d.types import Gaussians, Points, PosedViews

_SIZE = 1008  # longer side of photos, pixels


@dataclass(frozen=True)
class Viewable:
    """What a viewer shows; any part may be empty."""

    gaussians: Gaussians
    posed: PosedViews
    depths: dict[str, Tensor]  # by view name
    background: tuple[float, float, float] | None


def load_anything(path: Path) -> Viewable:
    """Reads whatever is there.

    Raises:
        UserError: nothing of the kind, or it is damaged; says what can be looked at.
    """
    if path.is_file() and path.suffix.lower() != ".json":
        return Viewable(read_splats(path), PosedViews((), Points.none()), {}, None)
    if (path / MANIFEST).is_file():
        scene = load_scene(path)
        return Viewable(scene.gaussians, scene.posed, scene.depths, scene.look.background)
    if path.is_file():
        return _cameras(path, path.parent)
    if (path / "transforms.json").is_file():
        return _cameras(path / "transforms.json", path)
    if path.is_dir() and (model := find_model(path)) is not None:
        return _cameras(model, path)
    found = "does not exist" if not path.exists() else "is not a scene folder, nor anything else to look at"
    raise UserError(
        f"{path} {found}. Give a scene folder, a file of splats ({', '.join(SUFFIXES)}), a folder with a COLMAP model or a "
        "transforms.json and its photos; make a scene with: sparse3d recon PHOTOS -o SCENE"
    )


def _cameras(cameras: Path, root: Path) -> Viewable:
    """Photos in `images` beside the cameras, or beside these."""
    folder = next((place for place in (root / "images", root.parent.parent / "images", root) if place.is_dir()), root)
    photos = load_photos(find_photos([folder]), _SIZE, warn=lambda _: None)
    posed = load_known(cameras, photos, minimum=1, warn=lambda _: None)
    nothing = torch.zeros(0, 3)
    empty = Gaussians(nothing, torch.zeros(0, 4), nothing, torch.zeros(0), torch.zeros(0, 1, 3))
    return Viewable(empty, posed, {}, None)
