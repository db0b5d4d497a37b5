"""Camera conventions of other programs, written from their documentation: points in, pixels out. For tests only."""

from __future__ import annotations

import numpy as np

from sparse3d.io.lens import KnownCamera

Array = np.ndarray


def rotation(seed: int) -> Array:
    """A random rotation. (3, 3)"""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def points_before(right: Array, down: Array, forward: Array, center: Array, fov: float = 0.5, count: int = 50) -> Array:
    """World points that a camera with these axes sees, at depths 2 to 9. (N, 3)"""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-fov, fov, (2, count))
    depth = rng.uniform(2, 9, (count, 1))
    return center + depth * (x[:, None] * right + y[:, None] * down + forward)


def seen_by(camera: KnownCamera, world: Array) -> Array:
    """Pixels of world points by our reading of a camera and COLMAP's projection. (N, 2)"""
    c2w = camera.c2w.numpy()
    local = (world - c2w[:3, 3]) @ c2w[:3, :3]
    return camera.lens.camera().img_from_cam(local)


def brown(x: Array, y: Array, k: tuple[float, ...], one: float, two: float) -> tuple[Array, Array]:
    """x' = x (1 + k1 r^2 + ...) + one (r^2 + 2 x^2) + 2 two xy, and y' with one and two in each other's place."""
    r2 = x * x + y * y
    radial = 1 + sum(kn * r2 ** (n + 1) for n, kn in enumerate(k))
    return x * radial + one * (r2 + 2 * x * x) + 2 * two * x * y, y * radial + two * (r2 + 2 * y * y) + 2 * one * x * y


def equidistant(x: Array, y: Array) -> tuple[Array, Array]:
    """The plane z = 1 as an equidistant fisheye has it."""
    r = np.hypot(x, y)
    return x * np.arctan(r) / r, y * np.arctan(r) / r
