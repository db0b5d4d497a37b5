"""Structure from motion with COLMAP: SIFT, exhaustive matching, incremental mapping, bundle adjustment.

Schönberger and Frahm 2016 (Structure-from-Motion Revisited), through pycolmap, with thresholds that suit few photos.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse3d.config import PoseConfig
from sparse3d.errors import UserError
from sparse3d.io._pycolmap import pycolmap
from sparse3d.pose.features import extract_features, file_name, match_features, write_photos
from sparse3d.pose.known import load_known
from sparse3d.progress import StageReporter
from sparse3d.types import Photo, PosedViews

_PAIR_BASE = 2147483647  # COLMAP: pair_id = id1 * base + id2, id1 < id2


@dataclass(frozen=True)
class Matches:
    """Verified matches between photos: how well the set hangs together."""

    inliers: dict[tuple[str, str], int]

    def best_partner(self, name: str) -> tuple[str, int]:
        """The photo that shares most points with this one, and how many; ("", 0) when none does."""
        shared = [(count, b if a == name else a) for (a, b), count in self.inliers.items() if name in (a, b)]
        count, partner = max(shared, default=(0, ""))
        return partner, count


def estimate(photos: Sequence[Photo], config: PoseConfig, seed: int, progress: StageReporter) -> PosedViews:
    """Cameras and sparse points from photos alone; undistorted views of those that could be placed.

    Args:
        photos: At least two.
        config: Features, matching and mapping.
        seed: Of all RANSACs.
        progress: Told each phase, and warned of every photo that could not be placed and why.

    Returns:
        Views in the order of `photos`. World units are arbitrary: photos do not know their scale.

    Raises:
        UserError: no two photos could be placed; says which came nearest.
    """
    colmap = pycolmap()
    with tempfile.TemporaryDirectory(prefix="sparse3d-pose-") as temporary:
        folder = Path(temporary)
        names = {file_name(i): photo.name for i, photo in enumerate(photos)}
        write_photos(folder, photos)
        progress.start(f"finding features in {len(photos)} photos")
        extract_features(colmap, folder, photos, config)
        progress.note(f"matching {len(photos) * (len(photos) - 1) // 2} pairs")
        match_features(colmap, folder, config, seed)
        matches = _read_matches(folder / "database.db", names)
        model = _map(colmap, folder, config, seed, len(photos), progress)
        if model is None:
            raise UserError(_no_model(photos, matches, config))
        placed = set()
        for image_id in model.reg_image_ids():
            image = model.image(image_id)
            image.name = names[image.name]
            placed.add(image.name)
        (folder / "model").mkdir()
        model.write_binary(str(folder / "model"))
        for photo in photos:
            if photo.name not in placed:
                partner, count = matches.best_partner(photo.name)
                why = f"{count} matches with {partner}, its best partner" if partner else "it matches no other photo"
                progress.warning(f"{photo.name} could not be placed: {why}. A photo between the two would help")
        chosen = [photo for photo in photos if photo.name in placed]
        return load_known(folder / "model", chosen, warn=progress.warning)


def _read_matches(database: Path, names: dict[str, str]) -> Matches:
    """Verified match counts, straight from COLMAP's database (its documented SQLite layout)."""
    connection = sqlite3.connect(database)
    try:
        images = {image_id: names[name] for image_id, name in connection.execute("SELECT image_id, name FROM images")}
        rows = connection.execute("SELECT pair_id, rows FROM two_view_geometries WHERE rows > 0").fetchall()
    finally:
        connection.close()
    return Matches({(images[pair // _PAIR_BASE], images[pair % _PAIR_BASE]): count for pair, count in rows})


def mapping_options(colmap: Any, config: PoseConfig, seed: int) -> Any:
    """Thresholds of mapping and triangulation that suit few photos, where COLMAP's own ask for dozens."""
    options = colmap.IncrementalPipelineOptions()
    options.random_seed = seed
    options.min_model_size = 2
    options.min_num_matches = config.min_inliers
    options.max_focal_length_ratio = config.max_focal_ratio
    options.min_focal_length_ratio = 1 / config.max_focal_ratio
    options.structure_less_registration_fallback = False  # guesses; a view left out is better than a wrong one
    options.mapper.init_min_num_inliers = config.init_inliers
    options.mapper.init_min_tri_angle = config.init_angle_deg
    options.mapper.abs_pose_min_num_inliers = config.resection_inliers
    options.mapper.filter_min_tri_angle = 0.5
    options.triangulation.min_angle = 0.5
    options.triangulation.ignore_two_view_tracks = False
    return options


def _map(colmap: Any, folder: Path, config: PoseConfig, seed: int, total: int, progress: StageReporter) -> Any:
    """The model with most photos, the more exact one of equals; None when there is none."""
    options = mapping_options(colmap, config, seed)
    placed = 2

    def one_more() -> None:
        nonlocal placed
        placed += 1
        progress.step(min(placed, total), total, "placing photos")

    (folder / "sparse").mkdir()
    models = colmap.incremental_mapping(
        folder / "database.db", folder / "images", folder / "sparse", options=options, next_image_callback=one_more
    )
    return max(models.values(), key=lambda m: (m.num_reg_images(), -m.compute_mean_reprojection_error()), default=None)


def _no_model(photos: Sequence[Photo], matches: Matches, config: PoseConfig) -> str:
    advice = "Add photos that overlap by half or more and are taken from different places, or give cameras with --poses"
    if not matches.inliers:
        return f"no two of the {len(photos)} photos show the same thing: not one pair has {config.min_inliers} matches. {advice}"
    (a, b), count = max(matches.inliers.items(), key=lambda item: item[1])
    return (
        f"the cameras of these {len(photos)} photos could not be found: the best pair, {a} and {b}, has {count} verified matches "
        f"and gave no reconstruction (needed {config.init_inliers} at {config.init_angle_deg:g} degrees of parallax). {advice}"
    )
