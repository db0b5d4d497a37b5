"""Scenes for the viewer: a ball of Gaussians whose colours depend on where one looks from, and cameras around it."""

from __future__ import annotations

import math

import torch

from sparse3d.paths import look_at
from sparse3d.render import Look
from sparse3d.types import Gaussians, Points, PosedViews, View

LOOK = Look((0.2, 0.3, 0.4), False, 0.05)
HEIGHT, WIDTH = 320, 480  # of the page, so that the canvas has a view's shape


def ball(count: int, sh_degree: int, seed: int = 0) -> Gaussians:
    """Gaussians on a sphere of radius 1 about (1, 2, 3), coloured by place, with strong view dependence above degree 0."""
    random = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=1)
    sh = torch.zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = normals * 0.9
    sh[:, 1:] = 0.4 * (2 * torch.randint(0, 2, (1, (sh_degree + 1) ** 2 - 1, 3), generator=random) - 1)
    return Gaussians(
        means=normals + torch.tensor([1.0, 2.0, 3.0]),
        quats=torch.randn(count, 4, generator=random),
        log_scales=torch.full((count, 3), math.log(1.5 / math.sqrt(count)))
        + 0.4 * torch.randn(count, 3, generator=random),
        logit_opacities=torch.randn(count, generator=random) + 1,
        sh=sh,
    )


def around(views: int = 4, drawn: int = 1) -> PosedViews:
    """Cameras at distance 3 around the ball, the last `drawn` of them generated; each has a picture in one colour of its own."""
    centre = torch.tensor([1.0, 2.0, 3.0])
    K = torch.tensor([[300.0, 0, WIDTH / 2], [0, 300.0, HEIGHT / 2], [0, 0, 1]])
    made = []
    for index in range(views):
        angle = 2 * math.pi * index / views
        offset = torch.tensor([3 * math.sin(angle), -0.6, -3 * math.cos(angle)])
        colour = torch.tensor([0.9, 0.2, 0.1]).roll(index)
        image = colour[:, None, None].expand(3, HEIGHT // 4, WIDTH // 4).clone()
        c2w = look_at(centre + offset, centre, torch.tensor([0.0, -1.0, 0.0]))
        small = K * torch.tensor([0.25, 0.25, 1.0])[:, None]
        made.append(View(f"view_{index}.jpg", image, small, c2w, generated=index >= views - drawn))
    random = torch.Generator().manual_seed(1)
    xyz = torch.nn.functional.normalize(torch.randn(40, 3, generator=random), dim=1) + centre
    return PosedViews(
        tuple(made), Points(xyz, torch.rand(40, 3, generator=random), torch.zeros(40), (("view_0.jpg",),) * 40)
    )
