"""The scenes of a batch as a live table on a terminal, as lines elsewhere. Always on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from sparse3d.batch.job import Outcome

_ROWS = 24  # of scenes that run and that ended last


@contextmanager
def table(total: int, quiet: bool) -> Iterator[Shown]:
    """What a batch reports to while the block runs. Failures are shown even when quiet."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    shown = Shown(total, console, quiet)
    if quiet or not console.is_terminal:
        yield shown
        return
    with Live(shown, console=console, refresh_per_second=4, transient=True):
        shown.live = True
        yield shown


class Shown:
    """The scenes as they stand; Rich draws it again and again."""

    def __init__(self, total: int, console: Console, quiet: bool) -> None:
        self.total, self.console, self.quiet, self.live = total, console, quiet, False
        self.running: dict[str, tuple[float, str]] = {}  # name: when it began, what it does
        self.over: list[tuple[str, Outcome]] = []
        self.began = time.monotonic()
        self._lock = threading.Lock()  # progress comes from other threads

    def progress(self, name: str, said: Mapping[str, Any]) -> None:
        """A scene says what it does."""
        with self._lock:
            began, text = self.running.get(name, (time.monotonic(), ""))
            if said["kind"] in ("start", "step", "done", "skipped"):
                share = f" {said['current']}/{said['total']}" if said.get("total") and said["kind"] == "step" else ""
                text = f"{said['stage']}{share}"
            self.running[name] = (began, text)

    def ended(self, name: str, outcome: Outcome) -> None:
        """A scene has ended."""
        with self._lock:
            self.running.pop(name, None)
            self.over.append((name, outcome))
        if self.quiet and outcome.state == "done" or self.live and outcome.state == "done":
            return
        mark = "✓" if outcome.state == "done" else "✗"
        text = f"{mark} {name}: {outcome.state} in {outcome.seconds:.0f} s"
        if outcome.error:
            text += f": {outcome.error}"
        elif "registered" in outcome.facts:
            text += f", {outcome.facts['registered']} of {outcome.facts['photos']} photos, {outcome.facts['gaussians']} Gaussians"
        if not self.live:
            text += f" ({len(self.over)} of {self.total}; {self.left()})"
        self.console.print(text, markup=False, style="" if outcome.state == "done" else "yellow")

    def left(self) -> str:
        """How long the rest will take, from how fast scenes ended so far."""
        if not self.over:
            return "time left not known yet"
        seconds = (time.monotonic() - self.began) / len(self.over) * (self.total - len(self.over))
        return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"

    def __rich__(self) -> Table:
        with self._lock:
            running, over = dict(self.running), list(self.over)
        failed = sum(outcome.state != "done" for _, outcome in over)
        grid = Table(
            title=f"{self.total - len(over) - len(running)} queued, {len(running)} running, {len(over) - failed} done, {failed} failed; "
            f"{self.left()}",
            title_justify="left",
            box=None,
        )
        for column in ("scene", "state", "seconds"):
            grid.add_column(column, overflow="ellipsis", no_wrap=True)
        for name, (began, text) in list(running.items())[:_ROWS]:
            grid.add_row(name, text, f"{time.monotonic() - began:.0f}")
        for name, outcome in reversed(over[-max(0, _ROWS - len(running)) :]):
            grid.add_row(
                name, outcome.state, f"{outcome.seconds:.0f}", style="dim" if outcome.state == "done" else "yellow"
            )
        return grid
