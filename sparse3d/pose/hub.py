"""Matchers of the hub, through transformers: EfficientLoFTR, and SuperPoint with LightGlue.

EfficientLoFTR: Wang et al. 2024 (arXiv:2403.04765). SuperPoint: DeTone et al. 2018 (arXiv:1712.07629). LightGlue: Lindenberger
et al. 2023 (arXiv:2306.13643). Photos are made grey and smaller here and not by the image processors of transformers: those stretch them all
to one shape, round positions to whole pixels, and some need torchvision. Not yet run with the published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparse3d import errors
from sparse3d.errors import UserError
from sparse3d.models import store
from sparse3d.pose.correspondences import Correspondences, Pair
from sparse3d.pose.loftr import match_pictures
from sparse3d.pose.pictures import Picture, picture_of
from sparse3d.progress import StageReporter
from sparse3d.types import Photo

_GREY = torch.tensor([0.2989, 0.5870, 0.1140])  # of the image processors of transformers
_CELL = 2.0  # pixels of the network's picture within which positions found in several pairs are one keypoint


@dataclass(frozen=True)
class _Kind:
    network: str  # class of transformers
    since: str  # version of transformers
    max_size: int  # longer side of the picture that the network looks at, pixels
    multiple: int  # of which both sides of the picture must be
    match: Callable[[Any, Tensor], tuple[Tensor, Tensor, Tensor]]  # network, (2, 1, H, W) -> x, y, x, y, scores


class HubMatcher:
    """A network that takes two photos and gives matches, its weights from a folder as the hub has it."""

    def __init__(self, name: str, max_features: int = -1) -> None:
        """Loads the network.

        Args:
            name: efficientloftr or superpoint-lightglue.
            max_features: Keypoints per photo, for the network that has a detector; -1 for all.

        Raises:
            UserError: transformers is not installed or too old, or weights are missing or damaged.
        """
        self.name = name
        self._kind = _KINDS[name]
        self._network = _load(name, self._kind, max_features)

    @torch.inference_mode()
    def match(
        self, photos: Sequence[Photo], pairs: Sequence[Pair], progress: StageReporter, turns: Mapping[int, int] = {}
    ) -> Correspondences:
        """As `Matcher.match`."""
        wanted = sorted({index for pair in pairs for index in pair})
        pictures = {index: picture_of(photos[index], self._kind.max_size, turns.get(index, 0)) for index in wanted}
        found = {}
        for step, (a, b) in enumerate(pairs):
            progress.step(step, len(pairs), f"{self.name}: matching")
            found[a, b] = self._match(pictures[a], pictures[b])
        cells = [_CELL * pictures[i].scale if i in pictures else np.ones(2) for i in range(len(photos))]
        return merged(found, cells)

    def _match(self, a: Picture, b: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at_a, at_b, scores = self._kind.match(self._network, _framed((a.pixels, b.pixels), self._kind.multiple))
        in_a, counts_a = a.in_photo(at_a.double().numpy())
        in_b, counts_b = b.in_photo(at_b.double().numpy())
        counts = counts_a & counts_b
        return in_a[counts], in_b[counts], scores.double().numpy()[counts].clip(0.0, 1.0)


def merged(
    found: Mapping[Pair, tuple[np.ndarray, np.ndarray, np.ndarray]], cells: Sequence[np.ndarray]
) -> Correspondences:
    """One set of keypoints for each photo, of positions that are a little different in each pair.

    A point seen in three photos must be the same keypoint in both pairs that a photo has part in, or nothing joins the pairs.
    Positions of a photo in one cell of a grid become their mean, weighted by score. In each pair a keypoint keeps its best
    match alone.

    Args:
        found: Positions (M, 2) in the lower and in the higher photo, and scores (M,), of each pair.
        cells: Width and height of a cell for each of the V photos, pixels of the photo. (2,) each
    """
    keypoints, labels = [], []
    for view, cell in enumerate(cells):
        sides = [(pair, pair.index(view)) for pair in found if view in pair]
        positions = np.concatenate([np.zeros((0, 2)), *(found[pair][side] for pair, side in sides)])
        weights = np.concatenate([np.zeros(0), *(found[pair][2] for pair, _ in sides)]).clip(1e-6)
        _, label = np.unique(np.floor(positions / cell), axis=0, return_inverse=True)
        label = label.reshape(-1)
        total = np.bincount(label, weights)
        keypoints.append(np.stack([np.bincount(label, weights * positions[:, i]) / total for i in (0, 1)], axis=1))
        ends = np.cumsum([len(found[pair][2]) for pair, _ in sides])[:-1]
        labels.append(dict(zip((pair for pair, _ in sides), np.split(label, ends), strict=bool(sides))))
    matches, scores = {}, {}
    for (a, b), (_, _, score) in found.items():
        both = np.stack([labels[a][a, b], labels[b][a, b]], axis=1)
        kept = _best_alone(both, score)
        matches[a, b], scores[a, b] = both[kept], score[kept]
    return Correspondences(tuple(keypoints), matches, scores)


def _best_alone(matched: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the matches that are the best of both their keypoints, in order."""
    kept = np.argsort(-scores, kind="stable")
    for side in (0, 1):
        _, first = np.unique(matched[kept, side], return_index=True)
        kept = kept[np.sort(first)]
    return np.sort(kept)


def _framed(pictures: tuple[Tensor, Tensor], multiple: int) -> Tensor:
    """Two pictures, grey, each in the first corner of a frame that holds both. (2, 1, H, W)

    What is left of the frame repeats the last pixel of the picture: black would be an edge that both pictures have.
    """
    height, width = (-(-max(picture.shape[side] for picture in pictures) // multiple) * multiple for side in (1, 2))
    grey = [(picture * _GREY[:, None, None]).sum(0, keepdim=True)[None] for picture in pictures]
    return torch.cat(
        [F.pad(one, (0, width - one.shape[3], 0, height - one.shape[2]), mode="replicate") for one in grey]
    )


def _superpoint(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matches of two pictures by LightGlue of transformers, with the detector that is part of it."""
    found = network(pixel_values=pixels[None])
    # positions come as shares of the size, the pixel's whole-number index divided by it
    keypoints = found.keypoints[0] * torch.tensor([pixels.shape[3], pixels.shape[2]]) + 0.5
    is_one = found.mask[0].bool()  # the photo with fewer keypoints is filled up
    partner = found.matches[0, 0].long()
    if not len(partner):
        return keypoints[0], keypoints[1], found.matching_scores[0, 0]
    kept = is_one[0] & (partner >= 0) & is_one[1][partner.clamp(min=0)]
    return keypoints[0][kept], keypoints[1][partner[kept]], found.matching_scores[0, 0][kept]


_KINDS = {
    # 640 x 480 takes about 6 s of a CPU core for a pair
    "efficientloftr": _Kind("EfficientLoFTRForKeypointMatching", "4.54", 640, 32, match_pictures),
    "superpoint-lightglue": _Kind("LightGlueForKeypointMatching", "4.53", 1024, 8, _superpoint),
}


def _load(name: str, kind: _Kind, max_features: int) -> Any:
    transformers = errors.require("transformers", extra="matchers", purpose=f"matching by {name}")
    folder = store.require(name)
    network_class = getattr(transformers, kind.network, None)
    if network_class is None:
        raise UserError(
            f"matching by {name} needs transformers {kind.since} or newer, and {transformers.__version__} is installed. "
            "Update it with: pip install -U 'sparse3d[matchers]'"
        )
    try:
        settings = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        detector = getattr(settings, "keypoint_detector_config", None)
        if detector is not None and max_features > 0:
            detector.max_keypoints = max_features
        with _without_bars(transformers):
            network, report = network_class.from_pretrained(
                folder, config=settings, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # transformers, safetensors and json have no error in common
        raise UserError(_damaged(name, folder, f"{type(error).__name__}: {error}".splitlines()[0])) from error
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):  # it fills in random weights for these
        if report.get(problem):
            raise UserError(_damaged(name, folder, f"{problem.replace('_', ' ')}: {min(map(str, report[problem]))}"))
    return network.float().eval()


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """Keeps transformers from drawing its progress into ours."""
    logging = transformers.utils.logging
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _damaged(name: str, folder: Path, found: str) -> str:
    return f"the weights {name} in {folder} cannot be used ({found}). Get them again with: sparse3d models fetch {name} --force"
