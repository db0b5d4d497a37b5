"""The surface of a photo with depth as triangles in the pixels of another camera, in PyTorch: what warp.py draws.

Pixel centres are the vertices, and neighbours are joined unless the surface between them would be a rubber sheet. Four
pixels that are joined all around make two triangles. Along tears, unknown depth and the photo's border each pixel
reaches half a pixel further, as far as its own square goes, and there its coverage falls from 1 to 0: a fringe. A pixel
that is joined to none is all fringe, a small square. Nothing overlaps and nothing is left open on a joined surface.

Positions are held in whole 1/SNAP pixels, as graphics hardware does, so that the side on which a pixel's centre lies is
decided without rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SNAP = 1024  # steps of a pixel
FARTHEST_PX = 2.0**20  # vertices farther out are left out: they lie almost in the target camera's plane
FARTHEST = 1e30  # world units; vertices at larger depths are left out: their inverse is no normal float32
OPENED_PX = 2.0  # neighbours that come to lie within this are never torn apart

# The four pixels around a corner, clockwise: above left, above right, below right, below left; (column, row) from each
# to the next one and to the one before it.
_NEXT = ((1, 0), (0, 1), (-1, 0), (0, -1))
_BEFORE = ((0, 1), (-1, 0), (0, -1), (1, 0))


class Vertices(NamedTuple):
    """N points of a surface."""

    uv: Tensor  # (N, 2) pixels of the photo
    xy: Tensor  # (N, 2) int64, 1/SNAP pixels of the target
    weight: Tensor  # (N,) photo's depth / target's depth, by which attributes are weighted for perspective
    inverse_depth: Tensor  # (N,) 1 / depth in the target
    color: Tensor  # (N, 3)
    coverage: Tensor  # (N,) 1 at pixel centres, 0 at the outer side of a fringe
    valid: Tensor  # (N,) bool: depth known, in front of the target camera


class Surface(NamedTuple):
    """T triangles of N vertices."""

    vertices: Vertices
    triangles: Tensor  # (T, 3) int64, clockwise on the photo
    # (T, 3) a - b - c + d of the colours of a quad that the diagonal from vertex 0, a, to d cuts: it makes their
    # interpolation bilinear. 0 on fringes.
    twist: Tensor
    diagonal: Tensor  # (T,) int64, 1 or 2: which vertex d is
    stretch: Tensor  # (T,) target pixels that a photo's pixel is pulled over in the direction where it is most


class _Camera(NamedTuple):
    """The target as a photo's pixels see it: homogeneous pixels turn (u, v, 1) + shift / depth."""

    turn: Tensor
    shift: Tensor
    near_plane: float

    def see(self, uv: Tensor, disparity: Tensor, color: Tensor, coverage: float) -> Vertices:
        """Vertices at photo's pixels uv (N, 2) of 1/depth `disparity` (N,), 0 where unknown."""
        seen = F.pad(uv, (0, 1), value=1.0) @ self.turn.T + disparity[:, None] * self.shift
        z = seen[:, 2]
        valid = (disparity > 0) & (z > 0) & (z > self.near_plane * disparity)
        z = torch.where(valid, z, torch.ones_like(z))
        pixels = seen[:, :2] / z[:, None]
        valid = valid & (pixels.abs() < FARTHEST_PX).all(dim=1) & (disparity / z > 1 / FARTHEST)
        pixels = torch.where(valid[:, None], pixels, torch.zeros_like(pixels))
        xy = torch.floor(pixels * SNAP + 0.5).to(torch.int64)
        return Vertices(uv, xy, 1 / z, disparity / z, color, torch.full_like(z, coverage), valid)


def surface(
    image: Tensor, depth: Tensor, K: Tensor, turn: Tensor, shift: Tensor, near_plane: float, steepest_deg: float
) -> Surface:
    """Triangles of one photo in the target's pixels.

    Two neighbours are torn apart where the surface between them would be steeper than `steepest_deg` and they come to
    lie more than OPENED_PX apart in the target. The first alone would tear noise of distant surfaces, which parallax
    hardly moves; the second alone would tear what is enlarged. So a sheet that remains at an edge is stretched over at
    most OPENED_PX, or over tan(steepest_deg) times the baseline by the depth.

    Args:
        image: (3, H, W)
        depth: (H, W) world units; what is not above 0 and finite is unknown.
        K: (3, 3) of the photo.
        turn, shift: (3, 3) and (3,), `plane_transfer` from photo to target.
        near_plane: Vertices at or before this depth in the target are left out, and triangles with them: clipping
            those would save parts of single pixels. World units.
        steepest_deg: Its tangent is the change of depth over a pixel by the width of a pixel at that depth.

    Returns:
        Triangles that face the target. The others show the surface from behind, of which the photo has seen nothing.
    """
    height, width = depth.shape
    padded = (height + 2, width + 2)  # one unknown pixel all around
    known = (depth > 0) & depth.isfinite()
    disparity = F.pad(torch.where(known, 1 / depth, torch.zeros_like(depth)), (1, 1, 1, 1)).flatten()
    v, u = torch.meshgrid(*(torch.arange(n, device=depth.device) - 0.5 for n in padded), indexing="ij")
    uv = torch.stack([u, v], dim=-1).reshape(-1, 2).to(depth.dtype)
    camera = _Camera(turn, shift, near_plane)
    pixels = camera.see(uv, disparity, F.pad(image, (1, 1, 1, 1)).flatten(1).T, 1.0)
    disparity = torch.where(pixels.valid, disparity, torch.zeros_like(disparity)).reshape(padded)
    xy = pixels.xy.reshape(*padded, 2)
    limit = math.tan(math.radians(steepest_deg))
    right = _joined(disparity[:, :-1], disparity[:, 1:], xy[:, :-1], xy[:, 1:], K[0, 0], limit)
    down = _joined(disparity[:-1], disparity[1:], xy[:-1], xy[1:], K[1, 1], limit)
    slope = torch.stack([_slope(disparity, right), _slope(disparity.T, down.T).T], dim=-1).reshape(-1, 2)

    index = torch.arange(disparity.numel(), device=depth.device).reshape(padded)
    ring = torch.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]]).flatten(1)  # (4, cells)
    joined = torch.stack([right[:-1], down[:, 1:], right[1:], down[:, :-1]]).flatten(1)  # to the next one
    full = joined.all(dim=0)
    a, b, d, c = ring[:, full]
    quads = torch.cat([torch.stack([a, b, d], dim=1), torch.stack([a, d, c], dim=1)])
    twist = pixels.color[a] - pixels.color[b] - pixels.color[c] + pixels.color[d]
    ragged = ~full & pixels.valid[ring].any(dim=0)
    added, fringe = _fringe(camera, pixels, disparity.flatten(), slope, ring[:, ragged], joined[:, ragged])

    vertices = Vertices(*(torch.cat(pair) for pair in zip(pixels, added, strict=True)))
    triangles = torch.cat([quads, fringe])
    jacobian = _jacobians(vertices, triangles)
    jacobian[: len(quads)] = jacobian[: len(quads)].reshape(2, -1, 2, 2).mean(dim=0).repeat(2, 1, 1)
    which = torch.full((len(triangles),), 2, device=depth.device)
    which[len(a) : len(quads)] = 1
    result = Surface(
        vertices,
        triangles,
        torch.cat([twist, twist, twist.new_zeros(len(fringe), 3)]),
        which,
        _largest_singular_value(jacobian),
    )
    edges = (vertices.xy[triangles[:, 1:]] - vertices.xy[triangles[:, :1]]).unbind(dim=1)
    faces = edges[0][:, 0] * edges[1][:, 1] - edges[0][:, 1] * edges[1][:, 0] > 0
    keep = faces & vertices.valid[triangles].all(dim=1)
    return Surface(vertices, *(values[keep] for values in result[1:]))


def _joined(here: Tensor, there: Tensor, xy: Tensor, other_xy: Tensor, focal: Tensor, limit: float) -> Tensor:
    """Whether neighbours of these disparities, 0 for unknown, are one surface."""
    steep = focal * (here - there).abs() > limit * 0.5 * (here + there)
    opened = ((xy - other_xy) ** 2).sum(dim=-1) > (OPENED_PX * SNAP) ** 2
    return (here > 0) & (there > 0) & ~(steep & opened)


def _slope(disparity: Tensor, joined: Tensor) -> Tensor:
    """Mean step of disparity to the joined neighbours in a row, 0 where there are none. (H, W), (H, W - 1) -> (H, W)"""
    step = torch.where(joined, disparity.diff(dim=1), torch.zeros_like(disparity[:, 1:]))
    count = F.pad(joined.int(), (1, 0)) + F.pad(joined.int(), (0, 1))
    return (F.pad(step, (1, 0)) + F.pad(step, (0, 1))) / count.clamp(min=1)


def _fringe(
    camera: _Camera, pixels: Vertices, disparity: Tensor, slope: Tensor, ring: Tensor, joined: Tensor
) -> tuple[Vertices, Tensor]:
    """Vertices and triangles around corners whose four pixels are not joined all around.

    The pixels that are joined with each other share a vertex at the corner. It fans out to the pixels and, on a torn
    side, to a vertex half a pixel from its pixel; what lies beyond the pixels is extrapolated by their slope.

    Args:
        camera: The target.
        pixels: P vertices at pixel centres.
        disparity: (P,)
        slope: (P, 2) change of disparity per pixel.
        ring: (4, R) the pixels around each corner.
        joined: (4, R) whether each is joined with the next one.

    Returns:
        Vertices, which are counted on from `pixels`, and (T, 3) triangles.
    """
    count = ring.shape[1]
    valid = pixels.valid[ring]

    def beyond(k: int, offset: tuple[float, float]) -> Tensor:
        """Disparity of pixel k of the ring `offset` pixels from its centre."""
        own = disparity[ring[k]]
        value = own + slope[ring[k]] @ slope.new_tensor(offset)
        return torch.minimum(torch.maximum(value, 0.5 * own), 2 * own)

    corners = [(0.5 * (_NEXT[k][0] + _BEFORE[k][0]), 0.5 * (_NEXT[k][1] + _BEFORE[k][1])) for k in range(4)]
    estimates = torch.stack([beyond(k, corners[k]) for k in range(4)])  # (4, R)
    added: list[Vertices] = []
    triangles: list[Tensor] = []

    def add(uv: Tensor, values: Tensor, color: Tensor) -> Tensor:
        added.append(camera.see(uv, values, color, 0.0))
        start = len(pixels.uv) + count * (len(added) - 1)
        return torch.arange(start, start + count, device=ring.device)

    for k in range(4):
        together = _together(joined, k).to(disparity.dtype)  # (4, R)
        share = together / together.sum(dim=0)
        uv, color = pixels.uv[ring[k]], pixels.color[ring[k]]
        disparity_there = (share * estimates).sum(dim=0) * valid[k]
        corner = add(
            uv + uv.new_tensor(corners[k]), disparity_there, (share[..., None] * pixels.color[ring]).sum(dim=0)
        )
        for offset, forward in ((_NEXT[k], True), (_BEFORE[k], False)):
            half = (0.5 * offset[0], 0.5 * offset[1])
            side = add(uv + uv.new_tensor(half), beyond(k, half), color)
            if forward:  # the triangle between two joined pixels is the first one's
                there = torch.where(joined[k], ring[(k + 1) % 4], side)
                triangles.append(torch.stack([corner, ring[k], there], dim=1)[valid[k]])
            else:
                torn = valid[k] & ~joined[(k + 3) % 4]
                triangles.append(torch.stack([corner, side, ring[k]], dim=1)[torn])
    return Vertices(*(torch.cat(values) for values in zip(*added, strict=True))), torch.cat(triangles)


def _together(joined: Tensor, k: int) -> Tensor:
    """Which of the four pixels around a corner are joined with pixel k, directly or by way of others. (4, R) bool"""
    together = torch.zeros_like(joined)
    together[k] = True
    for direction in (1, -1):
        reached = torch.ones_like(joined[0])
        for step in range(1, 4):
            edge = (k + step - 1) % 4 if direction == 1 else (k - step) % 4
            reached = reached & joined[edge]
            together[(k + direction * step) % 4] |= reached
    return together


def _jacobians(vertices: Vertices, triangles: Tensor) -> Tensor:
    """Target pixels per photo's pixel on each triangle. (T, 2, 2)"""
    uv, xy = vertices.uv[triangles], vertices.xy[triangles].to(vertices.uv.dtype) / SNAP
    source, target = (values[:, 1:] - values[:, :1] for values in (uv, xy))  # rows are edges
    (p, q), (r, s) = (edge.unbind(dim=1) for edge in source.unbind(dim=1))
    inverse = (
        torch.stack([torch.stack([s, -q], dim=1), torch.stack([-r, p], dim=1)], dim=1) / (p * s - q * r)[:, None, None]
    )
    return inverse @ target


def _largest_singular_value(matrices: Tensor) -> Tensor:
    """(T, 2, 2) -> (T,)"""
    x, y = matrices.unbind(dim=1)
    xx, yy, xy = (x * x).sum(dim=1), (y * y).sum(dim=1), (x * y).sum(dim=1)
    return torch.sqrt(0.5 * (xx + yy + torch.sqrt((xx - yy) ** 2 + 4 * xy**2)))
