"""Progress events as Rich bars on a terminal, as plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sparse3d.progress import Event, Reporter

_PLAIN_EVERY_S = 10.0


@contextmanager
def reporter(quiet: bool = False) -> Iterator[Reporter]:
    """What a stage reports to while the block runs: bars where stderr is a terminal, else a line now and then.

    Warnings are shown even when quiet.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet or not console.is_terminal:
        yield _Plain(console, quiet)
        return
    columns = (
        TextColumn("{task.fields[stage]:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bars:
        yield _Bars(console, bars)


def _line(console: Console, event: Event) -> None:
    style, mark = {"warning": ("yellow", "!"), "done": ("green", "✓"), "skipped": ("dim", "–")}.get(
        event.kind, ("", "·")
    )
    console.print(f"{mark} {event.stage:<9} {event.message}", style=style, markup=False)


def _values(event: Event) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in event.values.items()
    )


class _Plain:
    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet, self.last = console, quiet, 0.0

    def __call__(self, event: Event) -> None:
        if self.quiet and event.kind != "warning":
            return
        if event.kind == "step":
            now = time.monotonic()
            if now - self.last < _PLAIN_EVERY_S and event.current != event.total:
                return
            self.last = now
            of = f" of {event.total}" if event.total else ""
            self.console.print(f"· {event.stage:<9} {event.current}{of}  {event.message}{_values(event)}", markup=False)
        elif event.message:
            _line(self.console, event)


class _Bars:
    def __init__(self, console: Console, bars: Progress) -> None:
        self.console, self.bars = console, bars
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event.kind in ("note", "warning", "skipped") or (event.kind == "done" and event.message):
            _line(self.console, event)
        if event.kind in ("start", "step"):
            if event.stage not in self.tasks:
                self.tasks[event.stage] = self.bars.add_task(event.message, total=event.total, stage=event.stage)
            text = f"{event.message} {_values(event)}".strip()
            self.bars.update(self.tasks[event.stage], completed=event.current, total=event.total, description=text)
        elif event.kind == "done" and event.stage in self.tasks:
            self.bars.remove_task(self.tasks.pop(event.stage))
