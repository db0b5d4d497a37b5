"""COLMAP models, text and binary, with and without rigs and frames. Read and written by pycolmap."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.geometry import invert_rigid, project
from sparse3d.io._atomic import sync
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.lens import Lens
from sparse3d.types import Points, PosedViews

_FILES = ("cameras", "images", "points3D", "rigs", "frames")


@dataclass(frozen=True)
class ColmapModel:
    """The posed images of a COLMAP model, in the order of their ids, and its points."""

    names: tuple[str, ...]  # of the images, as COLMAP has them; V of them
    lenses: tuple[Lens, ...]  # one for each image
    w2c: Tensor  # (V, 4, 4) float64, world units
    points: Points  # P, their tracks as image names


def find_model(folder: Path) -> Path | None:
    """The folder that holds a COLMAP model: this one, its sparse/0 or its sparse; None when none does."""
    for candidate in (folder, folder / "sparse" / "0", folder / "sparse"):
        if any((candidate / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt")):
            return candidate
    return None


def read_model(folder: Path) -> ColmapModel:
    """The model in a folder of cameras, images and points3D files; binary is preferred when both are there.

    Images without a pose are left out.

    Raises:
        UserError: a file is missing, or the model cannot be read.
    """
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    missing = [name + suffix for name in ("cameras", "images", "points3D") if not (folder / (name + suffix)).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not a whole COLMAP model: {', '.join(missing)} missing. Name the folder that holds cameras, "
            "images and points3D (.bin or .txt), often sparse/0."
        )
    model = pycolmap().Reconstruction()
    try:
        if suffix == ".bin":
            _check_ends(folder)
        model.read_binary(folder) if suffix == ".bin" else model.read_text(folder)
        images = [(i, image) for i, image in sorted(model.images.items()) if image.has_pose]
        lenses = {}
        for i, camera in model.cameras.items():
            if not camera.verify_params():
                raise ValueError(f"camera {i} has the wrong number of parameters for {camera.model.name}")
            lenses[i] = Lens(camera.model.name, tuple(map(float, camera.params)), camera.height, camera.width)
        w2c = torch.eye(4, dtype=torch.float64).repeat(len(images), 1, 1)
        for row, (_, image) in zip(w2c, images, strict=True):
            row[:3] = torch.from_numpy(image.cam_from_world().matrix())
        names = {i: image.name for i, image in images}
        points = [point for _, point in sorted(model.points3D.items())]
        # a point can meet an image twice; its name is kept once
        tracks = tuple(
            tuple(dict.fromkeys(names[e.image_id] for e in point.track.elements if e.image_id in names))
            for point in points
        )
    except (RuntimeError, ValueError, LookupError, OSError, MemoryError) as error:
        raise UserError(f"the COLMAP model in {folder} is damaged or of an unknown version: {error}") from error
    return ColmapModel(
        names=tuple(names.values()),
        lenses=tuple(lenses[image.camera_id] for _, image in images),
        w2c=w2c,
        points=Points(
            xyz=torch.from_numpy(np.array([p.xyz for p in points], dtype=np.float32).reshape(-1, 3)),
            rgb=torch.from_numpy(np.array([p.color for p in points], dtype=np.float32).reshape(-1, 3) / 255),
            error_px=torch.tensor([max(p.error, 0.0) for p in points], dtype=torch.float32),  # -1: never computed
            tracks=tracks,
        ),
    )


def write_model(folder: Path, posed_views: PosedViews, binary: bool = True) -> None:
    """Writes views as a COLMAP model: a PINHOLE camera for each, and the points with their tracks.

    COLMAP keeps points as observations in images; the observation of a point is its projection. Each file appears
    whole or not at all; files of the other format are removed, for readers prefer binary ones.

    Args:
        folder: Made when missing.
        posed_views: Tracks may name views that are not there; those are left out.
        binary: .bin files, else .txt.
    """
    colmap = pycolmap()
    model = colmap.Reconstruction()
    points, views = posed_views.points, posed_views.views
    seen: dict[str, list[int]] = {view.name: [] for view in views}  # view -> its points, in the order of observations
    elements: list[list[tuple[int, int]]] = [[] for _ in range(len(points))]  # point -> (image id, observation)
    image_ids = {view.name: i for i, view in enumerate(views, start=1)}
    for p, track in enumerate(points.tracks):
        for name in track:
            if name in seen:
                elements[p].append((image_ids[name], len(seen[name])))
                seen[name].append(p)
    for view in views:
        i = image_ids[view.name]
        model.add_camera_with_trivial_rig(Lens.pinhole(view.K, view.height, view.width).camera(camera_id=i))
        w2c = invert_rigid(view.c2w.double().cpu())
        pixels, _ = project(points.xyz.double().cpu()[seen[view.name]], w2c, view.K.double().cpu())
        image = colmap.Image(name=view.name, keypoints=pixels.numpy().reshape(-1, 2), camera_id=i, image_id=i)
        model.add_image_with_trivial_frame(image, colmap.Rigid3d(w2c[:3].numpy()))
    colors = (points.rgb.cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    for p, xyz in enumerate(points.xyz.double().cpu().numpy()):
        track = colmap.Track([colmap.TrackElement(image_id=i, point2D_idx=j) for i, j in elements[p]])
        point_id = model.add_point3D(xyz, track, colors[p])
        model.point3D(point_id).error = float(points.error_px[p])

    folder.mkdir(parents=True, exist_ok=True)
    suffix, other = (".bin", ".txt") if binary else (".txt", ".bin")
    with tempfile.TemporaryDirectory(prefix=".model.", dir=folder) as temporary:
        model.write_binary(temporary) if binary else model.write_text(temporary)
        _check_whole(model, temporary, binary)
        for name in _FILES:
            if (Path(temporary) / (name + suffix)).is_file():
                sync(Path(temporary) / (name + suffix))
                os.replace(Path(temporary) / (name + suffix), folder / (name + suffix))
    for name in _FILES:
        (folder / (name + other)).unlink(missing_ok=True)


def _check_whole(model: Any, folder: str, binary: bool) -> None:
    """COLMAP does not look whether the disk took what it wrote, so the files are read again.

    Raises:
        OSError: they hold less than the model, for which a full disk is the cause that is known.
    """
    again = pycolmap().Reconstruction()
    try:
        if binary:
            _check_ends(Path(folder))
        again.read_binary(folder) if binary else again.read_text(folder)
    except (RuntimeError, ValueError, LookupError, MemoryError) as error:
        raise OSError(errno.ENOSPC, "the COLMAP model was not written whole", folder) from error
    if (again.num_images(), again.num_points3D()) != (model.num_images(), model.num_points3D()):
        raise OSError(errno.ENOSPC, "the COLMAP model was not written whole", folder)


def _check_ends(folder: Path) -> None:
    """Walks through images.bin and points3D.bin: where these end early, COLMAP reads on for ever, into more and more memory.

    Raises:
        ValueError: one of them is shorter than the numbers in it say.
    """
    data = (folder / "images.bin").read_bytes()
    at = 8
    for _ in range(_count(data, 0, "images.bin")):  # id, quaternion, translation, camera; name; points of 24 bytes
        name_ends = data.find(b"\0", at + 64)
        if name_ends < 0:
            raise ValueError("images.bin ends within a name")
        at = name_ends + 9 + 24 * _count(data, name_ends + 1, "images.bin")
    _check_length(data, at, "images.bin")
    data = (folder / "points3D.bin").read_bytes()
    at = 8
    for _ in range(_count(data, 0, "points3D.bin")):  # id, place, colour, error; track of 8 bytes each
        at += 51 + 8 * _count(data, at + 43, "points3D.bin")
    _check_length(data, at, "points3D.bin")


def _count(data: bytes, at: int, name: str) -> int:
    _check_length(data, at + 8, name)
    return int.from_bytes(data[at : at + 8], "little")


def _check_length(data: bytes, needed: int, name: str) -> None:
    if len(data) < needed:
        raise ValueError(f"{name} is cut off")
