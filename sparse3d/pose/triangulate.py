"""Sparse points for cameras that came without any."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.colmap import read_model, write_model
from sparse3d.pose.colmap import mapping_options
from sparse3d.pose.features import extract_features, file_name, match_features, write_photos
from sparse3d.types import Photo, Points, PosedViews


def triangulate(posed: PosedViews, config: PoseConfig, seed: int) -> Points:
    """Points matched between views and triangulated with their cameras held fixed, through COLMAP.

    Args:
        posed: At least two views; their own points are not used.
        config: Features and matching.
        seed: Of all RANSACs.

    Returns:
        Points in the frame of the cameras; none where nothing matches.
    """
    colmap = pycolmap()
    views = [replace(view, name=file_name(i)) for i, view in enumerate(posed.views)]
    names = {view.name: original.name for view, original in zip(views, posed.views, strict=True)}
    with tempfile.TemporaryDirectory(prefix="sparse3d-points-") as temporary:
        folder = Path(temporary)
        photos = [Photo(view.name, view.image, view.K, "given", "", view.mask) for view in views]
        write_photos(folder, photos)
        extract_features(colmap, folder, photos, config, exact=True)
        match_features(colmap, folder, config, seed)
        write_model(folder / "cameras", PosedViews(tuple(views), Points.none()))
        model = colmap.Reconstruction(str(folder / "cameras"))
        (folder / "points").mkdir()
        options = mapping_options(colmap, config, seed)
        # a given camera is right however wide or narrow it is
        for limits in (options, options.mapper, options.triangulation):
            limits.min_focal_length_ratio, limits.max_focal_length_ratio = 1e-3, 1e3
        colmap.triangulate_points(model, folder / "database.db", folder / "images", folder / "points", options=options)
        points = read_model(folder / "points").points
    tracks = tuple(tuple(names[name] for name in track) for track in points.tracks)
    return Points(points.xyz, points.rgb, points.error_px, tracks)
