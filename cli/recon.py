"""`sparse3d recon`: photos in, scene folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparse3d.cli.console import note, print_json, until_stopped
from sparse3d.cli.options import Host, Json, Port, Renderer
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import (
    Frames,
    Initializer,
    Inputs,
    Intrinsics,
    Matchers,
    MaxSize,
    Output,
    Poses,
    Preset,
    Prior,
    Quiet,
    Refine,
    Seed,
    Settings,
    Strict,
    Weights,
    assignments,
)

if TYPE_CHECKING:
    from sparse3d.config import Config
    from sparse3d.pipeline import Result


def recon(
    inputs: Inputs,
    output: Output = Path("scene"),
    preset: Preset = "balanced",
    poses: Poses = None,
    refine: Refine = False,
    intrinsics: Intrinsics = None,
    matchers: Matchers = None,
    initializer: Initializer = None,
    weights: Weights = None,
    prior: Prior = None,
    max_size: MaxSize = None,
    frames: Frames = None,
    holdout: Annotated[int, typer.Option(min=0, help="Keep every Nth photo aside and measure on it. 0: none.")] = 0,
    strict: Strict = False,
    seed: Seed = None,
    renderer: Renderer = "auto",
    settings: Settings = None,
    watch: Annotated[
        bool,
        typer.Option("--view", help="Show the scene in the browser while it grows, and when it is done until Ctrl-C."),
    ] = False,
    port: Port = 8080,
    host: Host = "127.0.0.1",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Reconstruct a scene from two or more photos.

    A second run with the same photos and settings does only what is missing.
    """
    from sparse3d.config import load_config
    from sparse3d.pipeline import recon as run

    chosen = assignments(
        settings,
        intrinsics=intrinsics,
        matchers=matchers,
        refine=refine,
        max_size=max_size,
        frames=frames,
        seed=seed,
        initializer=initializer,
        weights=weights,
        prior=prior,
    )
    if renderer != "auto":
        chosen.append(f"renderer={renderer}")
    config = load_config(preset, chosen)
    if watch:
        _watched(inputs, output, config, poses, holdout, strict, host, port, quiet, json)
        return
    with reporter(quiet) as report:
        result = run(inputs, output, config, poses=poses, holdout=holdout, strict=strict, report=report)
    _tell(result, quiet, json)


def _tell(result: Result, quiet: bool, json: bool) -> None:
    if json:
        print_json(vars(result))
        return
    typer.echo(result.scene)
    if not quiet:
        note(f"report: {result.scene / 'report.html'}")
        note(f"viewer: sparse3d view {result.scene}")


def _watched(
    inputs: list[Path],
    output: Path,
    config: Config,
    poses: Path | None,
    holdout: int,
    strict: bool,
    host: str,
    port: int,
    quiet: bool,
    json: bool,
) -> None:
    """The same with a page to look at, which stays until Ctrl-C."""
    from sparse3d.pipeline import recon as run
    from sparse3d.viewer.live import LiveView, both
    from sparse3d.viewer.serve import gate_for, open_page, with_token
    from sparse3d.viewer.server import MAX_GAUSSIANS, address
    from sparse3d.viewer.sources import open_source

    gate = gate_for(host, None, note)
    server = open_page(host, port, gate, note)
    try:
        note(f"watch: {with_token(address(server), gate)}")
        live = LiveView(server, output, config, MAX_GAUSSIANS)
        try:
            with reporter(quiet) as report:
                result = run(
                    inputs,
                    output,
                    config,
                    poses=poses,
                    holdout=holdout,
                    strict=strict,
                    report=both(report, live.report),
                    on_step=live.on_step,
                )
        finally:
            live.close()
        live.finish(open_source(output))
        _tell(result, quiet, json)
        until_stopped()
    finally:
        server.stop()
