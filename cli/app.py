"""The Typer application: one module for each command, one place that turns errors into exit codes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparse3d import __version__
from sparse3d.cli.batch import batch
from sparse3d.cli.console import error
from sparse3d.cli.densify import densify
from sparse3d.cli.doctor import doctor
from sparse3d.cli.evaluate import evaluate
from sparse3d.cli.hallucinate import hallucinate
from sparse3d.cli.init import init
from sparse3d.cli.models import app as models
from sparse3d.cli.pose import pose
from sparse3d.cli.recon import recon
from sparse3d.cli.render import render
from sparse3d.cli.view import view
from sparse3d.errors import UserError
from sparse3d.io._disk import telling


class _Stopped(KeyboardInterrupt):
    """The system, a scheduler or a closed terminal asks to stop; temporary files are removed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Commands(TyperGroup):
    """Exit codes: 2 for what the user can put right, 130 for Ctrl-C, 143 for SIGTERM; anything else is a fault of ours and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with telling(Path.cwd(), "nothing half-written is left", "name another place with -o"):
                return super().invoke(ctx)
        except UserError as problem:
            error(str(problem))
            raise typer.Exit(2) from problem
        except KeyboardInterrupt as stop:
            error("stopped. Finished stages are kept; the same command goes on from there")
            raise typer.Exit(128 + (stop.number if isinstance(stop, _Stopped) else signal.SIGINT)) from None
        except (MemoryError, RuntimeError) as problem:
            if not (isinstance(problem, MemoryError) or any(words in str(problem) for words in _NO_MEMORY)):
                raise
            error(
                "the memory is used up. Finished stages are kept. Take smaller pictures (--max-size, --preset fast) or fewer photos, or set "
                "SPARSE3D_MEMORY to what may be used, as 4GB: working sizes are then chosen by it"
            )
            raise typer.Exit(2) from problem


_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "CUDA out of memory",
    "bad_alloc",
)  # torch's words and C++'s

app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a handful of photos to an explorable 3D Gaussian scene.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sparse3d {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(recon)
app.command()(pose)
app.command()(init)
app.command()(densify)
app.command()(hallucinate)
app.command()(batch)
app.command()(view)
app.command()(render)
app.command(name="eval")(evaluate)
app.add_typer(models, name="models")
app.command()(doctor)


def main() -> None:
    """Entry point of the `sparse3d` script."""
    # Torch's worker threads would otherwise spin between operations and, when other programs run or our own kernels'
    # threads do, hold up the ones that have work: ten times slower on two busy cores. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _stop)
    app()


def _stop(number: int, _: Any) -> None:
    raise _Stopped(number)
