"""What a scene of one photo is worth: its neighbours against a flat picture and a warp by the same depth; and whether lifted photos agree with themselves.

    python benchmarks/single.py neighbours room fern fountain apartment_walk --prior classical
    python benchmarks/single.py neighbours room --prior oracle
    python benchmarks/single.py singles --output /tmp/sheets

`neighbours`: one photo of a set is lifted, up to four others that look the same way from nearest by are truth, 504 px. Columns: *flat*, the photo as a
plane at its median depth; *warp*, the photo drawn by the same depth, its mean colour where it shows nothing; *layers*, what lifting gives; *scene*,
what `sparse3d hallucinate` makes; *bar*, the warp where it shows something and the truth elsewhere: what the depth allows at best.

`singles`: photos with no truth. From each of eight cameras at the end of the navigable radius the picture is lifted anew by geometry and warped back to the
photo, which shows whether its parallax is that of a place seen from elsewhere (a cycle: the estimator judges itself). Same for the flat picture.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from harness.contact_sheet import frame_sheet
from harness.one_photo import Picture, one_photo, scene_of, shown, warped
from harness.oracle import Oracle
from harness.photo_sets import DATA
from harness.tables import Table

from sparse3d.config import Config, LiftConfig, load_config
from sparse3d.io.images import write_image
from sparse3d.io.photos import find_photos, load_photos
from sparse3d.lift.geometric import geometric_depth
from sparse3d.lift.path import rings
from sparse3d.lift.photo import depth_and_camera
from sparse3d.metrics.image import psnr, ssim
from sparse3d.priors.classical import Classical
from sparse3d.types import Cameras, View
from sparse3d.warp import warp_views

SIZE = 504
_PRIORS = {"classical": Classical, "oracle": Oracle}
_TRAVEL = {"true": 0.3, "swept": 0.3, "geometric": 0.1}  # as hallucinate takes
_AROUND = 8


def neighbours(names: Sequence[str], prior: str, config: Config, output: Path | None) -> None:
    """A row for each set and depth."""
    columns = (
        "set",
        "depth",
        "neighbours at",
        "shown",
        "flat",
        "warp",
        "layers",
        "scene",
        "SSIM",
        "bar",
        "s",
        "Gaussians",
    )
    table = Table(f"one photo, {SIZE} px, {prior}; PSNR of neighbours; distances in median depths", columns)
    for name in names:
        found = one_photo(name, SIZE, config)
        photo = found.photo
        for source, depth in found.depths.items():
            median = float(depth[depth.isfinite()].median())
            radius = max(_TRAVEL[source] * median, *found.distances())
            made = scene_of(photo, depth, _PRIORS[prior](), min(radius, 0.5 * median), config)
            flat, warp = warped(photo, torch.full_like(depth, median)), warped(photo, depth)
            rows, frames = [], []
            for view in found.neighbours:
                pictures = {
                    "flat": flat(view.cameras),
                    "warp": warp(view.cameras),
                    "layers": made.layers(view.cameras).image[0].clamp(0, 1),
                    "scene": made.scene(view.cameras).image[0].clamp(0, 1),
                }
                seen = shown(photo, depth, view.cameras)
                bar = torch.where(seen, pictures["warp"], view.image)
                values = [psnr(picture, view.image) for picture in pictures.values()]
                quality = float(ssim(pictures["scene"], view.image))
                rows.append([float(seen.float().mean()), *values, quality, psnr(bar, view.image)])
                frames += [
                    ("truth", view.image),
                    *((f"{k} {v:.1f}", pictures[k]) for k, v in zip(pictures, values, strict=True)),
                ]
            share, *scores, quality, bar_db = torch.tensor(rows).mean(0).tolist()
            apart = " ".join(f"{distance / median:.2f}" for distance in found.distances())
            cells = [f"{value:.2f}" for value in scores]
            table.row(
                name,
                source,
                apart,
                f"{100 * share:.0f} %",
                *cells,
                f"{quality:.3f}",
                f"{bar_db:.2f}",
                f"{made.seconds:.0f}",
                f"{made.gaussians:,}",
            )
            if output is not None:
                write_image(output / f"{name}_{source}_{prior}.png", frame_sheet(frames, columns=5))


def singles(config: Config, output: Path | None) -> None:
    """A row for each photo of `singles`."""
    table = Table(
        f"photos alone, {SIZE} px, geometric depth; PSNR after there and back", ("photo", "flat", "scene", "s")
    )
    for file in find_photos([DATA / "singles"]):
        (photo,) = load_photos([file], SIZE, strict=True, warn=print)
        depth, K, _ = depth_and_camera(photo, LiftConfig(depth_model="geometric"), None, lambda _: None)
        view = View(photo.name, photo.image, K, torch.eye(4), photo.mask)
        made = scene_of(view, depth.depth, Classical(), _TRAVEL["geometric"], config)
        cameras = [
            Cameras(c2w[None], K[None], view.height, view.width)
            for c2w in rings(view, 1.0, _TRAVEL["geometric"], _AROUND, used=1)
        ]
        scene: Picture = lambda camera, made=made: made.scene(camera).image[0].clamp(0, 1)  # type: ignore[misc]
        scores = [
            _there_and_back(view, picture, cameras) for picture in (warped(view, torch.ones_like(depth.depth)), scene)
        ]
        table.row(photo.name, *(f"{score:.2f}" for score in scores), f"{made.seconds:.0f}")
        if output is not None:
            frames = [("photo", view.image), *((f"camera {i}", scene(camera)) for i, camera in enumerate(cameras))]
            write_image(output / f"{file.stem}.png", frame_sheet(frames, columns=3))


def _there_and_back(photo: View, picture: Picture, cameras: Sequence[Cameras]) -> float:
    scores = []
    for camera in cameras:
        there = View("there", picture(camera), camera.K[0], camera.c2w[0])
        depth = geometric_depth(there.image, there.K).depth
        depth = torch.where(depth.isfinite(), depth, 3 * depth[depth.isfinite()].max())
        back = warp_views([there], [depth], photo.cameras)
        scores.append(psnr(back.color, photo.image, back.validity > 0.5))
    return sum(scores) / len(scores)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("neighbours", "singles"))
    parser.add_argument("sets", nargs="*", default=["room"], help=f"room, or names below {DATA}")
    parser.add_argument("--prior", choices=tuple(_PRIORS), default="classical")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--output", type=Path, help="folder for contact sheets")
    options = parser.parse_args()
    config = load_config(options.preset, options.settings)
    if options.what == "neighbours":
        neighbours(options.sets, options.prior, config, options.output)
    else:
        singles(config, options.output)


if __name__ == "__main__":
    main()
