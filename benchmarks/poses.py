"""Cameras from 3 and 6 photos against each set's own model: registered views, rotation and direction errors, focal, seconds.

    python benchmarks/poses.py                        # every set, 3 and 6 photos, without EXIF
    python benchmarks/poses.py fern brighton --exif   # focal lengths by EXIF, where the files have them
    python benchmarks/poses.py --matchers sift        # one rung alone

Errors are over all pairs of placed views: angle of the relative rotation to the true one, and angle between the relative
translation directions. A set is good when all photos are placed with mean errors below 2 and 5 degrees.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import combinations

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.photo_sets import DATA, SETS
from torch import Tensor

from sparse3d.config import load_config
from sparse3d.errors import UserError
from sparse3d.io.colmap import read_model
from sparse3d.io.photos import DEFAULT_FOCAL, load_photos
from sparse3d.pose.estimate import estimate_poses
from sparse3d.progress import StageReporter
from sparse3d.types import Photo


def angle_deg(a: Tensor, b: Tensor) -> float:
    """Between two directions."""
    return float(torch.rad2deg(torch.atan2(torch.linalg.cross(a, b).norm(), a @ b)))


def pair_errors(w2c: dict[str, Tensor], truth: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Rotation and translation-direction errors in degrees over all pairs of views."""
    rotations, directions = [], []
    for a, b in combinations(sorted(w2c), 2):
        relative = [of[b] @ torch.linalg.inv(of[a]) for of in (w2c, truth)]
        turn = relative[0][:3, :3] @ relative[1][:3, :3].T
        skew = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        rotations.append(float(torch.rad2deg(torch.atan2(skew.norm(), turn.trace() - 1))))
        directions.append(angle_deg(relative[0][:3, 3], relative[1][:3, 3]))
    return torch.tensor(rotations), torch.tensor(directions)


def without_exif(photo: Photo) -> Photo:
    """The photo as if its file said nothing of its camera."""
    height, width = photo.image.shape[1:]
    focal = DEFAULT_FOCAL * max(height, width)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Photo(photo.name, photo.image, K, "default", photo.sha256, photo.mask, photo.path)


def measure(name: str, views: str, arguments: argparse.Namespace) -> tuple[str, bool, float | None, float | None]:
    """One row of the table; whether it is good, mean rotation error, greatest rotation error."""
    folder = DATA / name
    files = [folder / "images" / file for file in json.loads((folder / "split.json").read_text())[views]]
    config = load_config("balanced", [*arguments.settings, f"pose.matchers={arguments.matchers}"])
    photos = load_photos(files, config.pose.max_size, warn=print)
    if not arguments.exif:
        photos = tuple(without_exif(photo) for photo in photos)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        found = estimate_poses(
            photos,
            config.pose,
            known=None,
            max_size=1008,
            strict=False,
            seed=arguments.seed,
            progress=StageReporter("pose"),
        )
    except UserError:
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return f"| {name} | 0 of {len(photos)} | – | – | – | {seconds:.1f} ({cpu:.1f}) | – |", False, None, None
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    model = read_model(folder / "sparse" / "0")
    truth = {image: w2c.double() for image, w2c in zip(model.names, model.w2c, strict=True)}
    posed = found.views
    rotation, direction = pair_errors({v.name: torch.linalg.inv(v.c2w.double()) for v in posed.views}, truth)
    assert found.report is not None
    lens = model.lenses[0]
    focal = found.report.focal[0][0] * max(lens.width, lens.height) / float(lens.K[0, 0])
    good = len(posed.views) == len(photos) and bool(rotation.mean() < 2) and bool(direction.mean() < 5)
    row = (
        f"| {name} | {len(posed.views)} of {len(photos)} | {rotation.mean():.2f} / {rotation.max():.2f} | {direction.mean():.2f} / "
        f"{direction.max():.2f} | {focal:.3f} | {seconds:.1f} ({cpu:.1f}) | {found.report.how} |"
    )
    return row, good, float(rotation.mean()), float(rotation.max())


def main() -> None:
    """Prints a Markdown table for each number of photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=SETS, help=f"names below {DATA}")
    parser.add_argument("--views", nargs="+", default=["train3", "train6"], help="splits of split.json")
    parser.add_argument("--exif", action="store_true", help="use focal lengths by EXIF, where there are any")
    parser.add_argument("--matchers", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    arguments = parser.parse_args()
    for views in arguments.views:
        print(
            f"\n{views}, {'with' if arguments.exif else 'without'} EXIF\n\n"
            "| set | placed | rotation mean / max (deg) | direction mean / max (deg) | focal / true | seconds (CPU) | matchers |\n"
            "|---|---|---|---|---|---|---|",
            flush=True,
        )
        results = []
        for name in arguments.sets:
            row, *result = measure(name, views, arguments)
            results.append(result)
            print(row, flush=True)
        means = torch.tensor([mean for good, mean, _ in results if good])
        worst = max((most for _, _, most in results if most is not None), default=0.0)
        print(
            f"\n{len(means)} of {len(results)} good, median of their mean rotation errors {means.median() if len(means) else 0:.2f} deg; "
            f"greatest rotation error of any placed pair {worst:.2f} deg",
            flush=True,
        )


if __name__ == "__main__":
    main()
