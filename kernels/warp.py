"""Photos with depth, drawn from another camera, in PyTorch on any device: the meaning of cpu_warp.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparse3d.kernels.sweep import plane_transfer
from sparse3d.kernels.warp_surface import SNAP, Surface, surface

LAYERS = 2  # surfaces that are kept of one photo at a pixel: a soft edge, and what is behind it
LARGEST_PX = 16384  # of a side, so that 1/SNAP pixels are exact in float32
_CANDIDATES = 1 << 22  # pairs of triangle and pixel that are tried at once


class Warp(NamedTuple):
    """What photos show of a new view."""

    color: Tensor  # (3, H, W), 0 where validity is 0
    depth: Tensor  # (H, W) world units, 0 where validity is 0
    validity: Tensor  # (H, W) in [0, 1], coverage times sampling


class _Fragments(NamedTuple):
    """At most one surface at each of P pixels; coverage and inverse depth are 0 where there is none."""

    inverse_depth: Tensor  # (P,)
    coverage: Tensor  # (P,)
    sampling: Tensor  # (P,)
    color: Tensor  # (P, 3)


def forward_warp(
    images: Sequence[Tensor],
    depths: Sequence[Tensor],
    Ks: Tensor,
    source_to_target: Tensor,
    K: Tensor,
    height: int,
    width: int,
    *,
    near_plane: float = 0.01,
    steepest_deg: float = 85.0,
    tolerance: float = 0.02,
) -> Warp:
    """Draws the surfaces of V photos with depth from a new camera.

    Each photo is a surface of triangles between its pixels (`warp_surface.surface`), rasterized with perspective; its
    nearest LAYERS at a pixel are kept. At a pixel, a fragment s has a depth z, a colour c, and

        coverage a in [0, 1]: 1 on the surface, falling to 0 over half a photo's pixel at its edges;
        sampling q in (0, 1]: 1 / the target pixels that a photo's pixel is stretched over in the direction where it is
            most (largest singular value of the map's Jacobian), at most 1.

    Another fragment's hiding of it is h_sj = clamp((z_s / z_j - 1) / tolerance - 1, 0, 1): none up to the tolerance and
    all from twice that on, so that photos that disagree a little are blended and no seam flickers. Within one photo the
    farther is wholly behind. What remains visible is blended with weights w_s = a_s q_s^2 prod_j (1 - a_j h_sj):

        colour    sum w c / sum w
        depth     the same over the fragments within 2 tolerances of the heaviest, each times 1 - h between the two, so
                  that it is no mean across an edge
        validity  (1 - prod (1 - a)) * sum w q / sum w

    Colours are sampled at one point, so photos much finer than the target should be resized first. No gradients.

    Args:
        images: V of (3, Hs, Ws), each of its own size. All tensors have the same floating type and device.
        depths: V of (Hs, Ws) world units; what is not above 0 and finite is unknown.
        Ks: (V, 3, 3) of `images`, pixels.
        source_to_target: (V, 4, 4) camera axes of the photos to those of the target.
        K: (3, 3) of the target, pixels.
        height, width: Of the target, at most LARGEST_PX.
        near_plane: What comes to lie at or before this depth in the target is left out. World units, above 0.
        steepest_deg: Surfaces steeper than this are torn where the new view would open them: the tangent is the change
            of depth over a photo's pixel by the width of the pixel at that depth. In (0, 90): lower, and slanted
            surfaces get holes; higher, and rubber sheets hang from edges.
        tolerance: Relative difference of depth up to which photos show the same surface, above 0.

    Returns:
        Colour, depth, validity.

    Raises:
        ValueError: an argument has another shape, type or device than the others, or a number is out of its range.
    """
    check_arguments(images, depths, Ks, source_to_target, K, height, width, near_plane, steepest_deg, tolerance)
    with torch.no_grad():
        fragments: list[_Fragments] = []
        for image, depth, source_K, transform in zip(images, depths, Ks, source_to_target, strict=True):
            turn, shift = plane_transfer(source_K, K, transform)
            triangles = surface(image, depth, source_K, turn, shift, near_plane, steepest_deg)
            fragments += _nearest(triangles, height, width)
        color, depth, validity = _blended(fragments, tolerance)
    return Warp(color.T.reshape(3, height, width), depth.reshape(height, width), validity.reshape(height, width))


def check_arguments(
    images: Sequence[Tensor],
    depths: Sequence[Tensor],
    Ks: Tensor,
    source_to_target: Tensor,
    K: Tensor,
    height: int,
    width: int,
    near_plane: float,
    steepest_deg: float,
    tolerance: float,
) -> None:
    """Holds the arguments of `forward_warp` to what it says about them.

    Raises:
        ValueError: one is not so; the message names it.
    """
    views = len(images)
    if views == 0:
        raise ValueError("images is empty, needed at least one photo to warp")
    if len(depths) != views:
        raise ValueError(f"depths holds {len(depths)} maps for {views} images; give one for each")
    wanted: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("K", K, (3, 3)),
        ("Ks", Ks, (views, 3, 3)),
        ("source_to_target", source_to_target, (views, 4, 4)),
    ]
    for index, (image, depth) in enumerate(zip(images, depths, strict=True)):
        if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            raise ValueError(f"images[{index}] is {tuple(image.shape)}, needed (3, Hs, Ws), none of them 0")
        wanted += [(f"images[{index}]", image, tuple(image.shape)), (f"depths[{index}]", depth, tuple(image.shape[1:]))]
    for name, tensor, shape in wanted:
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, needed {shape}")
        if not tensor.is_floating_point() or tensor.dtype != K.dtype or tensor.device != K.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device} and K is {K.dtype} on {K.device}; "
                "needed one floating type and one device for all. Convert with .to(K)"
            )
    for name, size in (("height", height), ("width", width)):
        if not 1 <= size <= LARGEST_PX:
            raise ValueError(f"{name} is {size}, needed 1 to {LARGEST_PX} pixels")
    if not near_plane > 0:
        raise ValueError(f"near_plane is {near_plane}, needed a distance in front of the camera, above 0")
    if not 0 < steepest_deg < 90:
        raise ValueError(f"steepest_deg is {steepest_deg}, needed an angle between 0 and 90 degrees")
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}, needed a relative difference of depth above 0, as 0.02")


def _nearest(drawn: Surface, height: int, width: int) -> list[_Fragments]:
    """The nearest LAYERS of a surface at every pixel, the nearest first."""
    pixel, triangle, shares = _rasterized(drawn, height, width)
    vertices = drawn.vertices
    at = drawn.triangles[triangle]
    inverse_depth = (shares * vertices.inverse_depth[at]).sum(dim=1)
    shares = shares * vertices.weight[at]
    shares = shares / shares.sum(dim=1, keepdim=True)
    bend = shares[:, 0] * shares.gather(1, drawn.diagonal[triangle][:, None])[:, 0]
    color = (shares[..., None] * vertices.color[at]).sum(dim=1) - bend[:, None] * drawn.twist[triangle]
    found = _Fragments(
        inverse_depth,
        (shares * vertices.coverage[at]).sum(dim=1).clamp(0, 1),
        1 / drawn.stretch[triangle].clamp(min=1),
        color,
    )
    layers = []
    left = torch.ones_like(pixel, dtype=torch.bool)
    for _ in range(LAYERS):
        candidates = left.nonzero()[:, 0]
        best = inverse_depth.new_zeros(height * width)
        best.scatter_reduce_(0, pixel[candidates], inverse_depth[candidates], "amax")
        candidates = candidates[inverse_depth[candidates] == best[pixel[candidates]]]
        winner = torch.full((height * width,), len(pixel), device=pixel.device)
        winner.scatter_reduce_(0, pixel[candidates], candidates, "amin")  # the first of equals
        some = winner < len(pixel)
        layer = [values.new_zeros(height * width, *values.shape[1:]) for values in found]
        for values, source in zip(layer, found, strict=True):
            values[some] = source[winner[some]]
        layers.append(_Fragments(*layer))
        left[winner[some]] = False
    return layers


def _rasterized(drawn: Surface, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels' centres lie in which triangles, each on exactly one of those that share an edge.

    A centre on an edge is taken for one a trifle to its right, and a trifle of that higher.

    Returns:
        (M,) index of the pixel, (M,) index of the triangle, (M, 3) share of each vertex in its position.
    """
    xy = drawn.vertices.xy[drawn.triangles]  # (T, 3, 2)
    size = torch.tensor([width, height], device=xy.device)
    half = SNAP // 2
    low = -((half - xy.amin(dim=1)) // SNAP)  # ceil(x - 1/2)
    low, high = low.clamp(min=0), torch.minimum((xy.amax(dim=1) - half) // SNAP, size - 1)
    extent = (high - low + 1).clamp(min=0)
    count = extent.prod(dim=1)
    used = count.nonzero()[:, 0]
    batch = (count[used].cumsum(0) - 1) // _CANDIDATES
    found = []
    for index in torch.split(used, torch.unique_consecutive(batch, return_counts=True)[1].tolist()):
        triangle = torch.repeat_interleave(index, count[index])
        first = count[index].cumsum(0) - count[index]
        k = torch.arange(len(triangle), device=xy.device) - torch.repeat_interleave(first, count[index])
        across = extent[triangle, 0]
        x, y = low[triangle, 0] + k % across, low[triangle, 1] + k // across
        centre = torch.stack([x, y], dim=1) * SNAP + half
        corners = xy[triangle]
        inside = torch.ones_like(x, dtype=torch.bool)
        areas = []  # twice that of the triangle of an edge and the centre
        for i in range(3):
            start, edge = corners[:, i], corners[:, (i + 1) % 3] - corners[:, i]
            to = centre - start
            area = edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0]
            wins_tie = (edge[:, 1] < 0) | ((edge[:, 1] == 0) & (edge[:, 0] < 0))
            inside &= (area > 0) | ((area == 0) & wins_tie)
            areas.append(area)
        shares = torch.stack([areas[1], areas[2], areas[0]], dim=1)[inside].to(drawn.stretch.dtype)
        found.append(((y * width + x)[inside], triangle[inside], shares / shares.sum(dim=1, keepdim=True)))
    if not found:
        return used, used, drawn.stretch.new_zeros(0, 3)
    pixel, triangle, shares = (torch.cat(values) for values in zip(*found, strict=True))
    return pixel, triangle, shares


def _blended(fragments: list[_Fragments], tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Colour (P, 3), depth and validity (P,) of LAYERS fragments of each photo at P pixels."""
    inverse, coverage, sampling, color = (torch.stack(values) for values in zip(*fragments, strict=True))
    depth = torch.where(coverage > 0, 1 / inverse, torch.zeros_like(inverse))

    def apart(farther: Tensor, nearer: Tensor) -> Tensor:
        """0 at the same depth, 1 where a surface is well behind another."""
        ratio = torch.where(nearer > 0, farther / nearer, torch.ones_like(nearer))
        return ((ratio - 1) / tolerance - 1).clamp(0, 1)

    weights = coverage * sampling**2
    for s in range(len(fragments)):
        for j in range(len(fragments)):
            if s // LAYERS != j // LAYERS:
                weights[s] *= 1 - coverage[j] * apart(depth[s], depth[j])
            elif j < s:
                weights[s] *= 1 - coverage[j]
    total = weights.sum(dim=0)
    some = total > 0
    safe = torch.where(some, total, torch.ones_like(total))
    mean_color = (weights[..., None] * color).sum(dim=0) / safe[:, None]
    heaviest = depth.gather(0, weights.argmax(dim=0)[None])
    near_it = weights * (1 - apart(torch.maximum(depth, heaviest), torch.minimum(depth, heaviest)))
    mean_depth = (near_it * depth).sum(dim=0) / torch.where(some, near_it.sum(dim=0), torch.ones_like(total))
    validity = (1 - (1 - coverage).prod(dim=0)) * (weights * sampling).sum(dim=0) / safe
    return mean_color, mean_depth, validity.clamp(max=1)
