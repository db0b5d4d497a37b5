"""`sparse3d pose`: the cameras of photos, and what happened to each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import (
    Frames,
    Inputs,
    Intrinsics,
    Matchers,
    MaxSize,
    Output,
    Poses,
    Preset,
    Quiet,
    Refine,
    Seed,
    Settings,
    Strict,
    assignments,
)


def pose(
    inputs: Inputs,
    output: Output = Path("scene"),
    preset: Preset = "balanced",
    poses: Poses = None,
    refine: Refine = False,
    intrinsics: Intrinsics = None,
    matchers: Matchers = None,
    max_size: MaxSize = None,
    frames: Frames = None,
    strict: Strict = False,
    seed: Seed = None,
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the cameras of photos: the first stage of recon, alone.

    Cameras come out as COLMAP model and transforms.json in SCENE/cameras; recon with the same photos and settings goes on
    from there.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import find_poses

    chosen = assignments(
        settings, intrinsics=intrinsics, matchers=matchers, refine=refine, max_size=max_size, frames=frames, seed=seed
    )
    config = load_config(preset, chosen)
    with reporter(quiet) as report:
        posed, found = find_poses(inputs, output, config, poses=poses, strict=strict, report=report)
    if json:
        print_json({"scene": output, "placed": posed.names, "points": len(posed.points), "report": found})
        return
    if found is not None:
        _print_table(found)
        note(f"pairs of photos and their matches: {output / 'stages' / '01_pose' / 'matches.png'}")
    typer.echo(output / "cameras")


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("photo", "camera", "error (px)", "+- rotation", "+- direction", "why", box=None, pad_edge=False)
    for photo in report["photos"]:
        table.add_row(
            photo["name"],
            "yes" if photo["placed"] else "[red]no[/red]",
            _number(photo["error_px"], "{:.2f}"),
            _number(photo["rotation_deg"], "{:.2f}°"),
            _number(photo["direction_deg"], "{:.2f}°"),
            photo["why"],
        )
    Console(stderr=True, highlight=False).print(table)
    focal = ", ".join(f"{ratio:.3f}" + (f" ± {s:.3f}" if s is not None else "") for ratio, s in report["focal"])
    note(f"matched by {report['how']}; focal length over longer side: {focal or 'none'}")


def _number(value: float | None, how: str) -> str:
    return "–" if value is None else how.format(value)
