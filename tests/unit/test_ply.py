"""PLY files: bit-exact, in the layout that other readers know."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch

from sparse3d.errors import UserError
from sparse3d.io.ply import read_gaussians, write_gaussians, write_points
from sparse3d.types import Gaussians, Points

FIELDS = ("means", "quats", "log_scales", "logit_opacities", "sh")


def gaussians(degree: int, count: int = 5) -> Gaussians:
    generator = torch.Generator().manual_seed(degree)
    shapes = [(count, 3), (count, 4), (count, 3), (count,), (count, (degree + 1) ** 2, 3)]
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    for value in values:
        if value.numel():
            value.view(-1)[0] = -0.0
            value.view(-1)[-1] = 1e-42  # denormal
    return Gaussians(*values)


def bits(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().view(torch.int32)


@pytest.mark.parametrize("degree", range(4))
def test_round_trip_is_bit_exact(tmp_path: Path, degree: int) -> None:
    want = gaussians(degree)
    write_gaussians(tmp_path / "a.ply", want, comments=["axes: x right, y down, z forward"])
    got = read_gaussians(tmp_path / "a.ply")
    for field in FIELDS:
        assert torch.equal(bits(getattr(got, field)), bits(getattr(want, field))), field
    assert got.sh_degree == degree
    assert b"comment axes: x right, y down, z forward\n" in (tmp_path / "a.ply").read_bytes()[:300]


def test_no_gaussians_round_trip(tmp_path: Path) -> None:
    write_gaussians(tmp_path / "a.ply", gaussians(1, count=0))
    got = read_gaussians(tmp_path / "a.ply")
    assert len(got) == 0 and got.sh_degree == 1


def test_layout_byte_by_byte(tmp_path: Path) -> None:
    """The header of 3DGS, and one Gaussian whose every number says where it belongs."""
    sh = torch.zeros(1, 4, 3)
    for coefficient in range(4):
        for channel in range(3):
            sh[0, coefficient, channel] = 100 * channel + coefficient
    one = Gaussians(
        torch.tensor([[1.0, 2, 3]]),
        torch.tensor([[7.0, 8, 9, 10]]),
        torch.tensor([[4.0, 5, 6]]),
        torch.tensor([11.0]),
        sh,
    )
    write_gaussians(tmp_path / "a.ply", one)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 1"]
    names = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 " + " ".join(f"f_rest_{i}" for i in range(9))
    names += " opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert lines[3:] == [f"property float {name}" for name in names.split()]
    want = [1, 2, 3, 0, 0, 0, 0, 100, 200, 1, 2, 3, 101, 102, 103, 201, 202, 203, 11, 4, 5, 6, 7, 8, 9, 10]
    assert list(struct.unpack("<26f", body)) == want


@pytest.mark.parametrize("degree", [1, 2, 3])  # gaussforge 0.6 fails on files without f_rest: std::bad_cast
def test_an_independent_reader_agrees(tmp_path: Path, degree: int) -> None:
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not installed")
    want = gaussians(degree)
    write_gaussians(tmp_path / "a.ply", want)
    data = gaussforge.GaussForge().read((tmp_path / "a.ply").read_bytes(), "ply")["data"]
    assert data["numPoints"] == 5 and data["meta"]["shDegree"] == degree
    pairs = {
        "positions": want.means,
        "rotations": want.quats,
        "scales": want.log_scales,
        "alphas": want.logit_opacities,
        "colors": want.sh[:, 0],
        "sh": want.sh[:, 1:],
    }
    for key, value in pairs.items():
        got = np.frombuffer(data[key], "<f4")
        np.testing.assert_array_equal(got, value.numpy().reshape(-1), err_msg=key)


@pytest.mark.parametrize("options", [{"text": True}, {"byte_order": ">"}])
def test_ascii_and_big_endian_and_doubles_are_read(tmp_path: Path, options: dict) -> None:
    want = gaussians(1)
    write_gaussians(tmp_path / "a.ply", want)
    vertices = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"].data
    names = [*reversed(vertices.dtype.names), "extra"]  # another order and a property that is not ours
    other = np.zeros(len(vertices), [(name, "f8") for name in names])
    for name in vertices.dtype.names:
        other[name] = vertices[name]
    plyfile.PlyData([plyfile.PlyElement.describe(other, "vertex")], **options).write(tmp_path / "b.ply")
    got = read_gaussians(tmp_path / "b.ply")
    for field in FIELDS:
        torch.testing.assert_close(getattr(got, field), getattr(want, field), rtol=1e-6, atol=1e-7)


def test_missing_properties_are_named(tmp_path: Path) -> None:
    write_gaussians(tmp_path / "a.ply", gaussians(1))
    vertices = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"].data
    for gone, message in [
        (["opacity"], "missing property opacity"),
        (["rot_1", "x"], "missing properties x rot_1"),
        (["f_rest_8"], "8 f_rest"),
    ]:
        kept = np.zeros(len(vertices), [(name, "f4") for name in vertices.dtype.names if name not in gone])
        plyfile.PlyData([plyfile.PlyElement.describe(kept, "vertex")]).write(tmp_path / "b.ply")
        with pytest.raises(UserError, match=message):
            read_gaussians(tmp_path / "b.ply")


def test_other_files_are_called_what_they_are(tmp_path: Path) -> None:
    write_points(tmp_path / "points.ply", Points(torch.rand(4, 3), torch.rand(4, 3), torch.zeros(4), ((),) * 4))
    with pytest.raises(UserError, match="is a point cloud of 4 points.*not 3D Gaussians"):
        read_gaussians(tmp_path / "points.ply")
    corners = plyfile.PlyElement.describe(np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4")]), "vertex")
    faces = plyfile.PlyElement.describe(np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))]), "face")
    plyfile.PlyData([corners, faces]).write(tmp_path / "mesh.ply")
    with pytest.raises(UserError, match="is a mesh"):
        read_gaussians(tmp_path / "mesh.ply")
    chunk = plyfile.PlyElement.describe(np.zeros(1, [("min_x", "f4")]), "chunk")
    packed = plyfile.PlyElement.describe(np.zeros(1, [("packed_position", "u4")]), "vertex")
    plyfile.PlyData([chunk, packed]).write(tmp_path / "packed.ply")
    with pytest.raises(UserError, match="compressed PLY"):
        read_gaussians(tmp_path / "packed.ply")
    (tmp_path / "text.ply").write_text("hello")
    with pytest.raises(UserError, match="not a whole PLY"):
        read_gaussians(tmp_path / "text.ply")
    write_gaussians(tmp_path / "a.ply", gaussians(0))
    (tmp_path / "cut.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-9])
    with pytest.raises(UserError, match="not a whole PLY"):
        read_gaussians(tmp_path / "cut.ply")
    with pytest.raises(UserError, match="No such file"):
        read_gaussians(tmp_path / "absent.ply")


def test_points_have_colours_of_8_bits(tmp_path: Path) -> None:
    rgb = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6]])
    xyz = torch.tensor([[1.0, 2, 3], [-1, -2, -3]])
    write_points(tmp_path / "p.ply", Points(xyz, rgb, torch.zeros(2), ((), ())))
    header, body = (tmp_path / "p.ply").read_bytes().split(b"end_header\n")
    assert b"property uchar red" in header
    assert struct.unpack("<3f3B3f3B", body) == (1, 2, 3, 0, 128, 255, -1, -2, -3, 51, 102, 153)


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gaussians(tmp_path / "a.ply", gaussians(0))
    before = (tmp_path / "a.ply").read_bytes()

    def fail(self: plyfile.PlyData, file: str) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(plyfile.PlyData, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_gaussians(tmp_path / "a.ply", gaussians(2))
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"] and (tmp_path / "a.ply").read_bytes() == before
    with pytest.raises(ValueError, match="one line of ASCII"):
        write_gaussians(tmp_path / "a.ply", gaussians(0), comments=["two\nlines"])
