"""What priors are asked in tests."""

from __future__ import annotations

import torch

from sparse3d.priors.base import ViewQuery
from sparse3d.types import Cameras


def question(frames: int = 5, size: int = 32) -> ViewQuery:
    """The first frame is a photo, of the others a square in the middle is not trusted."""
    generator = torch.Generator().manual_seed(1)
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = torch.arange(frames)
    K = torch.tensor([[30.0, 0, size / 2], [0, 30, size / 2], [0, 0, 1]]).expand(frames, 3, 3)
    conf = torch.full((frames, 1, size, size), 0.95)
    conf[0] = 1
    conf[1:, :, 14:18, 14:18] = 0.3
    return ViewQuery(
        cond_rgb=torch.rand(2, 3, size, size, generator=generator),
        cond_cams=Cameras(c2w[:2], K[:2], size, size),
        target_cams=Cameras(c2w, K, size, size),
        render_rgb=torch.rand(frames, 3, size, size, generator=generator),
        render_conf=conf,
        seed=3,
    )
