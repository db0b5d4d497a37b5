"""`sparse3d train`: the data and the networks that sparse3d makes itself."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparse3d.cli.console import note
from sparse3d.cli.progress import reporter
from sparse3d.cli.settings import Quiet
from sparse3d.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import
    from sparse3d.train.loop import Task, TrainPlan

app = typer.Typer(no_args_is_help=True, help="Make training data, and train our own networks. See docs/training.md.")

Folder = Annotated[Path, typer.Option("--output", "-o", help="The folder to make, or to go on with.")]
Seed = Annotated[int, typer.Option(help="Of all randomness: another seed, other data or another start.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that make or prepare data; 0: none beside this one.")]
Height = Annotated[int, typer.Option(min=64, help="Of the pictures, pixels.")]
Width = Annotated[int, typer.Option(min=64, help="Of the pictures, pixels.")]
Heldout = Annotated[
    list[Path],
    typer.Option("--heldout", help="A folder of shards to measure on, made with another --seed. Repeatable."),
]
Steps = Annotated[int, typer.Option(min=1, help="Of the whole run; the rate falls to nothing at the last.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples in a step.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
Large = Annotated[bool, typer.Option("--large", help="The larger network, for a GPU.")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after so many; the same command goes on from there.", show_default=False),
]
Precision = Annotated[str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice by default.", show_default=False)]
Every = Annotated[int, typer.Option(min=1, help="Steps between sample sheets and held-out figures.")]


@app.command()
def data(
    output: Folder,
    scenes: Annotated[int, typer.Option(min=1, help="Random scenes.")] = 500,
    views: Annotated[int, typer.Option(min=2, help="Photos of each.")] = 8,
    height: Height = 240,
    width: Width = 320,
    seed: Seed = 0,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Photograph random procedural scenes, with exact cameras and depth, into shards. What is there already is left alone."""
    from sparse3d.progress import StageReporter
    from sparse3d.train.data import DataPlan, make_scenes

    plan = DataPlan(scenes, views, height, width, seed=seed)
    with reporter(quiet) as report:
        made = make_scenes(plan, output, workers, StageReporter("data", report))
    note(f"{made} new shards")
    typer.echo(output)


@app.command()
def pairs(
    output: Folder,
    scenes: Annotated[
        list[Path] | None,
        typer.Option("--scenes", help="A folder of `sparse3d train data`. Repeatable.", show_default=False),
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            help="A scene folder with cameras, of photos whose licence allows training. Repeatable.", show_default=False
        ),
    ] = None,
    targets: Annotated[int, typer.Option(min=1, help="Held-out views of each set at most.")] = 3,
    optimized: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the sets whose Gaussians are optimized and drawn.")
    ] = 0.3,
    height: Height = 240,
    width: Width = 320,
    seed: Seed = 0,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Reconstruct from few photos of each set, and put what they show of held-out views beside the truth."""
    from sparse3d.progress import StageReporter
    from sparse3d.train.pairs import PairPlan, make_pairs

    plan = PairPlan(targets, optimized, height, width, seed)
    with reporter(quiet) as report:
        made = make_pairs(scenes or [], photos or [], plan, output, workers, StageReporter("pairs", report))
    note(f"{made} new shards")
    typer.echo(output)


@app.command()
def costvolume(
    output: Folder,
    scenes: Annotated[list[Path], typer.Option("--scenes", help="A folder of `sparse3d train data`. Repeatable.")],
    heldout: Heldout,
    steps: Steps = 9000,
    batch: Batch = 8,
    rate: Rate = 4e-4,
    height: Annotated[int, typer.Option(min=32, help="Of the regions, a multiple of 32.")] = 128,
    width: Annotated[int, typer.Option(min=32, help="Of the regions, a multiple of 32.")] = 128,
    large: Large = False,
    minutes: Minutes = None,
    precision: Precision = "auto",
    device: Device = "auto",
    workers: Workers = 0,
    threads: Threads = None,
    every: Every = 500,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train the network that finds depth by cost volumes, for --init costvolume."""
    from sparse3d.init.networks.costvolume import MULTIPLE
    from sparse3d.train.costvolume import CostVolumeTask, DepthTask

    _check_sides(height, width, MULTIPLE)
    plan = _plan(steps, batch, rate, seed, precision, minutes, workers, device, every)
    _run(lambda: CostVolumeTask(DepthTask(scenes, heldout, (height, width), large), seed), plan, output, threads, quiet)


@app.command()
def fixer(
    output: Folder,
    given: Annotated[list[Path], typer.Option("--pairs", help="A folder of `sparse3d train pairs`. Repeatable.")],
    heldout: Heldout,
    steps: Steps = 20_000,
    batch: Batch = 16,
    rate: Rate = 6e-4,
    height: Annotated[int, typer.Option(min=32, help="Of the regions, a multiple of 16.")] = 96,
    width: Annotated[int, typer.Option(min=32, help="Of the regions, a multiple of 16.")] = 96,
    large: Large = False,
    minutes: Minutes = None,
    precision: Precision = "auto",
    device: Device = "auto",
    workers: Workers = 0,
    threads: Threads = None,
    every: Every = 500,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train the network that repairs drawn views, for --prior builtin."""
    from sparse3d.priors.networks.fixer import MULTIPLE
    from sparse3d.train.fixer import FixerTask, FixTask

    _check_sides(height, width, MULTIPLE)
    plan = _plan(steps, batch, rate, seed, precision, minutes, workers, device, every)
    _run(lambda: FixerTask(FixTask(given, heldout, (height, width), large), seed), plan, output, threads, quiet)


@app.command()
def show(
    weights: Annotated[Path, typer.Argument(help="A file that `sparse3d train` made.", show_default=False)],
) -> None:
    """Print how weights were made: the command, the plan, the figures at the end, as JSON."""
    from sparse3d.models.own import own_facts

    typer.echo(json.dumps(own_facts(weights), indent=2))


def _check_sides(height: int, width: int, multiple: int) -> None:
    if height % multiple or width % multiple:
        raise UserError(f"regions of {height} x {width} pixels; both sides must be multiples of {multiple}")


def _plan(
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    precision: str,
    minutes: float | None,
    workers: int,
    device: str,
    every: int,
) -> TrainPlan:
    from sparse3d.train.loop import TrainPlan

    return TrainPlan(
        steps=steps,
        batch=batch,
        rate=rate,
        warmup=min(200, max(1, steps // 10)),
        seed=seed,
        precision=precision,
        minutes=minutes,
        workers=workers,
        device=device,
        measure_every=every,
        row_every=min(50, every),
    )


def _run(task: Callable[[], Task], plan: TrainPlan, output: Path, threads: int | None, quiet: bool) -> None:
    """Trains, and prints where the weights are. The command is recorded in them."""
    import torch

    from sparse3d import __version__
    from sparse3d.progress import StageReporter
    from sparse3d.train.loop import train

    if threads is not None:
        torch.set_num_threads(threads)
    facts = {"command": shlex.join(["sparse3d", *sys.argv[1:]]), "sparse3d": __version__, "torch": torch.__version__}
    with reporter(quiet) as report:
        weights = train(task(), plan, output, facts, StageReporter("train", report))
    typer.echo(weights)
