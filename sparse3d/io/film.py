"""Films: H.264 in MP4, encoded by the ffmpeg program that imageio-ffmpeg brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.errors import UserError, require
from sparse3d.io._atomic import replacing

# nearly without loss; the colours of sRGB as players of HD films expect them; playable while it still loads
_OUTPUT = [
    "-crf",
    "16",
    "-vf",
    "scale=out_color_matrix=bt709:out_range=tv",
    "-colorspace",
    "bt709",
    "-color_primaries",
    "bt709",
]
_OUTPUT += ["-color_trc", "iec61966-2-1", "-movflags", "+faststart"]


def write_film(frames: Iterable[Tensor], path: Path, fps: float) -> None:
    """Writes pictures as an MP4 that browsers and phones play (H.264, 4:2:0), whole or not at all.

    Args:
        frames: (3, H, W) sRGB in [0, 1], all of one size, at least one; taken one at a time. An odd row or column is
            doubled, since 4:2:0 needs even sizes.
        path: Ends in .mp4.
        fps: Frames in a second, above 0.

    Raises:
        UserError: imageio-ffmpeg is missing, there is no frame, or ffmpeg fails.
        ValueError: fps is not above 0.
    """
    if not fps > 0:
        raise ValueError(f"a film plays at {fps} frames a second, needed more than 0")
    ffmpeg = require("imageio_ffmpeg", extra="video", purpose="writing a film")
    with replacing(path) as temporary:
        writer = None
        try:
            for frame in frames:
                if writer is None:
                    height, width = frame.shape[1] + frame.shape[1] % 2, frame.shape[2] + frame.shape[2] % 2
                    writer = ffmpeg.write_frames(
                        str(temporary), (width, height), fps=fps, codec="libx264", quality=None, macro_block_size=2,
                        output_params=_OUTPUT,
                    )  # fmt: skip
                    writer.send(None)
                grown = F.pad(frame[None], (0, width - frame.shape[2], 0, height - frame.shape[1]), mode="replicate")[0]
                pixels = (grown.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1)
                writer.send(pixels.cpu().contiguous().numpy().tobytes())
        except OSError as error:
            raise UserError(f"{path}: ffmpeg failed: {error}") from error
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise UserError(f"{path}: a film needs at least one picture")
