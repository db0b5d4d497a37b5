"""Meshes with vertex colours as .glb, .obj or .ply, by trimesh."""

from __future__ import annotations

from pathlib import Path

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.mesh import Mesh

MESH_SUFFIXES = (".glb", ".obj", ".ply")


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Writes a mesh in the axes that it has; .obj with the colours behind the positions, as most programs read them.

    Raises:
        UserError: another suffix.
    """
    import trimesh

    if path.suffix.lower() not in MESH_SUFFIXES:
        raise UserError(f"{path.name}: meshes are written as {', '.join(MESH_SUFFIXES)}; give -o one of these suffixes")
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colors, process=False)
    data: bytes | str = whole.export(file_type=path.suffix.lower()[1:])  # type: ignore[assignment]
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
