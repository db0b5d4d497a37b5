"""What the viewer can open: a scene folder, a file of Gaussians, a COLMAP model, a transforms.json."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import fitted_size, invert_rigid
from sparse3d.io.colmap import find_model, read_model
from sparse3d.io.images import UnreadableImage, read_image
from sparse3d.io.lens import Lens
from sparse3d.io.load import load_scene
from sparse3d.io.nerfstudio import read_transforms
from sparse3d.io.ply import read_gaussians
from sparse3d.io.scene import MANIFEST, SceneFolder
from sparse3d.render import Look
from sparse3d.types import Gaussians, Points, PosedViews, View

FINAL = "final"
SPLAT_SUFFIXES = (".ply",)

_SIZE = 640  # longer side of photos that only stand beside their cameras, pixels
_GREY = 0.6  # of cameras whose photo is not there


@dataclass(frozen=True)
class Source:
    """What was found at a path; what is missing is empty."""

    name: str
    gaussians: Gaussians
    posed: PosedViews
    depths: Mapping[str, Tensor] = field(default_factory=dict)
    look: Look | None = None
    stages: Mapping[str, Callable[[], Gaussians]] = field(default_factory=dict)
    folder: Path | None = None  # of a scene: where camera paths and films go
    metric: bool = False


def open_source(path: Path) -> Source:
    """Reads what there is to show at a path.

    Raises:
        UserError: nothing that we know, or damaged.
    """
    if (path / MANIFEST).is_file():
        return _scene(path)
    if path.is_dir() and (path / "transforms.json").is_file():
        return _transforms(path / "transforms.json")
    if path.is_dir() and (model := find_model(path)) is not None:
        return _colmap(path, model)
    if path.is_dir():
        raise UserError(
            f"{path} is no scene folder (it has no {MANIFEST}), and holds no COLMAP model and no transforms.json. "
            f"Make a scene with: sparse3d recon PHOTOS -o {path}"
        )
    if not path.is_file():
        raise UserError(f"{path} does not exist. Make a scene with: sparse3d recon PHOTOS -o {path}")
    if path.suffix.lower() == ".json":
        return _transforms(path)
    if path.suffix.lower() in SPLAT_SUFFIXES:
        return Source(path.name, read_gaussians(path), PosedViews((), Points.none()))
    raise UserError(
        f"{path} cannot be shown. Give a scene folder, a file of Gaussians ({', '.join(SPLAT_SUFFIXES)}), a COLMAP model or a transforms.json"
    )


def _scene(path: Path) -> Source:
    scene = load_scene(path)
    stages: dict[str, Callable[[], Gaussians]] = {}
    for name, folder in (("init", "02_init"), ("densified", "03_densify")):
        file = scene.folder.stage_path(folder) / "init.ply"
        if file.is_file():
            stages[name] = functools.partial(read_gaussians, file)
    stages[FINAL] = lambda: scene.gaussians
    return Source(
        path.resolve().name,
        scene.gaussians,
        scene.posed,
        scene.depths,
        scene.look,
        stages,
        path,
        _is_metric(scene.folder),
    )


def _is_metric(folder: SceneFolder) -> bool:
    """What the lifting of one photo says of its depth; other scenes do not record their unit."""
    return bool((folder.facts("02_init").get("lift") or {}).get("metric", False))


def _transforms(path: Path) -> Source:
    frames = read_transforms(path)
    views = [_view(frame.name, frame.lens, frame.c2w, frame.path, frame.generated) for frame in frames]
    return Source(path.resolve().parent.name, Gaussians.joined([]), PosedViews(_named(views), Points.none()))


def _colmap(path: Path, folder: Path) -> Source:
    model = read_model(folder)
    photos = next(
        (place for place in (path / "images", folder / "images", path.parent / "images") if place.is_dir()), path
    )
    views = [
        _view(name, lens, c2w, photos / name, False)
        for name, lens, c2w in zip(model.names, model.lenses, invert_rigid(model.w2c), strict=True)
    ]
    return Source(path.resolve().name, Gaussians.joined([]), PosedViews(_named(views), model.points))


def _view(name: str, lens: Lens, c2w: Tensor, photo: Path, generated: bool) -> View:
    """A camera with its photo, or with a grey picture where that cannot be read. Distortion is left out: it is only looked at."""
    height, width = fitted_size(lens.height, lens.width, _SIZE)
    K = lens.K * torch.tensor([width / lens.width, height / lens.height, 1.0])[:, None]
    image = torch.full((3, height, width), _GREY)
    if photo.is_file():
        try:
            image = torch.nn.functional.interpolate(read_image(photo).image[None], (height, width), mode="area")[0]
        except UnreadableImage:
            pass
    return View(name, image, K, c2w.float(), generated=generated)


def _named(views: list[View]) -> tuple[View, ...]:
    """With names that differ: files of a transforms.json may have the same in several folders."""
    count: dict[str, int] = {}
    made = []
    for view in views:
        count[view.name] = count.get(view.name, 0) + 1
        name = view.name if count[view.name] == 1 else f"{view.name} ({count[view.name]})"
        made.append(View(name, view.image, view.K, view.c2w, generated=view.generated))
    return tuple(made)
