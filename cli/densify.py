"""`sparse3d densify`: views that a prior draws where no photo was taken."""

from __future__ import annotations

from json import dumps
from typing import Annotated, Any

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Scene
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import Prior, Quiet, Settings


def densify(
    scene: Scene,
    prior: Prior = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="ID|FOLDER", help="Of the prior, other than the published ones.", show_default=False),
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, help="How many to draw; 48 by default.", show_default=False)
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            help="auto (the views that uncover most), spline, ellipse, spiral, lemniscate, dolly, or a camera path saved in nerfstudio's viewer.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What priors that read are told of the scene.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be drawn, and draw nothing.")] = False,
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Draw views that no photo shows: the third stage of recon, alone.

    The scene folder has first Gaussians and depth already, from `sparse3d init` or from recon; settings are those it was made with, but
    for what is given here. What photos and other drawn views speak against is left out. recon with the same settings goes on from there.
    """
    from sparse3d.pipeline import densify_scene

    named = {"prior": prior, "weights": weights, "views": views, "path": path, "prompt": prompt}
    chosen = [
        *(settings or []),
        *(f"densify.{name}={dumps(value)}" for name, value in named.items() if value is not None),
    ]
    with reporter(quiet) as report:
        facts = densify_scene(scene, chosen, dry_run=dry_run, report=report)
    if json:
        print_json({"scene": scene, **facts})
        return
    if dry_run:
        _print_plan(facts)
        return
    made = facts["provenance"]
    note(
        f"drawn by {made['prior']}, licence: {made['licence']}, seed {made['seed']}, {made['calls']} network calls, {made['seconds']:.0f} s"
    )
    typer.echo(scene / "stages" / "03_densify" / "views")


def _print_plan(facts: dict[str, Any]) -> None:
    width, height = facts["size"]
    note(f"{facts['views']} views of {width}x{height}, {facts['path']}")
    for text in facts["left_out"]:
        note(f"left out: {text}")
    memory = f"{facts['min_vram_gb']:g} GB of GPU memory" if facts["min_vram_gb"] else "no GPU"
    use = "" if facts["commercial"] else ", no commercial use"
    note(f"{facts['calls']} calls of {facts['prior']}, which needs {memory}; licence: {facts['licence']}{use}")
    if facts["seconds_per_call"]:
        minutes = facts["calls"] * facts["seconds_per_call"] / 60
        note(f"about {minutes:.1f} minutes: {facts['seconds_per_call']:g} s a call on {facts['seconds_on']}")
    else:
        note("how long it takes is not known")
