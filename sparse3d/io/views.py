"""Posed views on disk: pictures as PNG, cameras as JSON, points as NumPy arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.io.images import IMAGE_SUFFIXES, read_image, write_image
from sparse3d.types import Points, PosedViews, View


def unique_stems(names: Sequence[str]) -> list[str]:
    """A file stem for each name: its file name without the suffix of an image, made unique where two would be one.

    Also names that are equal get stems of their own, and stems differ by more than their case, which some file systems
    do not tell apart.
    """
    stems: list[str] = []
    taken: set[str] = set()
    for name in names:
        file = Path(name)
        stem = file.stem if file.suffix.lower() in IMAGE_SUFFIXES else file.name
        while stem.casefold() in taken:
            stem += "_"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def file_names(names: Sequence[str]) -> dict[str, str]:
    """A file stem for each view name, as of `unique_stems`."""
    return dict(zip(names, unique_stems(names), strict=True))


def save_views(folder: Path, posed: PosedViews) -> None:
    """Writes views/<stem>.png, cameras.json and points.npz; cameras and points come back exactly, pictures and confidence to 8 bits."""
    stems = file_names(posed.names)
    cameras = []
    for view in posed.views:
        write_image(folder / "views" / f"{stems[view.name]}.png", view.image, view.mask)
        if view.confidence is not None:
            write_image(folder / "confidence" / f"{stems[view.name]}.png", view.confidence.expand(3, -1, -1))
        cameras.append(
            {
                "name": view.name,
                "file": f"views/{stems[view.name]}.png",
                "width": view.width,
                "height": view.height,
                "masked": view.mask is not None,
                "generated": view.generated,
                "confidence": None if view.confidence is None else f"confidence/{stems[view.name]}.png",
                "K": view.K.tolist(),
                "c2w": view.c2w.tolist(),
            }
        )
    (folder / "cameras.json").write_text(json.dumps(cameras, indent=1), encoding="utf-8")
    index = {name: i for i, name in enumerate(posed.names)}
    points = posed.points
    lengths = np.array([len(track) for track in points.tracks], dtype=np.int32)
    members = np.array([index[name] for track in points.tracks for name in track], dtype=np.int32)
    arrays: dict[str, Any] = {"xyz": points.xyz.numpy(), "rgb": points.rgb.numpy(), "error_px": points.error_px.numpy()}
    np.savez_compressed(folder / "points.npz", track_lengths=lengths, track_views=members, **arrays)


def load_views(folder: Path) -> PosedViews:
    """Reads what `save_views` wrote."""
    views = []
    for camera in json.loads((folder / "cameras.json").read_text(encoding="utf-8")):
        decoded = read_image(folder / camera["file"])
        mask = decoded.mask if camera["masked"] else None
        K, c2w = torch.tensor(camera["K"]), torch.tensor(camera["c2w"])
        file = camera.get("confidence")  # scenes of older versions have none
        confidence = read_image(folder / file).image[0].contiguous() if file else None
        views.append(View(camera["name"], decoded.image, K, c2w, mask, camera["generated"], confidence))
    with np.load(folder / "points.npz") as stored:
        ends = np.cumsum(stored["track_lengths"])
        members = [views[i].name for i in stored["track_views"]]
        tracks = tuple(
            tuple(members[end - length : end]) for end, length in zip(ends, stored["track_lengths"], strict=True)
        )
        xyz, rgb, error_px = (torch.from_numpy(stored[name]) for name in ("xyz", "rgb", "error_px"))
        points = Points(xyz, rgb, error_px, tracks)
    return PosedViews(tuple(views), points)


def save_refined(folder: Path, views: Sequence[View]) -> None:
    """Writes cameras.json with the cameras alone, of views whose pictures another stage holds."""
    cameras = [{"name": view.name, "K": view.K.tolist(), "c2w": view.c2w.tolist()} for view in views]
    (folder / "cameras.json").write_text(json.dumps(cameras, indent=1), encoding="utf-8")


def load_refined(folder: Path, posed: PosedViews) -> PosedViews:
    """The views with the cameras that `save_refined` wrote; as they are where it wrote none."""
    file = folder / "cameras.json"
    if not file.is_file():
        return posed
    cameras = {camera["name"]: camera for camera in json.loads(file.read_text(encoding="utf-8"))}
    views = tuple(
        replace(view, K=torch.tensor(cameras[view.name]["K"]), c2w=torch.tensor(cameras[view.name]["c2w"]))
        for view in posed.views
    )
    return PosedViews(views, posed.points)
