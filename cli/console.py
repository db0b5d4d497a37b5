"""Where words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import typer


def error(message: str) -> None:
    """One paragraph on stderr."""
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(message, err=True)


def note(message: str) -> None:
    """A line on stderr."""
    typer.echo(message, err=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, default=str))


def until_stopped() -> None:
    """Waits for Ctrl-C."""
    note("press Ctrl-C to stop")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
