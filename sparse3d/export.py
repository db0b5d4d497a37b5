"""A scene in the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sparse3d.errors import UserError, did_you_mean
from sparse3d.frames import half_turn, levelling, rotated, to_degree
from sparse3d.io._atomic import replacing
from sparse3d.io.colmap import write_model
from sparse3d.io.folders import output_folder
from sparse3d.io.images import write_image
from sparse3d.io.load import Scene, load_scene
from sparse3d.io.nerfstudio import write_transforms
from sparse3d.io.ply import write_points
from sparse3d.io.splats import read_splats, write_splats
from sparse3d.io.views import file_names
from sparse3d.kernels.reference import SH_C0
from sparse3d.mesh import fused
from sparse3d.paths import focus_point, orbit
from sparse3d.progress import Reporter, StageReporter, silent
from sparse3d.render import drawer
from sparse3d.types import Cameras, Gaussians, Points, PosedViews

_SOLID = 0.1  # opacity from which a Gaussian is a point
_LOOP = 12  # cameras of the loop that a page plays
_MOST_POINTS = 200_000  # of seed points: more of them end other programs


@dataclass(frozen=True)
class Options:
    """What the formats may be told."""

    max_sh_degree: int = 3
    up: str = "as-is"  # or y: turned by half a turn about x, so that y is up
    faces: int | None = 200_000  # of a mesh, at most
    resolution: int = 256  # voxels along the longest side of a mesh's grid


@dataclass(frozen=True)
class Source:
    """What is exported: a scene folder, or a file of splats alone."""

    path: Path
    gaussians: Gaussians
    scene: Scene | None

    @classmethod
    def open(cls, path: Path) -> Source:
        """A scene folder, or a file in a format of `io.splats`.

        Raises:
            UserError: neither.
        """
        if path.is_file():
            return cls(path, read_splats(path), None)
        scene = load_scene(path)
        return cls(path, scene.gaussians, scene)

    def whole(self, kind: str) -> Scene:
        """The scene with its cameras.

        Raises:
            UserError: it is a file, which has none.
        """
        if self.scene is None:
            raise UserError(f"--format {kind} needs cameras, which {self.path.name} has none of. Give a scene folder")
        return self.scene


Write = Callable[[Source, Path, Options, StageReporter], None]


def _splats(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    found = source.gaussians
    finite = torch.cat([values.flatten(1) if values.dim() > 1 else values[:, None] for values in found.values()], 1)
    found = found[finite.isfinite().all(1)]
    found = to_degree(found, min(options.max_sh_degree, found.sh_degree))
    write_splats(output, half_turn(found) if options.up == "y" else found)


def _points(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    write_points(output, _cloud(source.gaussians))


def _mesh(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    import trimesh

    scene = source.whole("mesh")
    views = [view for view in scene.posed.views if not view.generated]
    made = fused(views, drawer(scene.gaussians, scene.look), options.resolution, options.faces, progress)
    vertices = made.vertices * torch.tensor([1.0, -1.0, -1.0]) if options.up == "y" else made.vertices
    colors = (made.colors * 255 + 0.5).byte().numpy()
    mesh = trimesh.Trimesh(vertices.numpy(), made.faces.numpy(), vertex_colors=colors, process=False)
    with replacing(output) as temporary:
        mesh.export(str(temporary))


def _html(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    from sparse3d.viewer.placement import up_direction
    from sparse3d.viewer.static_page import write_html

    scene = source.whole("html")
    turn = levelling(torch.from_numpy(up_direction(scene.posed)))  # the page's up is y
    found = to_degree(scene.gaussians, min(options.max_sh_degree, scene.gaussians.sh_degree))
    first, viewpoints = scene.posed.views[0], scene.viewpoints()
    turned = torch.eye(4)
    turned[:3, :3] = turn
    cameras = lambda c2w: Cameras(turned @ c2w, first.K.expand(len(c2w), 3, 3), first.height, first.width)
    write_html(
        output,
        rotated(found, turn),
        cameras(first.c2w[None]),
        turn @ focus_point(viewpoints),
        background=scene.look.background,
        loop=cameras(orbit(viewpoints, _LOOP)),
        title=source.path.name,
    )


def _colmap(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    write_model(output / "sparse" / "0", _with_pictures(source.whole("colmap").posed, output / "images"))


def _nerfstudio(source: Source, output: Path, options: Options, progress: StageReporter) -> None:
    posed = _with_pictures(source.whole("nerfstudio").posed, output / "images")
    write_points(output / "points.ply", posed.points if len(posed.points) else _cloud(source.gaussians))
    write_transforms(output / "transforms.json", posed.views, points="points.ply")


def _with_pictures(posed: PosedViews, folder: Path) -> PosedViews:
    """The undistorted photos as PNG files in a folder, and the views under the names of these."""
    names = {name: f"{stem}.png" for name, stem in file_names(posed.names).items()}
    for view in posed.views:
        write_image(folder / names[view.name], view.image, view.mask)
    tracks = tuple(tuple(names[name] for name in track) for track in posed.points.tracks)
    views = tuple(replace(view, name=names[view.name]) for view in posed.views)
    return PosedViews(views, replace(posed.points, tracks=tracks))


def _cloud(gaussians: Gaussians) -> Points:
    """Centres and colours of what is solid, at most 200,000 of them."""
    solid = gaussians[gaussians.opacities > _SOLID]
    chosen = solid[torch.arange(0, len(solid), max(1, -(-len(solid) // _MOST_POINTS)))]
    rgb = (0.5 + SH_C0 * chosen.sh[:, 0]).clamp(0, 1)
    return Points(chosen.means, rgb, torch.zeros(len(chosen)), ((),) * len(chosen))


@dataclass(frozen=True)
class Format:
    """One of them."""

    suffix: str  # of the file; empty: a folder
    what: str
    write: Write
    also: tuple[str, ...] = ()  # other suffixes that -o may have


FORMATS: dict[str, Format] = {
    "ply": Format(".ply", "3DGS' own, read by every tool", _splats),
    "compressed-ply": Format(".compressed.ply", "SuperSplat's", _splats),
    "splat": Format(".splat", "32 bytes a Gaussian, no view dependence", _splats),
    "ksplat": Format(".ksplat", "of mkkellogg's viewer", _splats),
    "spz": Format(".spz", "Niantic's, version 3", _splats),
    "sog": Format(".sog", "PlayCanvas', the smallest", _splats),
    "gltf": Format(".glb", "KHR_gaussian_splatting (release candidate)", _splats),
    "html": Format(".html", "one page that opens in any browser", _html),
    "points": Format(".ply", "centres as a coloured point cloud", _points),
    "mesh": Format(".glb", "triangles with vertex colours", _mesh, also=(".obj", ".ply", ".stl")),
    "colmap": Format("", "photos and cameras as a COLMAP model", _colmap),
    "nerfstudio": Format("", "a dataset for ns-train splatfacto", _nerfstudio),
}


def export(
    path: Path, kind: str, output: Path | None = None, options: Options | None = None, *, report: Reporter = silent
) -> Path:
    """Writes a scene, or a file of splats, in another format.

    Args:
        path: A scene folder, or a file in a format of `io.splats`.
        kind: One of FORMATS.
        output: File or folder; beside the source, named after it, when None.
        options: Of the formats.
        report: Told how far it is.

    Returns:
        The file or folder.

    Raises:
        UserError: no such scene or format, an output of another suffix or that cannot be written, or a library is missing.
    """
    if kind not in FORMATS:
        raise UserError(f"unknown format {kind!r}{did_you_mean(kind, FORMATS)}; choose one of: {', '.join(FORMATS)}")
    chosen, options = FORMATS[kind], options or Options()
    source = Source.open(path)
    output = output or _beside(path, kind, chosen)
    if chosen.suffix and not output.name.lower().endswith((chosen.suffix, *chosen.also)):
        raise UserError(f"-o {output.name}: format {kind} is written as {', '.join((chosen.suffix, *chosen.also))}")
    if output.resolve() == path.resolve():
        raise UserError(f"-o {output} is the source itself. Choose another name with -o")
    output_folder(output.parent if chosen.suffix else output)
    progress = StageReporter("export", report)
    chosen.write(source, output, options, progress)
    progress.done(f"{output} ({_size(output)})")
    return output


def _beside(path: Path, kind: str, chosen: Format) -> Path:
    """`scene.spz` in the folder `exports` of a scene; beside a file, with its suffix exchanged."""
    if path.is_file():
        return path.with_name(path.name.split(".")[0] + (chosen.suffix or f"-{kind}"))
    name = {"points": "points", "mesh": "mesh"}.get(kind, "scene" if chosen.suffix else kind)
    return path / "exports" / f"{name}{chosen.suffix}"


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
