"""What pose estimation found for each photo, and why some have no camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import fitted_size
from sparse3d.pose.ladder import Climb
from sparse3d.pose.uncertainty import Uncertainty
from sparse3d.types import Photo

_WEAK_DEG = 1.0  # standard deviation of a rotation above which it is worth a warning
_WEAK_DIRECTION_DEG = 4.0  # the same of the way from the first photo
_WEAK_FOCAL = 0.05
_BLURRED = 0.3  # times the median sharpness of the others


@dataclass(frozen=True)
class PhotoPose:
    """One photo's outcome."""

    name: str
    placed: bool
    why: str  # what holds it, or why it has no camera
    partner: str  # the photo that agrees or matches best; "" when none does
    matches: int  # with that partner: agreeing ones when placed, else putative ones
    error_px: float | None  # mean reprojection error of its points, pixels of the photo
    rotation_deg: float | None  # standard deviation by the bundle adjustment; None where it could not be had
    direction_deg: float | None  # the same of the way to it from the first placed photo


@dataclass(frozen=True)
class PoseReport:
    """The outcome of pose estimation."""

    photos: tuple[PhotoPose, ...]
    matches: tuple[tuple[int, ...], ...]  # V x V: agreeing matches of placed pairs, verified ones of others
    how: str  # matchers that were used, or where the cameras came from
    focal: tuple[tuple[float, float | None], ...]  # of each camera: focal length over longer side, standard deviation

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def report_of(photos: Sequence[Photo], climb: Climb, uncertainty: Uncertainty | None) -> PoseReport:
    """The report of what the ladder found."""
    solution = climb.solution
    matrix = np.zeros((len(photos), len(photos)), dtype=int)
    for pair, two in solution.pairs.items():
        matrix[pair] = matrix[pair[::-1]] = len(two.inliers)
    for pair, link in solution.links.items():
        matrix[pair] = matrix[pair[::-1]] = link.count
    sharpness = [_sharpness(photo.image) for photo in photos]
    placed = [_placed(i, photos, climb, uncertainty) for i in range(len(photos))]
    outcome = [
        known or _left_out(i, photos, climb, sharpness[i] < _BLURRED * float(np.median(sharpness)))
        for i, known in enumerate(placed)
    ]
    focal: list[tuple[float, float | None]] = []
    if solution.model is not None:
        for key, camera in sorted(solution.model.cameras.items()):
            if any(solution.model.image(i).camera_id == key for i in solution.model.reg_image_ids()):
                longest = max(camera.width, camera.height)
                sigma = None if uncertainty is None else uncertainty.focal_px.get(key)
                focal.append((camera.mean_focal_length() / longest, None if sigma is None else sigma / longest))
    return PoseReport(
        tuple(outcome),
        tuple(tuple(int(n) for n in row) for row in matrix),
        " + ".join(dict.fromkeys(climb.rungs)),
        tuple(focal),
    )


def _placed(index: int, photos: Sequence[Photo], climb: Climb, uncertainty: Uncertainty | None) -> PhotoPose | None:
    solution = climb.solution
    model = solution.model
    if model is None or index not in solution.placed:
        return None
    best, count = _best(index, {pair: link.count for pair, link in solution.links.items()})
    partners = sum(link.count > 0 for pair, link in solution.links.items() if index in pair)
    image = model.image(index + 1)
    errors = [model.point3D(point.point3D_id).error for point in image.points2D if point.has_point3D()]
    return PhotoPose(
        photos[index].name,
        True,
        f"{count} matches with {photos[best].name} agree" + (f", and with {partners - 1} more" if partners > 1 else ""),
        photos[best].name,
        count,
        float(np.mean(errors)) if errors else None,
        None if uncertainty is None else uncertainty.rotation_deg.get(index),
        None if uncertainty is None else uncertainty.direction_deg.get(index),
    )


def _left_out(index: int, photos: Sequence[Photo], climb: Climb, blurred: bool) -> PhotoPose:
    solution, name = climb.solution, photos[index].name
    putative, count = _best(index, {pair: climb.correspondences.count(pair) for pair in climb.correspondences.matches})
    of = {pair: two for pair, two in solution.pairs.items() if index in pair}
    verified, inliers = _best(index, {pair: len(two.inliers) for pair, two in of.items()})
    blur = "; it is blurred, compared with the others" if blurred else ""
    if index in solution.dropped:
        why = solution.dropped[index]
    elif of and all(two.kind == "rotation" for two in of.values()):
        why = f"it was taken from the same place as {photos[verified].name}, only turned: that gives no depth"
    elif of and all(two.kind == "planar" for two in of.values()):
        why = f"what it shares with {photos[verified].name} is one flat surface, which leaves its pose open"
    elif of:
        why = f"{inliers} matches with {photos[verified].name}, its best partner, were not enough to place it safely"
    elif count:
        why = f"its {count} matches with {photos[putative].name}, its best partner, fit no camera"
    else:
        why = "it matches no other photo"
    partner = photos[putative].name if count else ""
    return PhotoPose(name, False, why + blur, partner, count, None, None, None)


def _best(index: int, counts: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The other photo of the pair with most, and how many; (index, 0) for none."""
    of = [(count, a if b == index else b) for (a, b), count in counts.items() if index in (a, b)]
    count, other = max(of, default=(0, index))
    return other, count


def _sharpness(image: Tensor) -> float:
    """Energy of the Laplacian over that of the picture, at 640 pixels: falls with blur, not with contrast."""
    height, width = fitted_size(image.shape[1], image.shape[2], 640)
    grey = F.interpolate(image[None].mean(dim=1, keepdim=True), (height, width), mode="area")
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return float(F.conv2d(grey, kernel).var() / grey.var().clamp(min=1e-6))


def warnings_of(report: PoseReport) -> list[str]:
    """What a user should know before trusting the scene."""
    found = []
    for photo in report.photos:
        if not photo.placed:
            found.append(f"{photo.name} has no camera: {photo.why}. A photo between it and the others would help")
        elif (photo.rotation_deg or 0) > _WEAK_DEG or (photo.direction_deg or 0) > _WEAK_DIRECTION_DEG:
            found.append(
                f"the camera of {photo.name} is uncertain: +-{photo.rotation_deg or 0:.1f} degrees in rotation, "
                f"+-{photo.direction_deg or 0:.1f} in the way to it"
            )
    for ratio, sigma in report.focal:
        if sigma is not None and sigma > _WEAK_FOCAL * ratio:
            found.append(
                f"the photos do not fix their focal length ({ratio:.2f} +- {sigma:.2f} of the longer side); give it with "
                "--intrinsics if you know it"
            )
    return found


def matrix_picture(report: PoseReport) -> Tensor:
    """The matches between all pairs as a picture, photos in rows and columns, brighter for more. (3, H, W)"""
    from PIL import Image, ImageDraw

    views = len(report.photos)
    cell = max(18, min(64, 900 // views))
    left = 8 + 7 * max(len(photo.name[-24:]) for photo in report.photos)
    canvas = Image.new("RGB", (left + views * cell + 8, views * cell + 30), "white")
    draw = ImageDraw.Draw(canvas)
    most = max(max(row) for row in report.matches) or 1
    for i, photo in enumerate(report.photos):
        colour = "black" if photo.placed else (200, 60, 20)
        draw.text((4, 24 + i * cell + cell // 2 - 6), photo.name[-24:], fill=colour)
        draw.text((left + i * cell + cell // 2 - 6, 6), str(i + 1), fill=colour)
        for j, count in enumerate(report.matches[i]):
            share = (count / most) ** 0.5
            fill = (200, 205, 212) if i == j else tuple(round(255 - share * (255 - c)) for c in (11, 83, 148))
            box = (left + j * cell, 24 + i * cell, left + (j + 1) * cell - 2, 24 + (i + 1) * cell - 2)
            draw.rectangle(box, fill=fill)
            if i != j and cell >= 30:
                draw.text((box[0] + 3, box[1] + cell // 2 - 6), str(count), fill="white" if share > 0.5 else "black")
    return torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1).float() / 255


def no_cameras(report: PoseReport) -> str:
    """The message for photos of which no two could be placed."""
    advice = "Add photos that overlap by half or more and are taken from different places, or give cameras with --poses"
    reasons = "; ".join(f"{photo.name}: {photo.why}" for photo in report.photos[:4])
    more = f"; and {len(report.photos) - 4} more" if len(report.photos) > 4 else ""
    return (
        f"the cameras of these {len(report.photos)} photos could not be found ({report.how}). {reasons}{more}. {advice}"
    )
