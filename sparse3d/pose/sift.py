"""SIFT features and matches by COLMAP."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.config import PoseConfig
from sparse3d.io._pycolmap import pycolmap
from sparse3d.io.images import write_image
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.mapping import image_name
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

_SCORE = 0.5  # of every match: SIFT's ratio test says yes or no
_ENOUGH_PX = 900  # longer side from which a photo is not doubled
_MIN_MATCHES = 12  # that a fundamental matrix must explain, or the pair has none


class Sift:
    """SIFT (Lowe 2004) with COLMAP's extractor, matcher and first verification by a fundamental matrix.

    Raw nearest neighbours are mostly wrong where photos do not overlap; what is given on are those that fit some
    epipolar geometry, so that their share of right ones means the same as a learned matcher's.
    """

    def __init__(self, config: PoseConfig, thorough: bool) -> None:
        """`thorough` adds affine shape and domain-size pooling (Dong and Soatto 2015): wider baselines, four times slower."""
        self.name = "sift-affine" if thorough else "sift"
        self._config = config
        self._thorough = thorough

    def match(
        self, photos: Sequence[Photo], pairs: Sequence[Pair], progress: StageReporter, turns: Mapping[int, int] = {}
    ) -> Correspondences:
        """As `Matcher.match`. SIFT knows rotation: `turns` make no difference."""
        colmap = pycolmap()
        with tempfile.TemporaryDirectory(prefix="sparse3d-sift-") as temporary:
            folder = Path(temporary)
            _write_photos(folder, photos)
            progress.note(f"{self.name}: finding features in {len(photos)} photos")
            self._extract(colmap, folder, len(photos), min(max(photo.image.shape[1:]) for photo in photos))
            progress.note(f"{self.name}: matching {len(pairs)} pairs")
            _match(colmap, folder, pairs)
            return _read(colmap, folder / "d.db", photos, set(pairs))

    def _extract(self, colmap: Any, folder: Path, photos: int, longest: int) -> None:
        options = colmap.FeatureExtractionOptions()
        options.use_gpu = False
        options.max_image_size = self._config.max_size
        options.sift.max_num_features = 4096 if self._thorough else self._config.max_features
        options.sift.peak_threshold = self._config.peak_threshold
        # the doubled picture costs three quarters of the time; small photos need its features, large ones have enough
        options.sift.first_octave = -1 if self._thorough or longest < _ENOUGH_PX else 0
        options.sift.estimate_affine_shape = options.sift.domain_size_pooling = self._thorough
        reader = colmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_PINHOLE"
        if (folder / "masks").is_dir():
            reader.mask_path = folder / "masks"
        colmap.Database.open(str(folder / "d.db")).close()
        where: dict[str, Any] = {
            "database_path": folder / "d.db",
            "image_path": folder / "images",
            "image_names": [image_name(i) for i in range(photos)],
            "camera_mode": colmap.CameraMode.PER_IMAGE,
        }
        # without this, ids are given in the order in which threads are done, and the last bits of results change with them
        colmap.import_images(**where, options=reader)
        colmap.extract_features(**where, reader_options=reader, extraction_options=options, device=colmap.Device.cpu)


def _match(colmap: Any, folder: Path, pairs: Sequence[Pair]) -> None:
    matching = colmap.FeatureMatchingOptions()
    matching.use_gpu = False
    verification = colmap.TwoViewGeometryOptions()
    verification.min_num_inliers = _MIN_MATCHES
    verification.ransac.random_seed = 0
    listed = colmap.ImportedPairingOptions()
    listed.match_list_path = folder / "pairs.txt"
    listed.match_list_path.write_text("".join(f"{image_name(a)} {image_name(b)}\n" for a, b in pairs))
    colmap.match_image_pairs(
        folder / "d.db",
        matching_options=matching,
        pairing_options=listed,
        verification_options=verification,
        device=colmap.Device.cpu,
    )


def _read(colmap: Any, path: Path, photos: Sequence[Photo], pairs: set[Pair]) -> Correspondences:
    database = colmap.Database.open(str(path))
    try:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        of = [ids.get(image_name(i)) for i in range(len(photos))]
        keypoints = [np.zeros((0, 2)) if i is None else _positions(database.read_keypoints(i)) for i in of]
        matches = {}
        for a, b in sorted(pairs):
            if of[a] is not None and of[b] is not None and database.exists_two_view_geometry(of[a], of[b]):
                matches[a, b] = np.asarray(
                    database.read_two_view_geometry(of[a], of[b]).inlier_matches, dtype=np.int64
                ).reshape(-1, 2)
    finally:
        database.close()
    scores = {pair: np.full(len(found), _SCORE) for pair, found in matches.items()}
    return Correspondences(tuple(keypoints), matches, scores)


def _positions(keypoints: Any) -> np.ndarray:
    found = np.asarray(keypoints, dtype=np.float64)  # x, y and the affine shape
    return found[:, :2].copy() if len(found) else np.zeros((0, 2))


def _write_photos(folder: Path, photos: Sequence[Photo]) -> None:
    """Writes `folder`/images and, when any photo has a mask, `folder`/masks as COLMAP wants them: black is ignored.

    COLMAP stops at an image without a mask file where others have one, so photos without a mask get a white one.
    """
    masked = any(photo.mask is not None for photo in photos)
    for index, photo in enumerate(photos):
        write_image(folder / "images" / image_name(index), photo.image)
        if masked:
            mask = torch.ones(photo.image.shape[1:]) if photo.mask is None else photo.mask.float()
            write_image(folder / "masks" / f"{image_name(index)}.png", mask.expand(3, -1, -1))
