"""Photos to scene without given poses, against the set's own model: registered views, pose errors, minutes, held-out PSNR.

    python benchmarks/recon.py fountain fox:5 fern apartment_walk

`fox:5` takes every 5th photo. Pose errors are after the best similarity: degrees, and % of the largest distance of a true camera to their mean.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.photo_sets import DATA

from sparse3d.cli.progress import reporter
from sparse3d.config import load_config
from sparse3d.io.colmap import read_model
from sparse3d.io.load import load_scene
from sparse3d.io.photos import find_photos
from sparse3d.metrics.pose import pose_errors
from sparse3d.pipeline import recon


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help=f"names below {DATA}; NAME:5 for every 5th photo")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--holdout", type=int, default=8)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="keep the scene folders here")
    arguments = parser.parse_args()
    columns = (
        "scene",
        "registered",
        "rotation mean / max (deg)",
        "position mean / max (%)",
        "minutes (pose, init, optimize)",
        "PSNR",
        "SSIM",
    )
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for entry in arguments.scenes:
            name, _, every = entry.partition(":")
            photos = find_photos([DATA / name / "images"])[:: int(every or 1)]
            output = (arguments.output or Path(temporary)) / entry.replace(":", "_")
            config = load_config(arguments.preset, arguments.settings)
            with reporter() as report:
                result = recon(photos, output, config, holdout=arguments.holdout, report=report)
            minutes = sum(result.seconds.values()) / 60  # of the stages, also of those that an earlier run did
            posed = load_scene(output).posed
            model = read_model(DATA / name / "sparse" / "0")
            truth = torch.linalg.inv(model.w2c[[model.names.index(view) for view in posed.names]].double())
            errors = pose_errors(torch.stack([view.c2w for view in posed.views]).double(), truth)
            angle, place = errors.rotation_deg, 100 * errors.position
            parts = ", ".join(f"{seconds / 60:.1f}" for seconds in result.seconds.values())
            scores = result.scores or {}
            print(
                f"| {entry} | {result.registered} of {len(photos)} | {angle.mean():.2f} / {angle.max():.2f} | {place.mean():.2f} / {place.max():.2f} "
                f"| {minutes:.1f} ({parts}) | {scores.get('psnr', float('nan')):.2f} | {scores.get('ssim', float('nan')):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
