"""The values that stages hand to each other. All are frozen and check their own shapes.

Conventions, everywhere: OpenCV axes (x right, y down, z forward), `c2w`/`w2c` 4x4, `K` in pixels of the image
beside it, pixel centres at +0.5, images float32 sRGB in [0, 1], quaternions wxyz, depth = z in camera axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sparse3d.geometry import invert_rigid, resize_image, resize_map, resize_mask
from sparse3d.shapes import check_shapes


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras in OpenCV axes: x right, y down, z forward; a pixel's centre is at +0.5."""

    c2w: Tensor  # (V, 4, 4) camera to world, world units
    K: Tensor  # (V, 3, 3) intrinsics in pixels of a height x width image
    height: int
    width: int

    def __post_init__(self) -> None:
        check_shapes(c2w=(self.c2w, "V 4 4"), K=(self.K, "V 3 3"))

    def __len__(self) -> int:
        return self.c2w.shape[0]

    @cached_property
    def w2c(self) -> Tensor:
        """World to camera. (V, 4, 4)"""
        return invert_rigid(self.c2w)

    def scaled_to(self, height: int, width: int) -> Cameras:
        """The same cameras with images of another size; `K` is rescaled with them."""
        scale = torch.tensor([width / self.width, height / self.height, 1.0], dtype=self.K.dtype, device=self.K.device)
        return Cameras(self.c2w, self.K * scale[:, None], height, width)


@dataclass(frozen=True)
class Photo:
    """One photo as it was taken: upright, lens distortion still in it."""

    name: str  # unique in its set; the file's name, or its path below the folder
    image: Tensor  # (3, H, W) float32, sRGB in [0, 1]
    K: Tensor  # (3, 3) first guess of the intrinsics, pixels of `image`
    intrinsics: Literal["default", "exif", "given"]  # of K: a guess, the focal length is EXIF's, or all of it is known
    sha256: str  # of the file's bytes, hexadecimal
    mask: Tensor | None = None  # (H, W) bool, True where the photo counts (its alpha channel)
    path: Path | None = None  # the file, for messages
    camera: str = ""  # make and model by EXIF
    original: tuple[int, int] | None = None  # height and width of the file, upright; None: those of `image`

    def __post_init__(self) -> None:
        check_shapes(image=(self.image, "3 H W"), K=(self.K, "3 3"))
        if self.mask is not None:
            check_shapes(image=(self.image, "3 H W"), mask=(self.mask, "H W"))

    @property
    def full_size(self) -> tuple[int, int]:
        """Height and width of the file, upright, before it was made smaller: the pixels that other programs count in."""
        return self.original or (self.image.shape[1], self.image.shape[2])


@dataclass(frozen=True)
class View:
    """One undistorted picture with its camera; photographed, or drawn by a prior."""

    name: str
    image: Tensor  # (3, H, W) float32, sRGB in [0, 1]
    K: Tensor  # (3, 3) pixels of `image`
    c2w: Tensor  # (4, 4) camera to world, world units
    mask: Tensor | None = None  # (H, W) bool, True where the picture counts
    generated: bool = False  # True when a prior drew it
    confidence: Tensor | None = None  # (H, W) float32 in [0, 1], how far each pixel counts; None: fully

    def __post_init__(self) -> None:
        check_shapes(image=(self.image, "3 H W"), K=(self.K, "3 3"), c2w=(self.c2w, "4 4"))
        for name in ("mask", "confidence"):
            if (value := getattr(self, name)) is not None:
                check_shapes(image=(self.image, "3 H W"), **{name: (value, "H W")})

    @property
    def height(self) -> int:
        """Pixels."""
        return self.image.shape[1]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.image.shape[2]

    def resized(self, height: int, width: int) -> View:
        """This view at another size, its mask, its confidence and `K` with it."""
        image, K = resize_image(self.image, self.K, height, width)
        mask = None if self.mask is None else resize_mask(self.mask, height, width)
        confidence = None if self.confidence is None else resize_map(self.confidence, height, width)
        return replace(self, image=image, K=K, mask=mask, confidence=confidence)

    @cached_property
    def cameras(self) -> Cameras:
        """This view's camera as a batch of one."""
        return Cameras(self.c2w[None], self.K[None], self.height, self.width)


@dataclass(frozen=True)
class Points:
    """Sparse points of structure from motion, with the views that see each of them."""

    xyz: Tensor  # (P, 3) float32, world units
    rgb: Tensor  # (P, 3) float32, [0, 1]
    error_px: Tensor  # (P,) float32, mean reprojection error
    tracks: tuple[tuple[str, ...], ...]  # names of the views that see each point, P of them

    def __post_init__(self) -> None:
        sizes = check_shapes(xyz=(self.xyz, "P 3"), rgb=(self.rgb, "P 3"), error_px=(self.error_px, "P"))
        if len(self.tracks) != sizes["P"]:
            raise ValueError(
                f"{len(self.tracks)} tracks for {sizes['P']} points; give one tuple of view names for each point"
            )

    def __len__(self) -> int:
        return self.xyz.shape[0]

    @staticmethod
    def none() -> Points:
        """No points at all: cameras were known and nothing was triangulated."""
        return Points(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0), ())

    def within(self, max_error_px: float) -> Points:
        """The points whose mean reprojection error is at most this."""
        index = torch.nonzero(self.error_px <= max_error_px)[:, 0]
        tracks = tuple(self.tracks[i] for i in index.tolist())
        return Points(self.xyz[index], self.rgb[index], self.error_px[index], tracks)

    def seen_by(self, names: Sequence[str], at_least: int = 1) -> Points:
        """The points that at least so many of the named views see, their tracks cut to those views.

        This is what keeps a held-out view from leaking: a point that only test views see is dropped.
        """
        wanted = set(names)
        tracks = [tuple(name for name in track if name in wanted) for track in self.tracks]
        keep = [i for i, track in enumerate(tracks) if len(track) >= at_least]
        index = torch.tensor(keep, dtype=torch.long)
        return Points(self.xyz[index], self.rgb[index], self.error_px[index], tuple(tracks[i] for i in keep))


@dataclass(frozen=True)
class PosedViews:
    """Undistorted views in one world frame, and the sparse points that hold them together."""

    views: tuple[View, ...]
    points: Points

    def __post_init__(self) -> None:
        names = [view.name for view in self.views]
        if len(set(names)) != len(names):
            raise ValueError(f"view names are not unique: {sorted({n for n in names if names.count(n) > 1})}")

    @property
    def names(self) -> list[str]:
        """Names of the views, in order."""
        return [view.name for view in self.views]

    def only(self, names: Sequence[str]) -> PosedViews:
        """These views alone, and the points that two of them see: a point needs two views to be one."""
        wanted = set(names)
        return PosedViews(
            tuple(view for view in self.views if view.name in wanted), self.points.seen_by(names, at_least=2)
        )


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians as the optimizer holds them: scales and opacities before their activation."""

    means: Tensor  # (N, 3) world units
    quats: Tensor  # (N, 4) wxyz, normalized where used
    log_scales: Tensor  # (N, 3) natural log of standard deviations in world units
    logit_opacities: Tensor  # (N,)
    sh: Tensor  # (N, (degree + 1)^2, 3) spherical harmonics, degree 0 first

    def __post_init__(self) -> None:
        check_shapes(
            means=(self.means, "N 3"),
            quats=(self.quats, "N 4"),
            log_scales=(self.log_scales, "N 3"),
            logit_opacities=(self.logit_opacities, "N"),
            sh=(self.sh, "N C 3"),
        )
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(
                f"sh has {self.sh.shape[1]} coefficients per channel, needed 1, 4, 9 or 16 (degree 0 to 3)"
            )

    def __len__(self) -> int:
        return self.means.shape[0]

    def __getitem__(self, keep: Tensor) -> Gaussians:
        """Those that an index or a mask keeps."""
        return Gaussians(*(value[keep] for value in self.values()))

    def to(self, device: torch.device) -> Gaussians:
        """The same on a device."""
        return Gaussians(*(value.to(device) for value in self.values()))

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Means, quats, log scales, logit opacities and sh."""
        return self.means, self.quats, self.log_scales, self.logit_opacities, self.sh

    @staticmethod
    def joined(parts: Sequence[Gaussians]) -> Gaussians:
        """All of them in order, with the spherical harmonics of the highest degree among them; none for no parts."""
        if not parts:
            return Gaussians(
                torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3)
            )
        most = max(part.sh.shape[1] for part in parts)
        same = [torch.nn.functional.pad(part.sh, (0, 0, 0, most - part.sh.shape[1])) for part in parts]
        means, quats, log_scales, opacities = zip(*(part.values()[:4] for part in parts), strict=True)
        return Gaussians(
            torch.cat(means), torch.cat(quats), torch.cat(log_scales), torch.cat(opacities), torch.cat(same)
        )

    @property
    def scales(self) -> Tensor:
        """Standard deviations. (N, 3), world units"""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """(N,), in [0, 1]"""
        return self.logit_opacities.sigmoid()

    @property
    def sh_degree(self) -> int:
        """0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]


@dataclass(frozen=True)
class Rendering:
    """What a rasterizer draws for V cameras."""

    image: Tensor  # (V, 3, H, W) sRGB; in [0, 1] but for the ringing of spherical harmonics
    alpha: Tensor  # (V, H, W) in [0, 1], 1 - transmittance
    depth: Tensor  # (V, H, W) expected depth of what was hit, world units; 0 where alpha is 0
    median_depth: Tensor  # (V, H, W) depth where the transmittance falls below a half; 0 where it does not

    def __post_init__(self) -> None:
        check_shapes(
            image=(self.image, "V 3 H W"),
            alpha=(self.alpha, "V H W"),
            depth=(self.depth, "V H W"),
            median_depth=(self.median_depth, "V H W"),
        )
