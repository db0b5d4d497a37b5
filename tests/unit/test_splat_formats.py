"""Every splat format: written by us, read by readers made from the specifications; read by us; bad files; the turn between axes."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from support import splat_files

from sparse3d.errors import UserError
from sparse3d.frames import half_turn, levelling, rotated, to_degree
from sparse3d.geometry import se3_exp
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.splats import SUFFIXES, read_splats, suffix_of, write_splats
from sparse3d.metrics.image import psnr
from sparse3d.render import render
from sparse3d.types import Cameras, Gaussians

# largest error of a field that a format's own rounding explains: of positions (extent 4), relative of scales, of opacities, colours (dc), rotation (degrees), sh
BOUNDS = {
    ".splat": (1e-6, 1e-6, 0.003, 0.008, 1.0, None),
    ".spz": (2e-4, 0.033, 0.003, 0.014, 0.4, 0.07),
    ".compressed.ply": (2.5e-3, 2e-3, 0.003, 0.008, 0.2, 0.0157),
    ".sog": (1e-3, 0.06, 0.01, 0.06, None, None),
    ".glb": (1e-6, 1e-6, 1e-6, 1e-6, 0.1, 1e-6),
}
READERS = {
    ".splat": splat_files.splat,
    ".spz": splat_files.spz,
    ".compressed.ply": splat_files.compressed_ply,
    ".sog": splat_files.sog,
    ".glb": splat_files.glb,
}


def scene(count: int = 600, degree: int = 2) -> Gaussians:
    g = torch.Generator().manual_seed(4)
    sh = 0.25 * torch.randn(count, (degree + 1) ** 2, 3, generator=g).clamp(-3, 3)
    sh[:, 0] *= 4
    return Gaussians(
        4 * torch.rand(count, 3, generator=g) - 2,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=1),
        torch.rand(count, 3, generator=g) * 2 - 4.5,
        torch.randn(count, generator=g) * 2,
        sh.clamp(-1.7, 1.7),
    )


def fields(gaussians: Gaussians) -> dict[str, np.ndarray]:
    return {
        "means": gaussians.means.double().numpy(),
        "scales": gaussians.scales.double().numpy(),
        "opacities": gaussians.opacities.double().numpy(),
        "dc": gaussians.sh[:, 0].double().numpy(),
        "quats": torch.nn.functional.normalize(gaussians.quats, dim=1).double().numpy(),
        "sh": gaussians.sh[:, 1:].double().numpy(),
    }


def errors(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest error of each field; formats may put Gaussians in another order."""
    apart = np.linalg.norm(got["means"][:, None] - want["means"][None], axis=2)
    match = apart.argmin(1)
    assert sorted(match) == list(range(len(want["means"])))
    found = {"means": float(np.abs(got["means"] - want["means"][match]).max())}
    found["scales"] = float(np.abs(got["scales"] / want["scales"][match] - 1).max())
    found["opacities"] = float(np.abs(got["opacities"] - want["opacities"][match]).max())
    found["dc"] = float(np.abs(got["dc"] - np.clip(want["dc"][match], -1.7725, 1.7725)).max())
    if "quats" in got:
        lengths = np.linalg.norm(got["quats"], axis=1)
        cosine = np.abs((got["quats"] * want["quats"][match]).sum(1)) / lengths
        found["rotation"] = float(np.degrees(2 * np.arccos(np.minimum(1, cosine))).max())
    if "sh" in got and got["sh"].size and got["sh"].shape == want["sh"].shape:
        found["sh"] = float(np.abs(got["sh"] - want["sh"][match]).max())
    return found


def needs(suffix: str) -> None:
    if suffix in (".spz", ".sog", ".ksplat"):
        pytest.importorskip("gaussforge")


@pytest.mark.parametrize("suffix", sorted(BOUNDS))
def test_other_programs_read_what_we_write(tmp_path, suffix):
    needs(suffix)
    made = scene()
    write_splats(tmp_path / f"scene{suffix}", made)
    found = errors(READERS[suffix](tmp_path / f"scene{suffix}"), fields(made))
    for name, bound in zip(("means", "scales", "opacities", "dc", "rotation", "sh"), BOUNDS[suffix], strict=True):
        assert bound is None or found[name] <= bound, (name, found)


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_what_we_write_we_read(tmp_path, suffix, degree):
    needs(suffix)
    made = scene(300, degree)
    write_splats(tmp_path / f"scene{suffix}", made)
    back = read_splats(tmp_path / f"scene{suffix}")
    found = errors(fields(to_degree(back, degree)), fields(made))
    assert found["means"] < 0.01 and found["opacities"] < 0.012 and found["dc"] < 0.06, found
    if suffix != ".sog":
        assert found["scales"] < 0.04 and found["rotation"] < 2, found


def test_wholly_opaque_splats_stay_numbers(tmp_path):
    pytest.importorskip("gaussforge")
    made = scene(50)
    made = Gaussians(*made.values()[:3], torch.full((50,), 30.0), made.sh)
    write_splats(tmp_path / "scene.spz", made)
    back = read_splats(tmp_path / "scene.spz")
    assert bool(back.logit_opacities.isfinite().all()) and float(back.opacities.min()) > 0.999


def drawn(gaussians: Gaussians, c2w: torch.Tensor) -> torch.Tensor:
    K = torch.tensor([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]])
    return render(gaussians, Cameras(c2w[None], K[None], 48, 64), backend="reference").image[0]


def test_the_half_turn_is_a_rotation_of_scene_and_camera_together():
    """All of it: positions, shapes, and colours that depend on the direction."""
    made = scene(200, 3)
    c2w = torch.eye(4)
    c2w[:3, 3] = torch.tensor([0.3, -0.5, -6.0])
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    assert torch.allclose(drawn(made, c2w), drawn(half_turn(made), turn @ c2w), atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(half_turn(half_turn(made)).values(), made.values(), strict=True))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_any_rotation_turns_colours_with_the_scene(degree):
    made = scene(200, degree)
    c2w = torch.eye(4)
    c2w[:3, 3] = torch.tensor([0.3, -0.5, -6.0])
    turn = se3_exp(torch.tensor([[0.7, -1.1, 0.4, 0, 0, 0]]))[0]
    assert torch.allclose(drawn(made, c2w), drawn(rotated(made, turn[:3, :3]), turn @ c2w), atol=1e-4)


@pytest.mark.parametrize("up", [(0.2, -0.9, 0.1), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
def test_levelling_turns_up_upwards_by_the_least_angle(up):
    start = torch.tensor(up) / torch.tensor(up).norm()
    turn = levelling(torch.tensor(up))
    assert torch.allclose(turn @ start, torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-6) and float(torch.linalg.det(turn)) == pytest.approx(1)
    angle = torch.arccos(((turn.trace() - 1) / 2).clamp(-1, 1))
    assert float(angle) == pytest.approx(float(torch.arccos((-start[1]).clamp(-1, 1))), abs=1e-3)


@pytest.mark.parametrize(("suffix", "least_db"), [(".spz", 35), (".glb", 60), (".compressed.ply", 25), (".ksplat", 35)])
def test_a_scene_looks_the_same_after_a_round_trip(tmp_path, suffix, least_db):
    needs(suffix)
    made = scene(200, 2)
    c2w = torch.eye(4)
    c2w[2, 3] = -6.0
    write_splats(tmp_path / f"scene{suffix}", made)
    assert psnr(drawn(read_splats(tmp_path / f"scene{suffix}"), c2w), drawn(made, c2w)) > least_db


def test_a_compressed_ply_is_known_by_its_header(tmp_path):
    write_splats(tmp_path / "a.compressed.ply", scene())
    (tmp_path / "a.compressed.ply").rename(tmp_path / "plain.ply")
    assert len(read_splats(tmp_path / "plain.ply")) == 600
    write_gaussians(tmp_path / "b.ply", scene())
    assert len(read_gaussians(tmp_path / "b.ply")) == 600


def bomb_spz(count: int, size: int) -> bytes:
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, count, 0, 12, 0, 0) + bytes(size))


def bomb_sog(count: int, side: int, extra: int = 0) -> bytes:
    from PIL import Image

    picture, archive = io.BytesIO(), io.BytesIO()
    Image.new("RGBA", (side, side)).save(picture, "WEBP", lossless=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("meta.json", json.dumps({"count": count, "version": 2}))
        file.writestr("means_l.webp", picture.getvalue())
        for index in range(extra):
            file.writestr(f"{index}.bin", b"")
    return archive.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.spz", b"", "no gzip"),
        ("a.spz", b"NGSP" + bytes(40), "version 4"),
        ("a.spz", gzip.compress(b"other")[:15], "no whole spz"),
        ("a.spz", bomb_spz(4_000_000_000, 0), "more than 50,000,000"),
        ("a.spz", bomb_spz(10, 30_000_000), "unpacks to more than 10"),
        ("a.sog", b"PK", "no whole sog"),
        ("a.sog", bomb_sog(10, 3000), "3000x3000 pixels for 10"),
        ("a.sog", bomb_sog(10**9, 8), "more than 50,000,000"),
        ("a.sog", bomb_sog(10, 8, 80), "82 files"),
        ("a.sog", bomb_sog(10, 8), "gaussforge cannot read"),
        ("a.splat", bytes(33), "33 bytes long"),
        ("a.splat", b"", "0 bytes long"),
        ("a.splat", np.full(8, np.nan, "<f4").tobytes(), "not numbers"),
        ("a.glb", b"glTF" + bytes(8), "no .glb with Gaussians"),
        ("a.glb", struct.pack("<III", 0x46546C67, 2, 20) + struct.pack("<II", 2, 0x4E4F534A), "no .glb with Gaussians"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nend_header\n1\n", "a.ply"),
        ("a.xyz", b"1 2 3", "splats are read from"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, data, said):
    if name.endswith((".spz", ".sog")):
        pytest.importorskip("gaussforge")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_splats(tmp_path / name)


@pytest.mark.parametrize("suffix", [".spz", ".sog", ".glb", ".compressed.ply", ".ksplat", ".ply"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix, share):
    needs(suffix)
    path = tmp_path / f"scene{suffix}"
    write_splats(path, scene(300, 1))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError):
        read_splats(path)


def test_names_say_the_format(tmp_path):
    assert suffix_of(tmp_path / "A.Compressed.PLY") == ".compressed.ply" and suffix_of(tmp_path / "a.obj") is None
    with pytest.raises(UserError, match="there is no file"):
        read_splats(tmp_path / "none.ply")
    with pytest.raises(UserError, match="splats are written as"):
        write_splats(tmp_path / "a.obj", scene(10))
