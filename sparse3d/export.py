"""Scenes in the formats of other programs: one table, a writer for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sparse3d import __version__
from sparse3d.errors import UserError, did_you_mean
from sparse3d.frames import leveling, to_up, turn_gaussians, turn_views
from sparse3d.io.colmap import write_model
from sparse3d.io.folders import output_folder
from sparse3d.io.images import write_image, write_mask
from sparse3d.io.load import load_scene
from sparse3d.io.mesh import write_mesh
from sparse3d.io.nerfstudio import write_transforms
from sparse3d.io.ply import write_gaussians, write_points
from sparse3d.io.splats.compressed_ply import write_compressed_ply
from sparse3d.io.splats.gltf import write_gltf
from sparse3d.io.splats.packing import SH_C0
from sparse3d.io.splats.read import read_splats
from sparse3d.io.splats.sog import write_sog
from sparse3d.io.splats.splat import write_splat
from sparse3d.io.splats.spz import write_spz
from sparse3d.io.splats.usd import write_usd
from sparse3d.io.views import file_names
from sparse3d.mesh import fuse
from sparse3d.render import Look, drawer
from sparse3d.types import Gaussians, Points, PosedViews

_INVISIBLE = 1 / 255  # renderers draw nothing fainter
_SOLID = (
    0.1  # of Gaussians whose centre counts as a point of the surface; where many overlap, half of them are below 0.2
)
MAX_POINTS = 200_000  # more make trainers run out of memory


@dataclass(frozen=True)
class Source:
    """What is exported: a scene, or the Gaussians of a file alone."""

    name: str
    gaussians: Gaussians
    posed: PosedViews | None = None  # views and sparse points; None: a file of Gaussians has none
    look: Look | None = None

    @property
    def photographed(self) -> PosedViews:
        """The views that are photos, and the points.

        Raises:
            UserError: there are no cameras.
        """
        if self.posed is None:
            raise UserError(
                f"{self.name} is a file of Gaussians without cameras; this format needs a scene folder, as `sparse3d recon` makes"
            )
        return self.posed.only([view.name for view in self.posed.views if not view.generated])


@dataclass(frozen=True)
class ExportOptions:
    """What can be chosen for an export; None: what is usual for the format."""

    up: str | None = None  # the axis that points up in what is written
    level: bool = False  # turn the scene so that the cameras' mean up is up
    spz_frame: str = "rub"  # axes of SPZ files read and written: rub, as specified, or raw, those of PLY
    max_sh_degree: int = 3
    min_opacity: float | None = None  # fainter Gaussians are left out
    voxel: float | None = None  # of the mesh, world units
    faces: int = 200_000  # of the mesh, at most
    renderer: str = "auto"  # draws the depth for the mesh


@dataclass(frozen=True)
class Written:
    """What became of an export."""

    path: Path
    gaussians: int  # of the scene
    left_out: int  # of them: no numbers, or fainter than `min_opacity`


@dataclass(frozen=True)
class Format:
    """One row of the table."""

    write: Callable[
        [Path, Source, ExportOptions, str], None
    ]  # the file or folder, the source in its axes, the axis that is up
    suffix: str  # of the file; without a dot: a folder
    up: str = "-y"  # the axis that usually points up in it
    min_opacity: float = _INVISIBLE


def export(source: Path, name: str, output: Path | None, options: ExportOptions) -> Written:
    """Writes a scene, or the Gaussians of a file, in another format.

    Args:
        source: A scene folder, or a file that `read_splats` reads.
        name: A row of `FORMATS`.
        output: File or folder to write; None: the source's name with the format's suffix, here.

    Raises:
        UserError: no such format, an unreadable source, or one without what the format needs.
    """
    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}{did_you_mean(name, FORMATS)}; choose one of: {', '.join(FORMATS)}")
    if options.spz_frame not in ("rub", "raw"):
        raise UserError(f"--spz-frame is rub or raw, not {options.spz_frame!r}")
    kind = FORMATS[name]
    raw = options.spz_frame == "raw"
    loaded = load_source(source, "-y" if raw and source.suffix.lower() == ".spz" else None)
    up = options.up or ("-y" if raw and name == "spz" else kind.up)
    rotation = to_up(up)
    if options.level:
        rotation = rotation @ leveling(torch.stack([view.c2w for view in loaded.photographed.views]))
    kept = _kept(loaded.gaussians, kind.min_opacity if options.min_opacity is None else options.min_opacity)
    gaussians = kept if kept.sh_degree <= options.max_sh_degree else _cut(kept, options.max_sh_degree)
    if not len(gaussians):
        raise UserError(
            f"{source}: none of its {len(loaded.gaussians)} Gaussians is left to write; lower --min-opacity"
        )
    turned = Source(
        loaded.name,
        turn_gaussians(gaussians, rotation),
        None if loaded.posed is None else turn_views(loaded.posed, rotation),
        loaded.look,
    )
    dot = kind.suffix if kind.suffix.startswith(".") else f"-{kind.suffix}"
    path = output or Path(f"{loaded.name}{dot}")
    if path.resolve() == source.resolve():
        raise UserError(f"{path} is what is read; name another file with -o")
    output_folder(path.parent if kind.suffix.startswith(".") else path)
    kind.write(path, turned, options, up)
    return Written(path, len(loaded.gaussians), len(loaded.gaussians) - len(kept))


def load_source(path: Path, up: str | None = None) -> Source:
    """A scene folder, or a file of Gaussians in which `up` points up (None: as is usual for the format).

    Raises:
        UserError: neither, or it cannot be read.
    """
    if path.is_dir() or not path.exists():
        scene = load_scene(path)
        return Source(path.resolve().name, scene.gaussians, scene.posed, scene.look)
    return Source(path.name.removesuffix(path.suffix).removesuffix(".compressed"), read_splats(path, up))


def _kept(gaussians: Gaussians, min_opacity: float) -> Gaussians:
    """Those whose numbers are all finite, and that are not fainter."""
    finite = torch.stack([value.flatten(1).isfinite().all(1) if value.ndim > 1 else value.isfinite() for value in gaussians.values()])  # fmt: skip
    return gaussians[finite.all(dim=0) & (gaussians.opacities >= min_opacity)]


def _cut(gaussians: Gaussians, degree: int) -> Gaussians:
    return replace(gaussians, sh=gaussians.sh[:, : (degree + 1) ** 2])


def _centres(gaussians: Gaussians) -> Points:
    """Centres of Gaussians in their constant colour; every so many of them when there are more than MAX_POINTS."""
    every = gaussians[torch.arange(0, len(gaussians), max(1, math.ceil(len(gaussians) / MAX_POINTS)))]
    count = len(every)
    return Points(every.means, (0.5 + SH_C0 * every.sh[:, 0]).clamp(0, 1), torch.zeros(count), ((),) * count)


def _solid_centres(gaussians: Gaussians) -> Points:
    solid = gaussians[gaussians.opacities >= _SOLID]
    return _centres(solid if len(solid) else gaussians)


def _antialiased(source: Source) -> bool:
    """Whether the scene was made to be drawn with the dilation compensated (Mip-Splatting), which some formats can say."""
    return source.look is not None and source.look.antialiased


def _comments(source: Source, up: str) -> tuple[str, ...]:
    mode = "mip" if _antialiased(source) else "default"  # as brush and splat-transform say it
    return (f"written by sparse3d {__version__}", f"up: {up}", f"SplatRenderMode: {mode}")


def _ply(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    write_gaussians(path, source.gaussians, _comments(source, up))


def _compressed_ply(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    write_compressed_ply(path, source.gaussians, _comments(source, up))


def _spz(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    write_spz(path, source.gaussians, antialiased=_antialiased(source))


def _points(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    write_points(path, _centres(source.gaussians))


def _usd(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    write_usd(path, source.gaussians, up)


def _colmap(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    """images/ with masks as alpha, sparse/0 with the sparse points, or centres of Gaussians where there are none."""
    posed = source.photographed
    files = {name: f"{stem}.png" for name, stem in file_names(posed.names).items()}
    points = posed.points if len(posed.points) else _solid_centres(source.gaussians)
    tracks = tuple(tuple(files[name] for name in track if name in files) for track in points.tracks)
    renamed = PosedViews(
        tuple(replace(view, name=files[view.name]) for view in posed.views), replace(points, tracks=tracks)
    )
    for view in renamed.views:
        write_image(path / "images" / view.name, view.image, view.mask)
    write_model(path / "sparse" / "0", renamed)


def _nerfstudio(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    """images/, masks/ where there are any, transforms.json, and centres of Gaussians as the points that splatfacto starts from."""
    posed = source.photographed
    files = [f"{stem}.png" for stem in file_names(posed.names).values()]
    for view, file in zip(posed.views, files, strict=True):
        write_image(path / "images" / file, view.image)
        if view.mask is not None:
            write_mask(path / "masks" / file, view.mask)
    write_points(path / "sparse_pc.ply", _solid_centres(source.gaussians))
    write_transforms(
        path / "transforms.json",
        posed.views,
        [f"images/{file}" for file in files],
        mask_paths=[
            None if view.mask is None else f"masks/{file}" for view, file in zip(posed.views, files, strict=True)
        ],
        points_path="sparse_pc.ply",
    )


def _mesh(path: Path, source: Source, options: ExportOptions, up: str) -> None:
    views = source.photographed.views
    assert source.look is not None  # what has views has a look
    draw = drawer(source.gaussians, source.look, options.renderer)
    write_mesh(path, fuse(draw, views, voxel=options.voxel, max_faces=options.faces))


def _alone(write: Callable[[Path, Gaussians], None]) -> Callable[[Path, Source, ExportOptions, str], None]:
    """A writer that takes Gaussians and nothing else."""
    return lambda path, source, options, up: write(path, source.gaussians)


FORMATS: dict[str, Format] = {
    "ply": Format(_ply, ".ply"),
    "compressed-ply": Format(_compressed_ply, ".compressed.ply"),
    "spz": Format(_spz, ".spz", up="y"),
    "splat": Format(_alone(write_splat), ".splat"),
    "sog": Format(_alone(write_sog), ".sog"),
    "gltf": Format(_alone(write_gltf), ".glb", up="y"),
    "usd": Format(_usd, ".usdc", up="y"),
    "colmap": Format(_colmap, "colmap"),
    "nerfstudio": Format(_nerfstudio, "nerfstudio"),
    "points": Format(_points, ".points.ply", min_opacity=_SOLID),
    "mesh": Format(_mesh, ".mesh.glb", up="y"),
}
