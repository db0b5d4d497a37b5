"""Files of nerfstudio: transforms.json (also instant-ngp's and NeRF-synthetic's) and camera paths.

Both hold camera-to-world matrices in OpenGL axes (x right, y up, looking along -z); here they become OpenCV axes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.io._fields import GL_TO_CV, json_object, number, numbers, read_text, rigid
from sparse3d.io.images import IMAGE_SUFFIXES, read_image
from sparse3d.io.lens import Lens
from sparse3d.types import Cameras, View

_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")


@dataclass(frozen=True)
class Frame:
    """One frame of a transforms.json."""

    name: str  # the image's file name
    path: Path  # the image, which may not exist
    lens: Lens
    c2w: Tensor  # (4, 4) float64, OpenCV axes, world units of the file
    generated: bool = False  # our own mark: the picture was drawn by a prior


@dataclass(frozen=True)
class CameraPath:
    """The cameras of a fly-through."""

    cameras: Cameras
    fps: float  # frames in a second


def read_transforms(path: Path, sizes: Mapping[str, tuple[int, int]] | None = None) -> list[Frame]:
    """The frames of a transforms.json, with their intrinsics, in the file's order.

    Intrinsics (fl_x fl_y cx cy w h k1 k2 k3 k4 p1 p2, or camera_angle_x) stand in the frame or for all frames; a
    missing fl_y equals fl_x and a missing principal point is the centre. Distortion becomes COLMAP's OPENCV (with k3
    or k4: FULL_OPENCV); camera_model OPENCV_FISHEYE (instant-ngp: is_fisheye) stays that, and FISHEYE624 becomes
    RAD_TAN_THIN_PRISM_FISHEYE. What is about the scene's box or the picking of frames (aabb_scale, scale, offset,
    applied_transform, sharpness) changes no camera and is passed over.

    Args:
        path: The file; image paths in it are relative to its folder, a missing suffix is looked up there.
        sizes: (height, width) by file name or stem, for files that neither give w and h nor come with their images.

    Raises:
        UserError: not such a file; names the frame and the key that is missing or wrong.
    """
    meta = _load(path)
    entries = meta.get("frames")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: has no 'frames'; a transforms.json holds a list of frames with their matrices")
    frames = []
    for i, entry in enumerate(entries):
        where = f"{path}: frame {i}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise UserError(f"{where} has no 'file_path'")
        where += f" ({entry['file_path']})"
        image = _image_path(path.parent / entry["file_path"].replace("\\", "/"))
        if "transform_matrix" not in entry:
            raise UserError(f"{where} has no 'transform_matrix'")
        c2w = rigid(entry["transform_matrix"], f"{where}: 'transform_matrix'") * GL_TO_CV
        lens = _lens({**meta, **entry}, image, sizes or {}, where)
        frames.append(Frame(image.name, image, lens, c2w, bool(entry.get("generated", False))))
    return frames


def write_transforms(
    path: Path,
    views: Sequence[View],
    file_paths: Sequence[str] | None = None,
    *,
    mask_paths: Sequence[str | None] | None = None,
    points_path: str | None = None,
) -> None:
    """Writes the cameras of views as a transforms.json, PINHOLE, with intrinsics in every frame.

    Args:
        path: Written whole or not at all.
        views: Their pictures are not written. Generated ones get the extra key `"generated": true`.
        file_paths: Of the pictures, relative to the file's folder; images/NAME when None.
        mask_paths: Of pictures that are white where a view counts; None where a view has none.
        points_path: Of a PLY of points in the same world, which splatfacto starts from.
    """
    paths = [f"images/{view.name}" for view in views] if file_paths is None else list(file_paths)
    if len(paths) != len(views):
        raise ValueError(f"{len(paths)} file paths for {len(views)} views; give one for each")
    masks = [None] * len(views) if mask_paths is None else list(mask_paths)
    frames = []
    for view, file_path, mask_path in zip(views, paths, masks, strict=True):
        K = view.K.double().tolist()
        frame: dict[str, Any] = {"file_path": file_path, "w": view.width, "h": view.height}
        frame |= {"fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2]}
        frame["transform_matrix"] = (view.c2w.double().cpu() * GL_TO_CV + 0.0).tolist()  # + 0.0 makes -0.0 a 0.0
        frame |= {} if mask_path is None else {"mask_path": mask_path}
        frames.append(frame | ({"generated": True} if view.generated else {}))
    points = {} if points_path is None else {"ply_file_path": points_path}
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps({"camera_model": "PINHOLE", **points, "frames": frames}, indent=1), encoding="utf-8"
        )


def is_camera_path(path: Path) -> bool:
    """Whether a file is a camera path; a transforms.json has frames instead.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    return "camera_path" in _load(path)


def read_camera_path(path: Path) -> CameraPath:
    """The cameras of a camera-path file, as nerfstudio's viewer writes it.

    `fov` is the vertical angle in degrees; pixels are square and the principal point is the centre, as nerfstudio
    renders them.

    Raises:
        UserError: not such a file, or not a perspective camera.
    """
    meta = _load(path)
    if meta.get("camera_type", "perspective") != "perspective":
        raise UserError(f"{path}: camera_type is {meta['camera_type']!r}; sparse3d renders 'perspective' only")
    entries = meta.get("camera_path")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: has no 'camera_path'; save the path in nerfstudio's or sparse3d's viewer")
    height, width = (round(number(meta, key, str(path), at_least=1)) for key in ("render_height", "render_width"))
    c2w, K = [], []
    for i, entry in enumerate(entries):
        where = f"{path}: camera {i} of camera_path"
        if not isinstance(entry, dict) or "camera_to_world" not in entry:
            raise UserError(f"{where} has no 'camera_to_world'")
        c2w.append(rigid(entry["camera_to_world"], f"{where}: 'camera_to_world'") * GL_TO_CV)
        fov_deg = number(entry, "fov", where)
        if not 0 < fov_deg < 180:
            raise UserError(f"{where}: 'fov' is {fov_deg} degrees, needed between 0 and 180")
        f = height / 2 / math.tan(math.radians(fov_deg) / 2)
        K.append([[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]])
    if "fps" in meta:
        fps = number(meta, "fps", str(path))
    else:
        fps = len(entries) / number(meta, "seconds", str(path)) if meta.get("seconds") else 24.0
    if fps <= 0:
        raise UserError(f"{path}: the path plays at {fps} frames a second, needed more than 0")
    return CameraPath(Cameras(torch.stack(c2w).float(), torch.tensor(K), height, width), fps)


def _load(path: Path) -> dict[str, Any]:
    return json_object(read_text(path), str(path))


def _image_path(path: Path) -> Path:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in (".png", ".jpg", ".jpeg", ".PNG", ".JPG")]
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def _lens(keys: Mapping[str, Any], image: Path, sizes: Mapping[str, tuple[int, int]], where: str) -> Lens:
    model = keys.get("camera_model", "OPENCV")
    if keys.get("is_fisheye"):  # instant-ngp's word for it
        model = "OPENCV_FISHEYE"
    if model not in (*_PERSPECTIVE, "OPENCV_FISHEYE", "FISHEYE624"):
        raise UserError(
            f"{where}: camera_model {model!r} is not read; sparse3d needs perspective or fisheye photos: PINHOLE, OPENCV, "
            "OPENCV_FISHEYE or FISHEYE624"
        )
    height, width = _size(keys, image, sizes, where)
    fx, fy = _focal(keys, height, width, where)
    cx = number(keys, "cx", where) if "cx" in keys else width / 2
    cy = number(keys, "cy", where) if "cy" in keys else height / 2
    pinhole = (fx, fy, cx, cy)
    if model == "FISHEYE624":  # k0 ... k5 p0 p1 s0 ... s3, in Project Aria's order and COLMAP's
        if "distortion_params" not in keys:
            raise UserError(f"{where} has no 'distortion_params'; FISHEYE624 needs its 12")
        aria = numbers(keys["distortion_params"], (12,), f"{where}: 'distortion_params'")
        return Lens("RAD_TAN_THIN_PRISM_FISHEYE", (*pinhole, *aria), height, width)
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    if "distortion_params" in keys:
        k1, k2, k3, k4, p1, p2 = numbers(keys["distortion_params"], (6,), f"{where}: 'distortion_params'")
    else:
        k1, k2, k3, k4, p1, p2 = (number(keys, name, where) if name in keys else 0.0 for name in names)
    if model == "OPENCV_FISHEYE":  # nerfstudio and instant-ngp leave p1 and p2 out of it
        return Lens.fisheye(pinhole, (k1, k2, k3, k4), (0.0, 0.0), height, width)
    if model in ("SIMPLE_PINHOLE", "PINHOLE"):
        return Lens("PINHOLE", pinhole, height, width)
    try:
        return Lens.perspective(pinhole, (k1, k2, k3, k4), (p1, p2), height, width)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _focal(keys: Mapping[str, Any], height: int, width: int, where: str) -> tuple[float, float]:
    """Focal lengths in pixels: fl_x, else the angle of view in radians (camera_angle_x) or degrees (x_fov)."""
    if "fl_x" in keys:
        fx = number(keys, "fl_x", where)
        fy = number(keys, "fl_y", where) if "fl_y" in keys else fx
    elif "camera_angle_x" in keys:
        fx = width / 2 / math.tan(number(keys, "camera_angle_x", where) / 2)
        fy = height / 2 / math.tan(number(keys, "camera_angle_y", where) / 2) if "camera_angle_y" in keys else fx
    elif "x_fov" in keys:
        fx = width / 2 / math.tan(math.radians(number(keys, "x_fov", where)) / 2)
        fy = height / 2 / math.tan(math.radians(number(keys, "y_fov", where)) / 2) if "y_fov" in keys else fx
    else:
        raise UserError(f"{where} has no 'fl_x', and the file has neither that nor 'camera_angle_x' for all frames")
    if not (fx > 0 and fy > 0):
        raise UserError(f"{where}: the focal length is {fx} x {fy} pixels, needed more than 0")
    return fx, fy


def _size(keys: Mapping[str, Any], image: Path, sizes: Mapping[str, tuple[int, int]], where: str) -> tuple[int, int]:
    """Height and width: what the file says, else of the image it names, else of the photo with that name."""
    if "w" in keys or "h" in keys:
        return round(number(keys, "h", where, at_least=1)), round(number(keys, "w", where, at_least=1))
    if image.is_file():
        height, width = read_image(image).image.shape[1:]
        return height, width
    for name in (image.name, image.stem):
        if name in sizes:
            return sizes[name]
    raise UserError(f"{where} has no 'w' and 'h', and there is no image {image} to take them from")
