"""Which way is up, and how long a unit is."""

from __future__ import annotations

import json

import numpy as np

from sparse3d.io._atomic import replacing
from sparse3d.viewer.board import Board
from sparse3d.viewer.measure import Ruler
from sparse3d.viewer.placement import up_direction

FROM_CAMERAS = "cameras"
_AXES = {"+x": (1, 0, 0), "-x": (-1, 0, 0), "+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1), "-z": (0, 0, -1)}
_FILE = "viewer.json"  # in the scene folder: what was set by hand here


def add_frame_panel(board: Board, ruler: Ruler) -> None:
    """A choice of the up axis, two points to measure, and their true length to set the scale by."""
    gui = board.server.gui
    kept = _read(board)
    with gui.add_folder("Up and scale"):
        up = gui.add_dropdown("Up", (FROM_CAMERAS, *_AXES), initial_value=kept.get("up", FROM_CAMERAS))
        gui.add_markdown("Press *Measure*, then click two points.")
        start = gui.add_button("Measure")
        found = gui.add_text("Distance", "", disabled=True)
        true_m = gui.add_number("True length (m)", 1.0, min=1e-6, step=0.001)
        set_scale = gui.add_button("Set the scale", disabled=True)

    def turn() -> None:
        board.server.scene.set_up_direction(_AXES.get(up.value, tuple(up_direction(board.views))))

    def show() -> None:
        found.value = "" if ruler.length is None else board.length(ruler.length)
        set_scale.disabled = ruler.length is None
        start.label = "Measure" if not ruler.waiting else "click a point ..."
        ruler.label(found.value)

    ruler.on_change.append(show)
    board.metres = kept.get("metres")
    turn()

    @up.on_update
    def _(_: object) -> None:
        turn()
        _write(board, {"up": up.value})

    @start.on_click
    def _(_: object) -> None:
        ruler.begin()

    @set_scale.on_click
    def _(_: object) -> None:
        if ruler.length:
            board.metres = float(true_m.value) / ruler.length
            _write(board, {"metres": board.metres})
            show()


def _read(board: Board) -> dict:
    """What an earlier visit set; what does not make sense counts as not set."""
    if board.folder is None:
        return {}
    try:
        kept = json.loads((board.folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = {}
    if isinstance(kept, dict):
        if kept.get("up") in (FROM_CAMERAS, *_AXES):
            good["up"] = kept["up"]
        metres = kept.get("metres")
        if isinstance(metres, (int, float)) and np.isfinite(metres) and metres > 0:
            good["metres"] = float(metres)
    return good


def _write(board: Board, values: dict) -> None:
    if board.folder is not None:
        with replacing(board.folder / _FILE) as temporary:
            temporary.write_text(json.dumps(_read(board) | values), encoding="utf-8")
