"""Sharp, well spread frames of a video, decoded by the ffmpeg program that imageio-ffmpeg brings."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sparse3d.errors import UserError, require
from sparse3d.io.images import write_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".3gp", ".mts", ".m2ts")

_SHARPNESS_SIZE = 480  # longer side at which sharpness is measured: below it, noise and compression are averaged away


def extract_frames(video: Path, count: int, folder: Path) -> list[Path]:
    """The sharpest frame of each of `count` equal parts of a video, written as JPEG (quality 95).

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of the grey frame, at most 480 pixels
    long and divided by its mean, so that a brighter frame is not a sharper one. Frames are turned upright by the
    video's rotation. The video is decoded twice, so that memory holds one frame at a time.

    Args:
        video: Any video that ffmpeg decodes.
        count: Number of parts, at least 1.
        folder: Where the frames go, as NAME_000123.jpg (the number of the frame); made when missing.

    Returns:
        The `count` files, in the video's order.

    Raises:
        UserError: imageio-ffmpeg is missing, the file is not a video, or it has fewer than `count` frames.
        ValueError: count < 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, needed at least 1")
    if not video.is_file():
        raise UserError(f"there is no video {video}")
    size = _SHARPNESS_SIZE
    fit = f"scale='min(iw,{size})':'min(ih,{size})':force_original_aspect_ratio=decrease:flags=area"
    scores = [sharpness(frame[..., 0]) for frame in _frames(video, fit, "pgm")]
    if len(scores) < count:
        raise UserError(
            f"{video} has {len(scores)} frame{'s' * (len(scores) != 1)}, fewer than the {count} asked for; "
            f"ask for at most {len(scores)}"
        )
    edges = [round(i * len(scores) / count) for i in range(count + 1)]
    best = [max(range(a, b), key=scores.__getitem__) for a, b in itertools.pairwise(edges)]
    chosen = "select='" + "+".join(f"eq(n,{i})" for i in best) + "'"
    paths = []
    for index, frame in zip(best, _frames(video, chosen, "ppm"), strict=True):
        path = folder / f"{video.stem}_{index:06d}.jpg"
        write_image(path, torch.from_numpy(frame).permute(2, 0, 1) / 255)
        paths.append(path)
    return paths


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian of a grey picture divided by its mean; 0 for a black one.

    Args:
        grey: (H, W), any scale.
    """
    values = torch.from_numpy(np.asarray(grey, dtype=np.float32))
    mean = values.mean()
    if mean <= 0 or min(values.shape) < 3:
        return 0.0
    laplacian = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    return F.conv2d((values / mean)[None, None], laplacian[None, None]).var().item()


def _frames(video: Path, filters: str, codec: str) -> Iterator[np.ndarray]:
    """Decoded frames (H, W, C) uint8, upright; one for each frame in the file, none doubled or dropped."""
    program = require("imageio_ffmpeg", extra="video", purpose="reading a video").get_ffmpeg_exe()
    command = [
        program,
        "-nostdin",
        "-v",
        "error",
        "-protocol_whitelist",
        "file,pipe",
        "-i",
        str(video.absolute()),
        "-map",
        "0:v:0",
        "-vf",
        filters,
    ]
    command += ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", codec, "-"]
    decoded = 0
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages)
        assert process.stdout is not None
        try:
            while (magic := process.stdout.readline()) in (b"P5\n", b"P6\n"):
                width, height = map(int, process.stdout.readline().split())
                process.stdout.readline()  # 255
                channels = 1 if magic == b"P5\n" else 3
                data = process.stdout.read(width * height * channels)
                if len(data) < width * height * channels:
                    break
                decoded += 1
                yield np.frombuffer(bytearray(data), np.uint8).reshape(height, width, channels)
            process.wait()
        finally:
            process.stdout.close()
            process.kill()
            process.wait()
        if not decoded:
            messages.seek(0)
            said = messages.read().decode(errors="replace").strip().splitlines()
            raise UserError(f"{video} is not a video that ffmpeg can decode" + (f": {said[-1]}" if said else ""))
