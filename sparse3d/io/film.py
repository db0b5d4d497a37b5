"""Films: MP4 by the ffmpeg program that imageio-ffmpeg brings, GIF by Pillow."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.io._atomic import replacing

SUFFIXES = (".mp4", ".gif")
_QUALITY = 18  # x264's constant rate factor: no difference to be seen


def write_film(frames: Iterable[Tensor], path: Path, fps: float) -> None:
    """Writes pictures as a film; whole or not at all.

    MP4 is H.264 in 4:2:0, which every browser and phone plays; a side with an odd number of pixels has its last row or column twice.

    Args:
        frames: (3, H, W) of one size, clipped to [0, 1].
        path: Ends in .mp4 or .gif.
        fps: Frames in a second, above 0.

    Raises:
        UserError: another suffix, no frames, imageio-ffmpeg is missing, or ffmpeg fails.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path.name}: films are written as .mp4 or .gif; give the file one of these suffixes")
    arrays = (np.ascontiguousarray((f.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()) for f in frames)
    first = next(arrays, None)
    if first is None:
        raise UserError(f"{path.name}: there is no frame to write")
    with replacing(path) as temporary:
        if suffix == ".gif":
            _write_gif(first, arrays, temporary, fps)
        else:
            _write_mp4(first, arrays, temporary, fps)


def _write_gif(first: np.ndarray, others: Iterator[np.ndarray], path: Path, fps: float) -> None:
    pictures = (Image.fromarray(array) for array in others)
    shown_ms = max(20, round(1000 / fps))  # what browsers still honour
    Image.fromarray(first).save(path, "GIF", save_all=True, append_images=pictures, duration=shown_ms, loop=0)


def _write_mp4(first: np.ndarray, others: Iterator[np.ndarray], path: Path, fps: float) -> None:
    program = require("imageio_ffmpeg", extra="video", purpose="writing an MP4 film").get_ffmpeg_exe()
    height, width = first.shape[:2]
    command = [
        program,
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
    ]  # frames come through its standard input
    command += ["-s", f"{width + width % 2}x{height + height % 2}", "-r", f"{fps:g}", "-i", "-"]
    command += ["-c:v", "libx264", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path)]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages)
        assert process.stdin is not None
        try:
            process.stdin.write(_even(first))
            for array in others:
                process.stdin.write(_even(array))
            process.stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:
            process.kill()
            process.wait()
        if failed:
            messages.seek(0)
            said = messages.read().decode(errors="replace").strip().splitlines()
            raise UserError(f"{path.name}: ffmpeg could not write the film" + (f": {said[-1]}" if said else ""))


def _even(array: np.ndarray) -> bytes:
    height, width = array.shape[:2]
    return np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").tobytes()
