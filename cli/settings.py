"""The options that say how photos become a scene, shared by the commands that run stages."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

Inputs = Annotated[
    list[Path], typer.Argument(help="A folder of photos, photo files, or one video.", show_default=False)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The scene folder to make, or to continue.")]
Preset = Annotated[str, typer.Option(help="fast, balanced, quality, or a YAML file.")]
Poses = Annotated[
    Path | None,
    typer.Option(
        help="Known cameras: a COLMAP model folder, a transforms.json, a scene folder, cameras.xml of Metashape, a .csv or "
        "folder of .xmp of RealityCapture, a folder of Polycam, Record3D or 3D Scanner App. Photos that it has none for "
        "are placed beside the others.",
        show_default=False,
    ),
]
Refine = Annotated[bool, typer.Option("--refine", help="Adjust the poses of --poses to the photos' matches.")]
Intrinsics = Annotated[
    str | None,
    typer.Option(
        metavar="FX,FY,CX,CY",
        help="Intrinsics of all photos, pixels of the files; also FX or FX,CX,CY.",
        show_default=False,
    ),
]
Matchers = Annotated[
    str | None,
    typer.Option(
        metavar="A+B",
        help="Matchers in this order until all photos are placed: sift, sift-affine, aliked, disk, xfeat, efficientloftr, "
        "superpoint. By default SIFT, then the best learned one here.",
        show_default=False,
    ),
]
MaxSize = Annotated[
    int | None, typer.Option(min=64, help="Longer side of the working images, pixels.", show_default=False)
]
Frames = Annotated[int | None, typer.Option(min=2, help="Frames to take from a video.", show_default=False)]
Initializer = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="METHOD",
        help="How first Gaussians are made: auto (plane sweep, and sparse points in its holes), planesweep, sfm, mvsplat, pixelsplat, "
        "depthsplat.",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Weights of a network of --init: a name of `sparse3d models list`, a file, or owner/name/file on the hub.",
        show_default=False,
    ),
]
Strict = Annotated[bool, typer.Option(help="Stop at an unreadable photo or a missing camera.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all randomness.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="One setting, as optimize.steps=500. Repeatable.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")]


Prior = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who draws the views that no photo shows: none, auto (wan-vace where its weights and a GPU are here, else none), classical (the photos "
        "warped by their depth; needs no weights), wan-vace, svd, sana-wm (video models guided by the photos), inpaint (an inpainting model, view "
        "by view), seva (Stable Virtual Camera, non-commercial). `sparse3d doctor` tells which run here.",
        show_default=False,
    ),
]


Regularizer = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="How that prior (classical where none is named) takes part in the optimization: none, refresh (it redraws views now and then), or by its "
        "score every few steps: sample (ReconFusion), sds, sdi, vsd. By default as the preset says.",
        show_default=False,
    ),
]


def assignments(
    settings: list[str] | None,
    *,
    intrinsics: str | None,
    matchers: str | None,
    refine: bool,
    max_size: int | None,
    frames: int | None,
    seed: int | None,
    initializer: str | None = None,
    weights: str | None = None,
    prior: str | None = None,
    regularizer: str | None = None,
) -> list[str]:
    """The options as assignments for `load_config`, those of --set first so that a named option beats them."""
    named = {"photos.max_size": max_size, "photos.frames": frames, "seed": seed, "pose.matchers": matchers}
    found = [*(settings or []), *(f"{name}={value}" for name, value in named.items() if value is not None)]
    if intrinsics is not None:
        found.append(f"photos.intrinsics={dumps(intrinsics)}")  # in quotes, or YAML would read a number or a list
    if refine:
        found.append("pose.refine_given=true")
    if prior is not None:
        found.append(f"densify.prior={dumps(prior)}")
    if regularizer is not None:
        found.append(f"regularize.kind={dumps(regularizer)}")
    return found + init_assignments(initializer, weights)


def init_assignments(initializer: str | None, weights: str | None) -> list[str]:
    """Those of --init and --weights."""
    named = {"init.method": initializer, "init.weights": weights}
    return [f"{name}={dumps(value)}" for name, value in named.items() if value is not None]
