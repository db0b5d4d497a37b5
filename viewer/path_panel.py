"""The tab "Film": keyframes, a preview, the path as a file, the film itself, and screenshots. Drawn by our own renderer."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import viser
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io.film import write_film
from sparse3d.io.images import write_image
from sparse3d.io.nerfstudio import CameraPath, Keyframe, read_keyframes, write_camera_path
from sparse3d.types import Cameras
from sparse3d.viewer.board import Board
from sparse3d.viewer.keyframes import path_through
from sparse3d.viewer.placement import SCENE_RADIUS

_NONE = "choose ..."
_KEY_COLOUR, _CHOSEN_COLOUR = (20, 160, 120), (255, 210, 0)
_MAX_FRAMES = 10_000  # of a film


class _Stopped(Exception):
    """Somebody pressed Stop."""


class PathPanel:
    """The keyframes of one path, shared by all visitors, and what is made of them.

    Files get names of our own, `camera_paths/path-001.json` and `renders/path-001.mp4` in the scene folder, and go to the
    visitor who asked for them.
    """

    def __init__(self, board: Board) -> None:
        self._board, self._gui = board, board.server.gui
        self.keyframes: list[Keyframe] = []
        self._busy = threading.Lock()  # held while a preview or a film runs
        self._stop = threading.Event()
        gui = self._gui
        with gui.add_folder("Keyframes"):
            add = gui.add_button("Add keyframe", hint="Where you stand now.")
            self._chosen = gui.add_slider("Keyframe", 1, 2, 1, 1, disabled=True)
            go = gui.add_button("Go to it")
            replace = gui.add_button("Put it here")
            remove = gui.add_button("Remove it")
            self._seconds = gui.add_number("Seconds to next", 2.0, min=0.1, max=600.0, step=0.1)
            self._loop = gui.add_checkbox("Loop", False)
            saved = gui.add_dropdown(
                "Open", (_NONE, *self._saved()), initial_value=_NONE, visible=board.folder is not None
            )
            self._said = gui.add_markdown("No keyframes yet.")
        with gui.add_folder("Film"):
            self._width = gui.add_number("Width", 1280, min=16, max=7680, step=2)
            self._height = gui.add_number("Height", 720, min=16, max=4320, step=2)
            self._fps = gui.add_number("Frames per second", 24.0, min=1.0, max=120.0, step=1.0)
            preview = gui.add_button("Preview")
            save = gui.add_button("Save path")
            film = gui.add_button("Render film")
            stop = gui.add_button("Stop", visible=False)
            self._bar = gui.add_progress_bar(0.0, visible=False)
        screenshot = gui.add_button("Screenshot")
        self._stop_button, self._open = stop, saved

        add.on_click(self._add)
        go.on_click(self._go)
        replace.on_click(self._replace)
        remove.on_click(self._remove)
        preview.on_click(self._preview)
        save.on_click(self._save)
        film.on_click(self._film)
        screenshot.on_click(self._screenshot)
        self._chosen.on_update(lambda _: self._select())
        self._seconds.on_update(lambda _: self._time())
        self._loop.on_update(lambda _: self._draw())

        @stop.on_click
        def _(_: object) -> None:
            self._stop.set()

        @saved.on_update
        def _(event: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
            folder = board.folder
            if (
                folder is None or saved.value not in self._saved()
            ):  # a page may send any text: only names that are there
                return
            try:
                self.keyframes = read_keyframes(folder / "camera_paths" / saved.value)
            except UserError as error:
                _tell(event.client, "That path cannot be opened", str(error))
            self._draw()

    def path(self, height: int | None = None, width: int | None = None, fps: float | None = None) -> CameraPath:
        """The cameras along the keyframes, of the size and speed in the panel unless given.

        Raises:
            UserError: fewer than two keyframes, or a film that would never end.
        """
        if len(self.keyframes) < 2:
            raise UserError("a path needs two keyframes or more: move, and press Add keyframe")
        along = path_through(
            self.keyframes,
            int(height or self._height.value),
            int(width or self._width.value),
            float(fps or self._fps.value),
            bool(self._loop.value),
        )
        if len(along.cameras) > _MAX_FRAMES:
            raise UserError(
                f"that are {len(along.cameras)} frames, and at most {_MAX_FRAMES} are made: fewer seconds or frames per second"
            )
        return along

    def _here(self, client: viser.ClientHandle) -> Keyframe:
        c2w = self._board.placement.c2w(client.camera.wxyz, client.camera.position)
        return Keyframe(c2w, float(np.degrees(client.camera.fov)), float(self._seconds.value))

    def _add(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        if event.client is not None:
            self.keyframes.append(self._here(event.client))
            self._draw(len(self.keyframes))

    def _replace(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        if event.client is not None and self.keyframes:
            self.keyframes[self._index] = self._here(event.client)
            self._draw()

    def _remove(self, _: object) -> None:
        if self.keyframes:
            del self.keyframes[self._index]
            self._draw()

    def _go(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        if event.client is not None and self.keyframes:
            key = self.keyframes[self._index]
            self._board.stand(event.client, key.c2w, float(np.radians(key.fov_deg)))

    def _time(self) -> None:
        if self.keyframes:
            key = self.keyframes[self._index]
            self.keyframes[self._index] = Keyframe(key.c2w, key.fov_deg, float(self._seconds.value))
            self._draw()

    def _select(self) -> None:
        if self.keyframes:
            self._seconds.value = self.keyframes[self._index].seconds
            self._draw()

    @property
    def _index(self) -> int:
        return min(max(int(self._chosen.value), 1), len(self.keyframes)) - 1

    def _draw(self, chosen: int | None = None) -> None:
        """The keyframes as frustums, the path as a line."""
        count, scene = len(self.keyframes), self._board.server.scene
        self._chosen.max, self._chosen.disabled = max(count, 2), count == 0
        if chosen is not None or self._chosen.value > max(count, 1):
            self._chosen.value = chosen or max(count, 1)
        scene.remove_by_name("/path")
        scene.add_frame("/path", show_axes=False)
        for index, key in enumerate(self.keyframes):
            wxyz, position = self._board.placement.pose(key.c2w)
            scene.add_camera_frustum(
                f"/path/{index + 1}",
                float(np.radians(key.fov_deg)),
                float(self._width.value) / float(self._height.value),
                scale=0.03 * SCENE_RADIUS,
                color=_CHOSEN_COLOUR if index == self._index else _KEY_COLOUR,
                wxyz=wxyz,
                position=position,
                cast_shadow=False,
                receive_shadow=False,
            )
        if count < 2:
            self._said.content = f"{count or 'No'} keyframe{'s' * (count != 1)} yet; two make a path."
            return
        along = self.path(90, 160, 8.0)
        points = self._board.placement.points(along.cameras.c2w[:, :3, 3])
        scene.add_line_segments(
            "/path/line", np.stack([points[:-1], points[1:]], 1), _KEY_COLOUR, thickness=2.0, thickness_units="screen"
        )
        self._said.content = f"{count} keyframes, {len(along.cameras) / 8.0:.1f} s"

    def _preview(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        client = event.client
        if client is None or not self._begin(client):
            return
        try:
            along = self.path(90, 160, 20.0)
            began = time.monotonic()
            for index, c2w in enumerate(along.cameras.c2w):
                if self._stop.is_set():
                    break
                behind = time.monotonic() - began - index / along.fps
                if behind > 1 / along.fps:
                    continue  # a slow connection: leave frames out rather than play slowly
                self._board.stand(client, c2w, 2 * float(np.arctan(45 / along.cameras.K[index, 1, 1])))
                time.sleep(max(0.0, -behind) + 0.5 / along.fps)
        except UserError as error:
            _tell(client, "No preview", str(error))
        finally:
            self._end()

    def _save(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        try:
            along = self.path()
        except UserError as error:
            _tell(event.client, "Nothing to save", str(error))
            return
        with self._file("camera_paths", ".json") as path:
            self._write(path, along)
            _give(event.client, path)
        self._open.options = (_NONE, *self._saved())

    def _write(self, path: Path, along: CameraPath) -> None:
        board = self._board
        write_camera_path(
            path,
            along,
            self.keyframes,
            loop=bool(self._loop.value),
            crop=board.splats.box,
            background=board.look.background,
        )

    def _film(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        client = event.client
        if not self._begin(client):
            return
        try:
            along = self.path()
            with self._file("renders", ".mp4") as path:
                write_film(self._frames(along), path, along.fps)
                _tell(client, "The film is ready", f"{path.name}: {len(along.cameras)} frames")
                _give(client, path)
        except _Stopped:
            _tell(client, "Stopped", "No film was written.")
        except UserError as error:
            _tell(client, "No film", str(error))
        finally:
            self._end()

    def _frames(self, along: CameraPath) -> Iterator[Tensor]:
        draw, cameras = self._board.splats.draw(self._board.look), along.cameras
        for index in range(len(cameras)):
            if self._stop.is_set():
                raise _Stopped
            one = Cameras(cameras.c2w[index : index + 1], cameras.K[index : index + 1], cameras.height, cameras.width)
            yield draw(one).image[0]
            self._bar.value = 100.0 * (index + 1) / len(cameras)

    def _screenshot(self, event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
        if event.client is None:
            return
        camera = self._board.camera_of(event.client)
        image = self._board.splats.draw(self._board.look)(camera).image[0].clamp(0, 1)
        with self._file("renders", ".png", "screenshot") as path:
            write_image(path, image)
            _give(event.client, path)

    def _begin(self, client: viser.ClientHandle | None) -> bool:
        """Whether nothing else runs; from now on this does."""
        if not self._busy.acquire(blocking=False):
            _tell(client, "Busy", "A preview or film is running; wait for it, or press Stop.")
            return False
        self._stop.clear()
        self._stop_button.visible = self._bar.visible = True
        self._bar.value = 0.0
        return True

    def _end(self) -> None:
        self._stop_button.visible = self._bar.visible = False
        self._busy.release()

    def _saved(self) -> Sequence[str]:
        folder = self._board.folder
        return [] if folder is None else sorted(path.name for path in (folder / "camera_paths").glob("*.json"))

    def _file(self, folder: str, suffix: str, stem: str = "path") -> _Named:
        return _Named(None if self._board.folder is None else self._board.folder / folder, stem, suffix)


class _Named:
    """A file of the next free number in a folder, or, without one, in a temporary folder that goes away."""

    def __init__(self, folder: Path | None, stem: str, suffix: str) -> None:
        self._folder, self._stem, self._suffix = folder, stem, suffix
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        folder = self._folder
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory()
            folder = Path(self._temporary.name)
        number = 1
        while (path := folder / f"{self._stem}-{number:03d}{self._suffix}").exists():
            number += 1
        return path

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


def _give(client: viser.ClientHandle | None, path: Path) -> None:
    if client is not None:
        client.send_file_download(path.name, path.read_bytes(), save_immediately=True)


def _tell(client: viser.ClientHandle | None, title: str, body: str) -> None:
    if client is not None:
        client.add_notification(title, body, auto_close_seconds=6.0)
