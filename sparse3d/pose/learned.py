"""Learned features and matchers of kornia: ALIKED, DISK and XFeat, each with its LightGlue.

ALIKED: Zhao et al. 2023 (arXiv:2304.03608). DISK: Tyszkiewicz et al. 2020 (arXiv:2006.13566). XFeat: Potje et al. 2024
(arXiv:2404.19174). LightGlue: Lindenberger et al. 2023 (arXiv:2306.13643). The networks are kornia's, the weights those
that their authors publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse3d.models.store import require
from sparse3d.models.weights import check_manifest, load_state
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.pictures import picture_of
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

_SIZE = {"aliked": 800, "disk": 800, "xfeat": 1024}  # longer side of the picture that features are found in, pixels


@dataclass(frozen=True)
class _Features:
    keypoints: Tensor  # (N, 2) pixels of the network's picture, pixel centres at whole numbers as in kornia
    descriptors: Tensor  # (N, C)
    size: tuple[int, int]  # width, height of that picture
    positions: np.ndarray  # (N, 2) float64, pixels of the photo, pixel centres at +0.5


class KorniaMatcher:
    """One kind of learned feature and the LightGlue that was trained for it."""

    def __init__(self, name: str, max_features: int, max_size: int | None = None) -> None:
        """Loads the networks.

        Args:
            name: aliked, disk or xfeat.
            max_features: Per photo.
            max_size: Longer side of the picture that features are found in, pixels; by kind when left out.

        Raises:
            UserError: weights are missing or damaged.
        """
        self.name = name
        self._max_features = max_features
        self._max_size = max_size or _SIZE[name]
        self._extractor = _extractor(name, max_features)
        self._lightglue = _lightglue(name)
        self._found: dict[tuple[str, int], _Features] = {}  # by hash of the photo and turn

    @torch.inference_mode()
    def match(
        self, photos: Sequence[Photo], pairs: Sequence[Pair], progress: StageReporter, turns: Mapping[int, int] = {}
    ) -> Correspondences:
        """As `Matcher.match`."""
        wanted = sorted({index for pair in pairs for index in pair})
        features = {}
        for step, index in enumerate(wanted):
            progress.step(step, len(wanted) + len(pairs), f"{self.name}: finding features")
            features[index] = self._features(photos[index], turns.get(index, 0))
        matches, scores = {}, {}
        for step, (a, b) in enumerate(pairs):
            progress.step(len(wanted) + step, len(wanted) + len(pairs), f"{self.name}: matching")
            matches[a, b], scores[a, b] = self._match(features[a], features[b])
        keypoints = [features[i].positions if i in features else np.zeros((0, 2)) for i in range(len(photos))]
        return Correspondences(tuple(keypoints), matches, scores)

    def _features(self, photo: Photo, turn: int) -> _Features:
        key = (photo.sha256, turn % 4)
        if key not in self._found:
            self._found[key] = self._find(photo, turn % 4)
        return self._found[key]

    def _find(self, photo: Photo, turn: int) -> _Features:
        picture = picture_of(photo, self._max_size, turn)
        keypoints, descriptors, centre = self._extract(picture.pixels)
        positions, counts = picture.in_photo((keypoints + centre).double().numpy())
        height, width = picture.pixels.shape[1:]
        return _Features(keypoints[counts], descriptors[counts], (width, height), positions[counts])

    def _extract(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints, descriptors, and what to add to keypoints for pixel centres at +0.5."""
        h, w = picture.shape[1:]
        half = torch.tensor([0.5, 0.5])
        if self.name == "xfeat":  # looks at the picture resized to multiples of 32
            found = self._extractor.detectAndCompute(picture[None], top_k=self._max_features)[0]
            ratio = torch.tensor([w / max(w // 32 * 32, 32), h / max(h // 32 * 32, 32)])
            return found["keypoints"], found["descriptors"], 0.5 * ratio
        if self.name == "disk":
            found = self._extractor(picture[None], n=self._max_features, pad_if_not_divisible=True)[0]
        else:
            found = self._extractor(picture[None])[0]
        return found.keypoints, found.descriptors, half

    def _match(self, a: _Features, b: _Features) -> tuple[np.ndarray, np.ndarray]:
        if not len(a.keypoints) or not len(b.keypoints):
            return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
        found = self._lightglue({"image0": _input(a), "image1": _input(b)})
        return found["matches"][0].numpy(), found["scores"][0].double().numpy()


def _input(features: _Features) -> dict[str, Tensor]:
    return {
        "keypoints": features.keypoints[None],
        "descriptors": features.descriptors[None],
        "image_size": torch.tensor([features.size]),
    }


def _extractor(name: str, max_features: int) -> Any:
    from kornia.feature import ALIKED, DISK, XFeat

    if name == "aliked":
        aliked = ALIKED("aliked-n16", max_num_keypoints=max_features, detection_threshold=-1)
        state = load_state(require("aliked-n16"))
        check_manifest(state, aliked, what="aliked-n16", computed=["dkd.hw_grid"])
        aliked.load_state_dict(state, strict=False)
        return aliked.eval()
    if name == "disk":
        disk = DISK()
        disk.load_state_dict(load_state(require("disk"), inside="extractor"))
        return disk.eval()
    xfeat = XFeat(top_k=max_features)
    xfeat.net.load_state_dict(load_state(require("xfeat")))
    return xfeat.eval()


def _lightglue(kind: str) -> Any:
    from kornia.feature import LightGlue

    name = "xfeat-lighterglue" if kind == "xfeat" else f"{kind}-lightglue"
    nothing: Any = None  # no name, no download: kornia's own way to build a network from its settings
    network = LightGlue(features=nothing, **{**LightGlue.features[kind], "weights": None})
    state = {}
    for key, value in load_state(require(name)).items():
        # the files carry the extractor and a constant too, and LightGlue's layers by their first names
        if key.startswith("extractor.") or (key.startswith("log_assignment.") and key.endswith(".r")):
            continue
        head, _, rest = key.removeprefix("matcher.").partition(".")
        if head in ("self_attn", "cross_attn"):
            layer, _, rest = rest.partition(".")
            head = f"transformers.{layer}.{head}"
        state[f"{head}.{rest}"] = value
    check_manifest(state, network, what=name, computed=["confidence_thresholds"])
    network.load_state_dict(state, strict=False)
    return network.eval()
