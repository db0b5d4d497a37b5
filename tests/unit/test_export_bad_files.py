"""Files that are damaged, of another kind, or made to fill the memory end in a message, quickly and without unpacking."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plyfile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.splat_files import typical

from sparse3d.errors import UserError
from sparse3d.export import ExportOptions, export
from sparse3d.io.ply import write_gaussians
from sparse3d.io.splats.compressed_ply import write_compressed_ply
from sparse3d.io.splats.gltf import write_gltf
from sparse3d.io.splats.read import read_splats
from sparse3d.io.splats.sog import write_sog
from sparse3d.io.splats.splat import write_splat
from sparse3d.io.splats.spz import write_spz

WRITERS = {
    ".ply": write_gaussians, ".compressed.ply": write_compressed_ply, ".spz": write_spz, ".splat": write_splat, ".sog": write_sog, ".glb": write_gltf,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    for suffix, write in WRITERS.items():
        write(folder / f"a{suffix}", typical(300, degree=1))
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in WRITERS}


def refused(path: Path, data: bytes, match: str) -> None:
    """Reading ends in a message that names the file, within seconds and without much memory."""
    path.write_bytes(data)
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=match) as caught:
            read_splats(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 100e6 and time.monotonic() - began < 20


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_short(tmp_path: Path, whole: dict[str, bytes], suffix: str, share: float) -> None:
    data = whole[suffix]
    refused(tmp_path / f"a{suffix}", data[: int(share * len(data)) // 2 * 2 + 1], r"a\.")


@pytest.mark.parametrize("suffix", WRITERS)
def test_empty_or_of_another_kind(tmp_path: Path, suffix: str) -> None:
    refused(tmp_path / f"a{suffix}", b"", r"a\.")
    refused(tmp_path / f"a{suffix}", b"<html>404 Not Found</html>", r"a\.")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), value=st.integers(0, 255), suffix=st.sampled_from(list(WRITERS)))
def test_a_changed_byte_gives_gaussians_or_a_message(
    tmp_path: Path, whole: dict[str, bytes], place: float, value: int, suffix: str
) -> None:
    data = bytearray(whole[suffix])
    data[int(place * (len(data) - 1))] = value
    (tmp_path / f"a{suffix}").write_bytes(data)
    try:
        assert len(read_splats(tmp_path / f"a{suffix}")) >= 0
    except UserError as error:
        assert str(tmp_path) in str(error)


def test_other_suffixes_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_splats(tmp_path / "a.ply")
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(UserError, match=r"from files that end in \.ply, \.spz"):
        read_splats(tmp_path / "a.obj")


def test_a_mesh_and_a_ply_without_harmonics_above_the_constant(tmp_path: Path) -> None:
    vertices = np.zeros(4, dtype=[(n, "<f4") for n in "xyz"])
    faces = np.array([((0, 1, 2),)], dtype=[("vertex_indices", "<i4", (3,))])
    parts = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    plyfile.PlyData(parts).write(str(tmp_path / "mesh.ply"))
    with pytest.raises(UserError, match="is a mesh of 4 points"):
        read_splats(tmp_path / "mesh.ply")
    write_gaussians(tmp_path / "flat.ply", typical(10, degree=0))
    assert read_splats(tmp_path / "flat.ply").sh_degree == 0
    for name in ("spz", "sog", "compressed-ply", "gltf", "splat"):
        export(tmp_path / "flat.ply", name, tmp_path / "out", ExportOptions(min_opacity=0.0))


def _gzip_zeros(size: int, head: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=31)
    parts = [stream.compress(head)]
    for _ in range(size >> 20):
        parts.append(stream.compress(bytes(1 << 20)))
    return b"".join([*parts, stream.flush()])


def test_a_gzip_bomb_as_spz_is_not_unpacked(tmp_path: Path) -> None:
    """300 MB of zeros in 0.3 MB: once honest about its size, once claiming to be small."""
    count = (300 << 20) // 20
    header = struct.pack("<4sIIBBBB", b"NGSP", 3, count, 0, 12, 0, 0)
    refused(tmp_path / "a.spz", _gzip_zeros(300 << 20, header), "claim to unpack to 315 MB.*was not unpacked")
    small = struct.pack("<4sIIBBBB", b"NGSP", 3, 10, 0, 12, 0, 0)
    (tmp_path / "b.spz").write_bytes(_gzip_zeros(300 << 20, small))
    tracemalloc.start()
    assert len(read_splats(tmp_path / "b.spz")) == 10  # what it says it has, and no more of it
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    refused(tmp_path / "c.spz", _gzip_zeros(1 << 20, header[:8] + b"\xff\xff\xff\xff" + header[12:]), "claim to unpack")


def test_a_version_4_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    zeros = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 5, 0, 12, 0, 5, 32)
    sizes = (45, 5, 15, 15, 20)
    table = b"".join(struct.pack("<QQ", len(zeros) if i == 0 else 0, size) for i, size in enumerate(sizes))
    refused(tmp_path / "a.spz", head + table + zeros, "damaged")


def _zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_bomb_as_sog_is_not_unpacked(tmp_path: Path) -> None:
    meta = {"version": 2, "count": 100, "means": {"mins": [0, 0, 0], "maxs": [1, 1, 1], "files": ["a.webp", "a.webp"]}}
    refused(
        tmp_path / "a.sog",
        _zip({"meta.json": json.dumps(meta).encode(), "a.webp": bytes(300 << 20)}),
        "claim to unpack",
    )
    refused(tmp_path / "b.sog", _zip({"meta.json": b" " * (30 << 20)}), "expected at most")
    # a picture of 16000 x 16000 equal pixels in some kilobytes
    buffer = io.BytesIO()
    Image.new("RGBA", (8000, 8000)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    refused(
        tmp_path / "c.sog", _zip({"meta.json": json.dumps(meta).encode(), "a.webp": buffer.getvalue()}), "not decoded"
    )
    meta["count"] = 10**12
    refused(tmp_path / "d.sog", _zip({"meta.json": json.dumps(meta).encode()}), "claim to unpack")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update(version=1), "version 1"),
        (lambda m: m.pop("means"), "no 'means'"),
        (lambda m: m["scales"].update(codebook=[1.0]), "'codebook' of 'scales'"),
        (lambda m: m["sh0"].update(files=["../x.webp"]), "has no ../x.webp"),
        (lambda m: m.update(count=-1), "at least 0"),
        (lambda m: m.update(count=10**5), "pixels for 100000 Gaussians"),
        (lambda m: m["shN"].update(bands=9), "degree 9"),
    ],
)
def test_a_sog_whose_meta_is_wrong(
    tmp_path: Path, whole: dict[str, bytes], change: Callable[[dict], object], match: str
) -> None:
    archive = zipfile.ZipFile(io.BytesIO(whole[".sog"]))
    entries = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(entries["meta.json"])
    change(meta)
    refused(tmp_path / "a.sog", _zip({**entries, "meta.json": json.dumps(meta).encode()}), match)


def _glb(whole: bytes, change: Callable[[dict], object]) -> bytes:
    (length,) = struct.unpack_from("<I", whole, 12)
    meta = json.loads(whole[20 : 20 + length])
    change(meta)
    text = json.dumps(meta).encode()
    text += b" " * (-len(text) % 4)
    rest = whole[20 + length :]
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m["meshes"][0]["primitives"][0].pop("extensions"), "no 3D Gaussians"),
        (lambda m: m["nodes"][0].update(scale=[2, 2, 2]), "a node's scale"),
        (lambda m: m["accessors"][0].update(count=10**9), "past the end"),
        (lambda m: m["accessors"][0].update(count=-5), "past the end"),
        (lambda m: m["bufferViews"][0].update(byteOffset=-8), "past the end"),
        (lambda m: m["accessors"][2].update(type="MAT4"), "accessor 2 is a MAT4"),
        (lambda m: m.update(accessors=[]), "damaged"),
        (lambda m: m["meshes"].append(m["meshes"][0]), "2 sets of Gaussians"),
    ],
)
def test_a_gltf_whose_json_is_wrong(
    tmp_path: Path, whole: dict[str, bytes], change: Callable[[dict], object], match: str
) -> None:
    refused(tmp_path / "a.glb", _glb(whole[".glb"], change), match)


def test_spz_with_axes_of_its_own_is_not_guessed(tmp_path: Path, whole: dict[str, bytes]) -> None:
    data = bytearray(zlib.decompress(whole[".spz"], wbits=31))
    data[14] = 2  # has extensions
    data += struct.pack("<III", 0xADBE0003, 4, 6)  # right, down, forward
    refused(tmp_path / "a.spz", _gzip(bytes(data)), "axes of its own")


def _gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(data) + stream.flush()


def test_export_says_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    write_gaussians(tmp_path / "a.ply", typical(20))
    for name, options, match in (
        ("spzz", ExportOptions(), "unknown format 'spzz'; did you mean 'spz'"),
        ("spz", ExportOptions(spz_frame="rdf"), "--spz-frame is rub or raw"),
        ("ply", ExportOptions(up="up"), "no axis 'up'"),
        ("mesh", ExportOptions(), "without cameras"),
        ("colmap", ExportOptions(), "without cameras"),
        ("ply", ExportOptions(level=True), "without cameras"),
        ("splat", ExportOptions(min_opacity=1.0), "none of its 20 Gaussians"),
    ):
        with pytest.raises(UserError, match=match):
            export(tmp_path / "a.ply", name, tmp_path / "out.file", options)
    with pytest.raises(UserError, match="is what is read"):
        export(tmp_path / "a.ply", "ply", tmp_path / "a.ply", ExportOptions())
