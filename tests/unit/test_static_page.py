"""What is in the self-contained page; how it looks is held in tests/browser."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import json
import math
import re

import numpy as np
import pytest
import torch
from support.viewer_scenes import LOOK, around, ball

from sparse3d.errors import UserError
from sparse3d.geometry import rotation_from_quat
from sparse3d.viewer.spark_arrays import ROW, spark_arrays
from sparse3d.viewer.static_page import write_html


def halves(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two float16 of each word."""
    pairs = words.astype("<u4").view("<f2").reshape(-1, 2).astype(np.float64)
    return pairs[:, 0], pairs[:, 1]


def test_arrays_hold_the_gaussians():
    """Decoded here as Spark's shader does it."""
    gaussians = ball(300, 3)
    gaussians.sh[:, 5] *= torch.linspace(-3, 3, 300)[:, None]
    gaussians.sh[7, 9:] = 0
    first, second, *harmonics = spark_arrays(gaussians)
    assert first.shape == second.shape == (ROW, 4) and len(harmonics) == 4
    assert (first[300:] == 0).all() and (second[300:] == 0).all()
    np.testing.assert_array_equal(first[:300, :3].view(np.float32), gaussians.means.numpy())
    np.testing.assert_allclose(halves(first[:300, 3])[0], gaussians.opacities.numpy(), rtol=2**-10)
    red_green, blue_scale, scales = (halves(second[:300, i]) for i in range(3))
    rgb = 0.5 + gaussians.sh[:, 0].numpy() / (2 * math.sqrt(math.pi))
    np.testing.assert_allclose(np.stack([*red_green, blue_scale[0]], 1), rgb, rtol=2**-10, atol=1e-4)
    np.testing.assert_allclose(np.stack([blue_scale[1], *scales], 1), gaussians.log_scales.numpy(), rtol=2**-10)
    for index in range(1, 16):
        table, column = divmod(index - 1, 4)
        word = harmonics[table][:300, column]
        size = (
            np.stack([word & 255, word >> 8 & 255, word >> 16 & 255], 1)
            * np.exp2((word >> 27).astype(float) - 15)[:, None]
            / 255
        )
        sign = 1.0 - 2.0 * np.stack([word >> 24 & 1, word >> 25 & 1, word >> 26 & 1], 1)
        want = gaussians.sh[:, index].numpy()
        step = (
            2 * np.abs(want).max(axis=1, keepdims=True) / 255 + 1e-6
        )  # the power of two is less than twice the largest
        assert (np.abs(size * sign - want) <= 0.5 * step + 1e-7).all()


def test_rotations_come_back():
    """The word's axis and angle give the same matrix; 10 bits are half steps of 1 / 1023 in x and y, at worst sqrt(6) * sqrt(3) / 1023 of the axis."""
    gaussians = ball(2000, 0)
    word = spark_arrays(gaussians)[1][:2000, 3]
    x, y = ((word >> shift & 1023) / 1023 * 2 - 1 for shift in (0, 10))
    z = 1 - np.abs(x) - np.abs(y)
    fold = np.maximum(-z, 0)
    axis = np.stack([x - np.where(x >= 0, fold, -fold), y - np.where(y >= 0, fold, -fold), z], 1)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    half = (word >> 20) / 4095 * math.pi / 2
    quats = torch.from_numpy(np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * axis], 1))
    turned = rotation_from_quat(quats).transpose(1, 2) @ rotation_from_quat(gaussians.quats.double())
    cosine = ((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    assert float(torch.rad2deg(torch.acos(cosine)).max()) < 0.5


def test_page_holds_all_it_needs(tmp_path):
    write_html(ball(100, 1), around(), LOOK, tmp_path / "ball.html", title="a </script> & b @SCRIPT@")
    page = (tmp_path / "ball.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', page)
    assert found is not None
    scene = json.loads(found[1])
    assert scene["title"] == "a </script> & b @SCRIPT@" and scene["count"] == 100 and scene["sh_degree"] == 1
    assert [view["name"] for view in scene["views"]] == [f"view_{i}.jpg" for i in range(4)]
    assert page.count("Permission is hereby granted") == 3
    assert not re.findall(r'(?:src|href)="', page)


def test_scene_without_cameras_starts_outside(tmp_path):
    posed = around(0)
    write_html(ball(100, 0), posed, LOOK, tmp_path / "ball.html")
    page = (tmp_path / "ball.html").read_text(encoding="utf-8")
    found = re.search(r'id="scene">(.*?)</script>', page)
    assert found is not None
    (view,) = json.loads(found[1])["views"]
    c2w = np.array(view["c2w"]).reshape(3, 4)
    towards = np.array([1.0, 2, 3]) - c2w[:, 3]
    assert np.linalg.norm(towards) > 1.5
    assert c2w[:, 2] @ towards / np.linalg.norm(towards) > 0.99


def test_nothing_to_show_is_said(tmp_path):
    gaussians = ball(3, 0)
    gaussians.means[:] = math.nan
    with pytest.raises(UserError, match="no Gaussian"):
        write_html(gaussians, around(), LOOK, tmp_path / "ball.html")
    assert not list(tmp_path.iterdir())


def test_too_many_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sparse3d.viewer.static_page.MAX_DATA_BYTES", 1000)
    with pytest.raises(UserError, match="200 Gaussians are"):
        write_html(ball(200, 0), around(), LOOK, tmp_path / "ball.html")


def test_those_that_are_no_number_are_left_out(tmp_path):
    gaussians = ball(5, 0)
    gaussians.sh[2] = math.inf
    write_html(gaussians, around(), LOOK, tmp_path / "ball.html")
    assert '"count": 4' in (tmp_path / "ball.html").read_text(encoding="utf-8")


def test_vendored_files_are_the_ones_named():
    """The checksums in their README are those of the published files."""
    folder = importlib.resources.files("sparse3d.viewer.page") / "vendor"
    rows = re.findall(
        r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == 5
    for name, checksum in rows:
        assert hashlib.sha256(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest() == checksum
    total = sum(len((folder / f"{name}.gz").read_bytes()) for name, _ in rows)
    assert total < 2_500_000
