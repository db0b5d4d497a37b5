"""Cameras that a network predicts, as a reconstruction to refine: a start, which the matches have to hold up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparse3d.config import PoseConfig
from sparse3d.pose.mapping import posed_model
from sparse3d.pose.networks import Prediction, pose_network
from sparse3d.progress import StageReporter
from sparse3d.types import Photo


def predict(photos: Sequence[Photo], config: PoseConfig, progress: StageReporter) -> Prediction:
    """What `config.network` says of the photos.

    Raises:
        UserError: unknown network, package or weights missing, or a licence that was not accepted.
    """
    network = pose_network(config.network, config.network_weights or None, accept_license=config.accept_license)
    progress.note(f"predicting cameras with {config.network}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known = all(photo.intrinsics == "given" for photo in photos)
    K = torch.stack([photo.K for photo in photos]) if known else None
    found = network.predict([photo.image for photo in photos], device, K)
    if not found.verified:
        progress.note(
            f"{config.network} has not been verified against its published weights; its cameras are a start only"
        )
    return found


def predicted_model(cameras: Sequence[Any], predicted: Prediction) -> Any:
    """The predicted poses as a reconstruction without points, its cameras with predicted focal lengths.

    Args:
        cameras: A pycolmap camera for each photo, as of `first_cameras`; those with a known focal length keep it. The
            others get the median of the predictions for their photos, in place.
        predicted: Of the same photos.
    """
    focal = defaultdict(list)
    for camera, K in zip(cameras, predicted.K, strict=True):
        focal[camera.camera_id].append(float(K[0, 0]))
    for camera in cameras:
        if not camera.has_prior_focal_length:
            camera.params = [float(np.median(focal[camera.camera_id])), *camera.params[1:]]
    return posed_model(cameras, {i: w2c.double().numpy() for i, w2c in enumerate(predicted.w2c)})
