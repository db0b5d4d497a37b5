"""A scene that grows in the browser while it is optimized."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import viser

from sparse3d.config import Config
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import load_views
from sparse3d.optimize.loop import look_of
from sparse3d.progress import Event
from sparse3d.types import Gaussians
from sparse3d.viewer.board import Board
from sparse3d.viewer.latest import Latest
from sparse3d.viewer.server import show_scene
from sparse3d.viewer.sources import Source

_EVERY_S = 1.5  # between two pictures of the scene, at least
_SHARE = 1 / 30  # of the time that showing it may take; what viser does with it afterwards is about as much again


class LiveView:
    """Shows what a run is at on an empty page, and its Gaussians from the first step on.

    The optimizer is held up for a copy of the Gaussians only; a thread of this class turns it into splats, not more often than
    keeps it within a small share of the time. While nobody looks nothing is copied.
    """

    def __init__(self, server: viser.ViserServer, folder: Path, config: Config, max_gaussians: int) -> None:
        """`folder` is that of the scene, which `recon` is about to write; the server is one of `start_server`."""
        self._server, self._folder, self._config, self._max = server, folder, config, max_gaussians
        self._board: Board | None = None
        self._next = 0.0  # time.monotonic() from which on the Gaussians may be shown again
        self._said = 0.0
        self._status = server.gui.add_markdown("Starting ...")
        self._latest: Latest[Gaussians] = Latest(self._show)
        self.shown = 0  # how often the Gaussians were

    def report(self, event: Event) -> None:
        """Writes what a stage says on the page; a `progress.Reporter`."""
        now = time.monotonic()
        if event.kind == "step" and now - self._said < 0.5 and event.current != event.total:
            return
        self._said = now
        step = f" {event.current}{f' of {event.total}' if event.total else ''}" if event.kind == "step" else ""
        values = ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
        # a code block: what is in a file's name is shown, not interpreted
        text = " ".join(part for part in (f"{event.stage}{step}:", event.message, values) if part)
        self._status.content = "```\n" + text.replace("```", "'''") + "\n```"

    def on_step(self, step: int, gaussians: Gaussians) -> None:
        """Called after each step of the optimization, with Gaussians that the next one changes."""
        now = time.monotonic()
        if now < self._next or self._latest.busy or not (self._board is None or self._server.get_clients()):
            return
        self._next = now + _EVERY_S
        self._latest.give(Gaussians(*(value.detach().cpu().clone() for value in gaussians.values())))
        self._next += (time.monotonic() - now) / _SHARE

    def finish(self, source: Source) -> None:
        """Shows the finished scene with all panels in the place of the growing one."""
        self.close()
        self._server.gui.reset()
        self._server.scene.reset()
        show_scene(
            self._server,
            source.gaussians,
            source.posed,
            depths=source.depths,
            look=source.look,
            stages=source.stages,
            folder=source.folder,
            metric=source.metric,
            max_gaussians=self._max,
        )

    def close(self) -> None:
        """Ends the thread."""
        self._latest.close()

    def _show(self, gaussians: Gaussians) -> None:
        began = time.monotonic()
        if self._board is None:
            posed = load_views(SceneFolder(self._folder).stage_path("01_pose"))
            look = look_of(posed.views, self._config.optimize)
            self._board = show_scene(self._server, gaussians, posed, look=look, max_gaussians=self._max)
        else:
            self._board.splats.show(gaussians)
        self.shown += 1
        self._next = max(self._next, time.monotonic() + (time.monotonic() - began) / _SHARE)


def both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    """A reporter that tells two."""

    def report(event: Event) -> None:
        first(event)
        second(event)

    return report
