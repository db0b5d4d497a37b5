"""Pictures of a finished scene as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparse3d.errors import UserError
from sparse3d.io.folders import output_folder
from sparse3d.io.images import write_image
from sparse3d.io.load import Scene, load_scene
from sparse3d.io.nerfstudio import is_camera_path, read_camera_path, read_transforms
from sparse3d.io.views import unique_stems
from sparse3d.paths import orbit
from sparse3d.progress import Reporter, StageReporter
from sparse3d.render import drawer
from sparse3d.types import Cameras


def render_file(scene: Path, camera_file: Path, output: Path, *, backend: str, report: Reporter) -> list[Path]:
    """Draws every frame of a transforms.json to `<stem>.png`, at the frame's own size and intrinsics.

    Those of a nerfstudio camera path, which have no names, become `0000.png`, ...

    Returns:
        The files, in the order of the frames.

    Raises:
        UserError: no scene, no such file, or a frame with lens distortion, which a pinhole renderer cannot draw.
    """
    loaded = load_scene(scene)
    if is_camera_path(camera_file):
        along = read_camera_path(camera_file).cameras
        cameras = [
            Cameras(c2w[None], K[None], along.height, along.width) for c2w, K in zip(along.c2w, along.K, strict=True)
        ]
        return _draw_all(loaded, cameras, _numbered(len(cameras)), output, backend, report)
    frames = read_transforms(camera_file)
    cameras = []
    for frame in frames:
        if frame.lens.is_distorted:
            raise UserError(
                f"{camera_file}: frame {frame.name} has lens distortion ({frame.lens.model}), and renders are pinhole pictures. Give the "
                "cameras of the undistorted photos"
            )
        cameras.append(Cameras(frame.c2w[None].float(), frame.lens.K[None], frame.lens.height, frame.lens.width))
    return _draw_all(loaded, cameras, unique_stems([frame.name for frame in frames]), output, backend, report)


def render_path(scene: Path, path: str, frames: int, output: Path, *, backend: str, report: Reporter) -> list[Path]:
    """Draws a named path to `0000.png`, ..., with the intrinsics of the first view.

    Raises:
        UserError: no scene, or no such path.
    """
    if path != "orbit":
        raise UserError(f"unknown path {path!r}; choose orbit, or give cameras with --camera FILE")
    loaded = load_scene(scene)
    first = loaded.posed.views[0]
    cameras = [
        Cameras(c2w[None], first.K[None], first.height, first.width) for c2w in orbit(loaded.viewpoints(), frames)
    ]
    return _draw_all(loaded, cameras, _numbered(len(cameras)), output, backend, report)


def _numbered(count: int) -> list[str]:
    return [f"{i:04d}" for i in range(count)]


def _draw_all(
    scene: Scene, cameras: Sequence[Cameras], stems: Sequence[str], output: Path, backend: str, report: Reporter
) -> list[Path]:
    progress = StageReporter("render", report)
    progress.start(total=len(cameras))
    files = []
    output_folder(output)
    draw = drawer(scene.gaussians, scene.look, backend)
    for index, (camera, stem) in enumerate(zip(cameras, stems, strict=True)):
        image = draw(camera).image[0]
        files.append(output / f"{stem}.png")
        write_image(files[-1], image)
        progress.step(index + 1, len(cameras))
    progress.done(f"{len(files)} pictures in {output}")
    return files
