"""Haze and floaters: what stands in front of the true surfaces, from held-out cameras and on a flight to both sides.

    python benchmarks/floaters.py                                             # every set, 3 views
    python benchmarks/floaters.py fern fox --views 3 6 --baseline plain first --output out/flights

PSNR hardly sees a thin veil or a few specks, but anyone who moves the camera does. Scenes are made as by sparse.py with the set's own
cameras. The truth are the points of the set's full model, where a camera sees them: *haze* is the mean alpha that is accumulated
there by Gaussians nearer than 0.9 of the true depth, *opaque* the share of these pixels where it is more than a half. Nothing is
known between the points, so sky and bare walls do not count, but everything that is seen in front of the points does.

*held-out* is measured at the test views, with the points whose track holds the view. *orbit* is measured on 12 cameras of a flight from 15
degrees left to 15 degrees right of the middle training view, about the point that the training views look at; there a point counts
unless another one close by in the picture is nearer. Where that hides too little, a true surface counts as haze, for every method
alike: compare methods, and numbers before and after a change, on the same scene. Zero is out of reach: points are a little off, and
Gaussians blur edges.

--output writes the flight of each run as an MP4 and its 12 cameras as a contact sheet.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.baselines import BASELINES, Method, methods
from harness.contact_sheet import frame_sheet
from harness.flight import swing, write_flight
from harness.haze import alpha_in_front, surface_from, surfaces_of
from harness.photo_sets import DATA, SETS, fold_of, folder_of, folds_of, model_points
from harness.sparse_run import Reconstruction, Task, reconstruct
from harness.tables import Table
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.io.images import write_image
from sparse3d.metrics.protocol import evaluate_views, mean_scores
from sparse3d.optimize.loop import look_of
from sparse3d.render import choose, drawer, rasterizer
from sparse3d.types import Points

COLUMNS = ("scene", "views", "method", "haze held-out %", "haze orbit %", "opaque orbit %", "PSNR")
SWING_DEG = 15.0
FRAMES = 48  # of the flight
MEASURED = 12  # of its frames


def measure(made: Reconstruction, method: Method, points: Points, flight: Path | None) -> list[str]:
    """Measured cells of one run's row. The flight is written to two files of this name and their own suffixes."""
    gaussians, views, test = made.fit.gaussians, made.photos.training.views, made.photos.test
    look, rasterize = look_of(views, method.config.optimize), rasterizer(method.config.renderer)
    draw = drawer(gaussians, look, method.config.renderer)

    seen = zip(test, surfaces_of(test, points), strict=True)
    held_out = [alpha_in_front(gaussians, view.cameras, surface, look, rasterize) for view, surface in seen]

    angles = torch.linspace(-SWING_DEG, SWING_DEG, FRAMES).tolist()
    cameras = swing(views, angles)
    chosen = torch.linspace(0, FRAMES - 1, MEASURED).round().long().tolist()
    surfaces = [surface_from(cameras[index], points) for index in chosen]
    orbit = [
        alpha_in_front(gaussians, cameras[index], surface, look, rasterize)
        for index, surface in zip(chosen, surfaces, strict=True)
    ]
    if flight is not None:
        frames = [draw(camera).image[0].clamp(0, 1) for camera in cameras]
        write_flight(Path(f"{flight}.mp4"), frames)
        labels = [
            f"{angles[index]:+.1f} deg  haze {percent([alpha])} %" for index, alpha in zip(chosen, orbit, strict=True)
        ]
        sheet = frame_sheet([(label, frames[index]) for label, index in zip(labels, chosen, strict=True)], columns=4)
        write_image(Path(f"{flight}.png"), sheet)
    psnr = mean_scores(evaluate_views(draw, test))["psnr"]
    return [percent(held_out), percent(orbit), percent([(alpha > 0.5).float() for alpha in orbit]), f"{psnr:.2f}"]


def percent(shares: Sequence[Tensor]) -> str:
    """Mean over all pixels of all cameras; nan where there is none."""
    return f"{100 * float(torch.cat(list(shares)).mean()):.2f}"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", default=SETS, help=f"names below {DATA}, or folders")
    parser.add_argument("--views", type=int, nargs="+", default=[3])
    parser.add_argument("--size", type=int, default=504, help="longer side, pixels")
    parser.add_argument("--baseline", nargs="+", choices=BASELINES, default=[], help="rows to compare with")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for a video and a contact sheet of each run")
    return parser.parse_args()


def main() -> None:
    """Prints a Markdown table."""
    options = arguments()
    if options.output is not None:
        require("imageio_ffmpeg", extra="video", purpose="writing the flight")  # before minutes of work, not after
    compared = methods(options.preset, options.settings, options.baseline)
    settings = " ".join([options.preset, *options.settings])
    renderer = choose(compared[0].config.renderer)
    table = Table(f"given cameras, {options.size} px, {settings}, renderer {renderer}", COLUMNS)
    notes = []
    for scene in map(folder_of, options.scenes):
        points = model_points(scene, options.size)
        for count in options.views:
            if not folds_of(scene, count):
                notes.append(f"{scene.name}: its split.json has no train{count}")
                continue
            for method in compared:
                row = (scene.name, str(count), method.name)
                try:
                    made = reconstruct(Task(scene, fold_of(scene, count), options.size, method))
                except UserError as problem:
                    notes.append(f"{', '.join(row)}: {problem}")
                    table.row(*row, *[None] * (len(COLUMNS) - len(row)))
                    continue
                flight = options.output / "_".join(row) if options.output else None
                table.row(*row, *measure(made, method, points, flight))
    print("\n" + "\n".join(f"- {note}" for note in notes) if notes else "")


if __name__ == "__main__":
    main()
