"""SIFT features and verified matches in a COLMAP database, the ground that mapping and triangulation stand on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparse3d.config import PoseConfig
from sparse3d.io.images import write_image
from sparse3d.types import Photo

_RADIAL_FROM = 5  # photos of one camera from which a distortion term is stable


def file_name(index: int) -> str:
    """Name of the index-th photo inside COLMAP, where names must be plain and unique."""
    return f"{index:05d}.png"


def _camera_groups(photos: Sequence[Photo], shared: bool) -> dict[Any, list[int]]:
    """Indices of photos that share one camera: same size, make, model and EXIF focal length, or each alone."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        alike = (tuple(photo.image.shape), photo.camera, photo.intrinsics, round(float(photo.K[0, 0]), 1))
        key = alike if shared else index
        groups[key].append(index)
    return groups


def write_photos(folder: Path, photos: Sequence[Photo]) -> None:
    """Writes `folder`/images and, when any photo has a mask, `folder`/masks as COLMAP wants them: black is ignored.

    COLMAP stops at an image without a mask file where others have one, so photos without a mask get a white one.
    """
    masked = any(photo.mask is not None for photo in photos)
    for index, photo in enumerate(photos):
        write_image(folder / "images" / file_name(index), photo.image)
        if masked:
            mask = torch.ones(photo.image.shape[1:]) if photo.mask is None else photo.mask.float()
            write_image(folder / "masks" / f"{file_name(index)}.png", mask.expand(3, -1, -1))


def extract_features(
    colmap: Any, folder: Path, photos: Sequence[Photo], config: PoseConfig, exact: bool = False
) -> None:
    """Finds features in `folder`/images and puts them, with first guesses of the cameras, into `folder`/database.db.

    What a mask leaves out has none, or the background would be placed with the object.

    Args:
        colmap: The pycolmap module.
        folder: Holds what `write_photos` wrote.
        photos: Their sizes, intrinsics and masks.
        config: SIFT settings; whether photos alike share a camera.
        exact: The photos are pinhole pictures whose `K` is known.
    """
    options = colmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.max_image_size = config.max_size
    options.sift.max_num_features = config.max_features
    options.sift.peak_threshold = config.peak_threshold
    for members in _camera_groups(photos, config.shared_camera and not exact).values():
        reader = colmap.ImageReaderOptions()
        if (folder / "masks").is_dir():
            reader.mask_path = folder / "masks"
        photo = photos[members[0]]
        fx, fy, cx, cy = (float(photo.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        if exact:
            reader.camera_model, reader.camera_params = "PINHOLE", f"{fx},{fy},{cx},{cy}"
        else:
            radial = len(members) >= _RADIAL_FROM
            reader.camera_model = "SIMPLE_RADIAL" if radial else "SIMPLE_PINHOLE"
            if photo.intrinsics != "default":
                reader.camera_params = f"{fx},{cx},{cy}" + (",0" if radial else "")
        colmap.extract_features(
            folder / "database.db",
            folder / "images",
            image_names=[file_name(i) for i in members],
            camera_mode=colmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
            device=colmap.Device.cpu,
        )


def match_features(colmap: Any, folder: Path, config: PoseConfig, seed: int) -> None:
    """Matches all pairs of photos in `folder`/database.db and verifies them geometrically."""
    matching = colmap.FeatureMatchingOptions()
    matching.use_gpu = False
    verification = colmap.TwoViewGeometryOptions()
    verification.min_num_inliers = config.min_inliers
    verification.ransac.random_seed = seed
    colmap.match_exhaustive(
        folder / "database.db", matching_options=matching, verification_options=verification, device=colmap.Device.cpu
    )
