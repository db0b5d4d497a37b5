"""`sparse3d init`: first Gaussians of a scene whose photos have cameras."""

from __future__ import annotations

from typing import Any

import typer

from sparse3d.cli.console import note, print_json
from sparse3d.cli.options import Json, Scene
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import Initializer, Quiet, Settings, Weights, init_assignments


def init(
    scene: Scene,
    initializer: Initializer = None,
    weights: Weights = None,
    settings: Settings = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make the first Gaussians of a scene and the depth of its photos: the second stage of recon, alone.

    The scene folder has cameras already, from `sparse3d pose` or from recon; settings are those it was made with, but for what is
    given here. Look at the result with `sparse3d view`; recon with the same settings goes on from there.
    """
    from sparse3d.pipeline import find_gaussians

    chosen = [*(settings or []), *init_assignments(initializer, weights)]
    with reporter(quiet) as report:
        facts = find_gaussians(scene, chosen, report=report)
    if json:
        print_json({"scene": scene, **facts})
        return
    _print_table(facts)
    note(f"photo, depth and confidence: {scene / 'stages' / '02_init' / 'pictures'}")
    typer.echo(scene / "scene.ply")


def _print_table(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    if facts["depth"]:
        heads = ("photo", "depth", "confirmed", "filled", "confidence", "seen once", "counts for")
        table = Table(*heads, box=None, pad_edge=False)
        for name, of in facts["depth"].items():
            shares = (f"{100 * of[key]:.0f} %" for key in ("known", "confirmed", "filled"))
            support = facts["support"]["views"][name]
            table.add_row(
                name, *shares, f"{of['confidence']:.2f}", f"{100 * support['once']:.0f} %", f"{support['weight']:g}"
            )
        console.print(table)
    note(f"{facts['gaussians']} Gaussians by {facts['initializer']} ({facts['why']})")
