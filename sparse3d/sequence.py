"""Pictures of a finished scene, from given cameras or along a path: PNG files or a film. What was drawn before an interruption is not drawn again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.densify.trajectories import PATHS as TRAJECTORIES
from sparse3d.errors import UserError, did_you_mean
from sparse3d.geometry import fitted_size
from sparse3d.init.pictures import depth_colors, depth_ends
from sparse3d.io.film import SUFFIXES, write_film
from sparse3d.io.folders import output_folder
from sparse3d.io.images import read_image, write_depth, write_image, write_rgba
from sparse3d.io.load import Scene, load_scene
from sparse3d.io.nerfstudio import is_camera_path, read_camera_path, read_transforms
from sparse3d.io.scene import content_hash
from sparse3d.io.views import unique_stems
from sparse3d.paths import orbit
from sparse3d.progress import Reporter, StageReporter
from sparse3d.render import Draw, drawer
from sparse3d.types import Cameras, Rendering

PATHS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "orbit": orbit,
    "interpolate": TRAJECTORIES["spline"],
    **{name: path for name, path in TRAJECTORIES.items() if name != "spline"},
}
KINDS = ("color", "depth", "alpha")
FPS = 30.0
_LONGEST = 20_000  # pixels of a side


@dataclass(frozen=True)
class Shots:
    """What to draw."""

    cameras: Sequence[Cameras]  # of one view each
    stems: Sequence[str]  # of the files
    fps: float = FPS


def cameras_of_path(scene: Scene, path: str, frames: int, size: tuple[int, int] | None = None) -> Shots:
    """Cameras along a named path through where the scene may be seen from, or of a camera path saved in a viewer.

    Args:
        scene: The scene.
        path: One of PATHS, or a .json file as nerfstudio's viewer and ours write it.
        frames: Along a named path; files have their own.
        size: Height and width; that of the first view, or the file's, when None.

    Raises:
        UserError: no such path or file.
    """
    if path.endswith(".json"):
        found = read_camera_path(Path(path))
        along = found.cameras if size is None else reframed(found.cameras, *size)
        return Shots(_each(along), _numbered(len(along)), found.fps)
    if path not in PATHS:
        raise UserError(
            f"unknown path {path!r}{did_you_mean(path, PATHS)}; choose one of {', '.join(PATHS)}, or give a camera path (.json)"
        )
    viewpoints = scene.viewpoints()
    if path == "interpolate" and len(viewpoints) < 2:
        raise UserError("--path interpolate goes from photo to photo, and the scene has one; choose orbit")
    first = scene.posed.views[0]
    c2w = PATHS[path](viewpoints, frames)
    along = Cameras(c2w, first.K.expand(len(c2w), 3, 3), first.height, first.width)
    along = along if size is None else reframed(along, *size)
    return Shots(_each(along), _numbered(len(along)))


def cameras_of_file(file: Path, size: tuple[int, int] | None = None) -> Shots:
    """The frames of a transforms.json, each of its own size and named by its picture; or a camera path.

    Raises:
        UserError: no such file, or a frame with lens distortion, which a pinhole renderer cannot draw.
    """
    if is_camera_path(file):
        found = read_camera_path(file)
        along = found.cameras if size is None else reframed(found.cameras, *size)
        return Shots(_each(along), _numbered(len(along)), found.fps)
    frames = read_transforms(file)
    cameras = []
    for frame in frames:
        if frame.lens.is_distorted:
            raise UserError(
                f"{file}: frame {frame.name} has lens distortion ({frame.lens.model}), and renders are pinhole pictures. Give the "
                "cameras of the undistorted photos"
            )
        camera = Cameras(frame.c2w[None].float(), frame.lens.K[None], frame.lens.height, frame.lens.width)
        cameras.append(camera if size is None else reframed(camera, *size))
    return Shots(cameras, unique_stems([frame.name for frame in frames]))


def parsed_size(text: str, scene: Scene) -> tuple[int, int]:
    """Height and width of `WIDTHxHEIGHT`, or of the longer side alone in the shape of the first view.

    Raises:
        UserError: it is neither.
    """
    parts = text.lower().split("x")
    if not (1 <= len(parts) <= 2 and all(part.isdigit() and 8 <= int(part) <= _LONGEST for part in parts)):
        raise UserError(f"--size {text}: needed WIDTHxHEIGHT as 1920x1080, or the longer side, 8 to {_LONGEST} pixels")
    if len(parts) == 2:
        return int(parts[1]), int(parts[0])
    first = scene.posed.views[0]
    longest = int(parts[0])
    scale = longest / max(first.height, first.width)
    if scale > 1:
        return round(first.height * scale), round(first.width * scale)
    return fitted_size(first.height, first.width, longest)


def reframed(cameras: Cameras, height: int, width: int) -> Cameras:
    """The same places and the same vertical angle of view in pictures of another size or shape."""
    scale = height / cameras.height
    K = cameras.K * scale
    K[:, 0, 2] = width / 2 + scale * (cameras.K[:, 0, 2] - cameras.width / 2)
    K[:, 2, 2] = 1
    return Cameras(cameras.c2w, K, height, width)


def render(
    path: Path,
    output: Path,
    cameras: Callable[[Scene], Shots],
    *,
    kind: str = "color",
    fps: float | None = None,
    backend: str = "auto",
    report: Reporter,
) -> list[Path]:
    """Draws a scene into PNG files or a film.

    Args:
        path: The scene folder.
        output: A folder for `<stem>.png`, or a film: a name that ends in .mp4 or .gif.
        cameras: From where, of the scene.
        kind: color; depth: 16-bit PNG files as `io.images.read_depth` reads them, in films coloured; alpha: PNG files with an alpha channel.
        fps: Of films; the path's own when None.
        backend: The renderer.
        report: Told how far it is.

    Returns:
        The files.

    Raises:
        UserError: no scene, an output that cannot be written, or alpha in a film.
    """
    film = output.suffix.lower() in SUFFIXES
    if kind == "alpha" and film:
        raise UserError(f"{output.name}: films have no alpha channel. Give a folder with -o, for PNG files")
    scene = load_scene(path)
    asked = cameras(scene)
    folder = output_folder(output.parent if film else output)
    key = content_hash(
        scene.folder.keys(), kind, film, [(c.c2w.tolist(), c.K.tolist(), c.height, c.width) for c in asked.cameras]
    )
    partial = output_folder(folder / f".{output.stem if film else 'render'}-{key[:12]}.partial")
    progress = StageReporter("render", report)
    total = len(asked.cameras)
    progress.start(total=total)
    files = [partial / f"{stem}.png" for stem in asked.stems]
    if done := sum(file.is_file() for file in files):
        progress.note(f"{done} of {total} pictures are there from an earlier run")
    draw = drawer(scene.gaussians, scene.look, backend)
    write = _writer(kind, film, draw, asked.cameras[0], torch.tensor(scene.look.background))
    for index, (camera, file) in enumerate(zip(asked.cameras, files, strict=True)):
        if not file.is_file():
            write(camera, file)
        progress.step(index + 1, total)
    if film:
        sizes = {(camera.height, camera.width) for camera in asked.cameras}
        if len(sizes) > 1:
            raise UserError("the cameras have pictures of different sizes, and a film has one. Say it with --size")
        write_film((read_image(file).image for file in files), output, fps or asked.fps)
        result = [output]
    else:
        result = [file.replace(output / file.name) for file in files]
    shutil.rmtree(partial)
    progress.done(f"{total} pictures in {output}")
    return result


def _writer(kind: str, film: bool, draw: Draw, first: Cameras, background: Tensor) -> Callable[[Cameras, Path], None]:
    """What draws one picture into a file."""
    if kind == "depth" and film:
        ends = depth_ends(draw(first).median_depth[0])
        return lambda camera, file: write_image(file, depth_colors(draw(camera).median_depth[0], ends))
    if kind == "depth":
        return lambda camera, file: write_depth(file, draw(camera).median_depth[0])
    if kind == "alpha":
        return lambda camera, file: _write_alpha(file, draw(camera), background)
    return lambda camera, file: write_image(file, draw(camera).image[0])


def _write_alpha(file: Path, drawn: Rendering, background: Tensor) -> None:
    """The scene without what lies behind it: image = alpha * scene + (1 - alpha) * background."""
    alpha = drawn.alpha[0].clamp(0, 1)
    scene = (drawn.image[0] - (1 - alpha) * background[:, None, None]) / alpha.clamp(min=1e-3)
    write_rgba(file, scene, alpha)


def _each(cameras: Cameras) -> list[Cameras]:
    return [
        Cameras(c2w[None], K[None], cameras.height, cameras.width)
        for c2w, K in zip(cameras.c2w, cameras.K, strict=True)
    ]


def _numbered(count: int) -> list[str]:
    return [f"{i:04d}" for i in range(count)]
