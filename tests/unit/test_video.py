"""Frames of videos made here with the same ffmpeg: which frames are sharp is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparse3d.errors import UserError
from sparse3d.io.images import read_image, write_image
from sparse3d.io.video import extract_frames, sharpness

HEIGHT, WIDTH = 96, 128


def frame(sharp: bool, brightness: float = 1.0) -> np.ndarray:
    """Soft random blobs; a blurred frame has the same blobs without their edges. The left half is red."""
    grey = torch.rand(1, 1, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(0))
    grey = F.interpolate(grey, (HEIGHT, WIDTH), mode="nearest")
    if not sharp:
        grey = F.avg_pool2d(F.pad(grey, (4, 4, 4, 4), mode="replicate"), 9, stride=1)
    rgb = grey[0, 0, :, :, None].repeat(1, 1, 3) * 200 * brightness
    rgb[:, : WIDTH // 2, 1:] *= 0.1
    return rgb.clamp(0, 255).to(torch.uint8).numpy()


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    writer = ffmpeg.write_frames(str(path), (WIDTH, HEIGHT), fps=10, quality=9, macro_block_size=16)
    writer.send(None)
    for pixels in frames:
        writer.send(np.ascontiguousarray(pixels))
    writer.close()
    return path


def test_sharp_frames_are_chosen(tmp_path: Path) -> None:
    """One sharp frame in each third, and it is the darker one: brightness is not sharpness."""
    sharp = {3, 4 + 5, 10 + 2}
    video = write_video(tmp_path / "clip.mp4", [frame(i in sharp, 0.5 if i in sharp else 1.0) for i in range(15)])
    paths = extract_frames(video, 3, tmp_path / "frames")
    assert [path.name for path in paths] == ["clip_000003.jpg", "clip_000009.jpg", "clip_000012.jpg"]
    image = read_image(paths[0]).image
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image[0, :, :40].mean() > 3 * image[1, :, :40].mean()  # red is still red, and on the left
    want = torch.from_numpy(frame(True, 0.5)).permute(2, 0, 1) / 255
    assert (image - want)[:, :, 80:].abs().mean() < 0.02


def test_every_frame_can_be_asked_for(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", [frame(True)] * 5)
    assert len(extract_frames(video, 5, tmp_path / "frames")) == 5
    with pytest.raises(UserError, match="has 5 frames, fewer than the 6"):
        extract_frames(video, 6, tmp_path / "frames")


def test_rotated_video_comes_out_upright(tmp_path: Path) -> None:
    """A phone held upright stores a lying picture and how far to turn it."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    video = write_video(tmp_path / "lying.mp4", [frame(True)] * 3)
    turned = tmp_path / "turned.mp4"
    command = [
        ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(video),
        "-c",
        "copy",
        str(turned),
    ]
    subprocess.run(command, check=True)
    (path,) = extract_frames(turned, 1, tmp_path / "frames")
    image = read_image(path).image
    assert image.shape == (3, WIDTH, HEIGHT)
    red = image[0] > 3 * image[1] + 0.05  # 90 degrees counterclockwise: the left half becomes the lower one
    assert red[WIDTH // 2 + 4 :].float().mean() > 0.7 and red[: WIDTH // 2 - 4].float().mean() < 0.05


def test_what_is_not_a_video_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    with pytest.raises(UserError, match="there is no video"):
        extract_frames(tmp_path / "absent.mp4", 2, tmp_path)
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(UserError, match=r"text\.mp4 is not a video"):
        extract_frames(tmp_path / "text.mp4", 2, tmp_path)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"reading a video.*sparse3d\[video\]"):
        extract_frames(tmp_path / "text.mp4", 2, tmp_path)


def test_sharpness_by_hand() -> None:
    """Of a single bright pixel, away from the border: the Laplacian is -4, four times 1, else 0, over the mean."""
    grey = np.zeros((7, 7))
    grey[3, 3] = 1.0
    laplacian = np.array([-4.0, 1, 1, 1, 1] + [0.0] * 20) * 49
    assert sharpness(grey) == pytest.approx(laplacian.var(ddof=1), rel=1e-5)
    assert sharpness(grey * 3) == pytest.approx(sharpness(grey), rel=1e-5) and sharpness(np.zeros((7, 7))) == 0


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    write_image(tmp_path / "still.png", torch.rand(3, 20, 30))
    with pytest.raises(UserError, match="has 1 frame, fewer than the 2"):
        extract_frames(tmp_path / "still.png", 2, tmp_path)
