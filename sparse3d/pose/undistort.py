"""Photos with lens distortion become pinhole pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import pixel_rays
from sparse3d.io.lens import Lens
from sparse3d.shapes import check_shapes

_ZOOM = (0.5, 2.0)  # limits of the change of focal length; beyond them a border stays blank, and the mask says so


def undistorted_K(model: str, params: Sequence[float], height: int, width: int) -> Tensor:
    """Intrinsics of a pinhole picture of the same size that is filled to its border.

    As COLMAP's undistorter with blank_pixels = 0: the photo's border, taken through the inverse of the lens, leaves
    a rectangle that is all inside the photo, and the picture has to fit into it. Other than there, the picture keeps
    its size and principal point and is zoomed by one factor (0.5 to 2), so that pixels keep their shape.

    Args:
        model, params: COLMAP's name of the camera model and its parameters, pixels of the height x width photo.

    Returns:
        (3, 3) float32, pixels. Without distortion, the model's own.
    """
    lens = Lens(model, tuple(params), height, width)
    K = lens.K.clone()
    if not lens.is_distorted:
        return K
    xs, ys = np.linspace(0, width, 65), np.linspace(0, height, 65)
    sides = {
        "left": np.stack([0 * ys, ys], 1),
        "right": np.stack([0 * ys + width, ys], 1),
        "top": np.stack([xs, 0 * xs], 1),
        "bottom": np.stack([xs, 0 * xs + height], 1),
    }
    camera = lens.camera()
    rays = {side: camera.cam_from_img(pixels) for side, pixels in sides.items()}  # on the plane z = 1
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    # each side of the picture, at (0 - cx) / (zoom fx) and so on, has to lie inside the innermost ray of that side
    reach = {
        "left": (cx / fx, -rays["left"][:, 0].max()),
        "right": ((width - cx) / fx, rays["right"][:, 0].min()),
        "top": (cy / fy, -rays["top"][:, 1].max()),
        "bottom": ((height - cy) / fy, rays["bottom"][:, 1].min()),
    }
    # a ray that the model cannot invert is nan, one beyond 90 degrees has the wrong sign: neither bounds the zoom
    zooms = [needed / available for needed, available in reach.values() if np.isfinite(available) and available > 0]
    zoom = min(max(max(zooms, default=1.0), _ZOOM[0]), _ZOOM[1])
    K[0, 0] *= zoom
    K[1, 1] *= zoom
    return K


def undistort(
    image: Tensor, mask: Tensor | None, model: str, params: Sequence[float], K_out: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A photo with lens distortion as the pinhole picture of `K_out`, of the same size, sampled bicubically.

    Args:
        image: (3, H, W) sRGB in [0, 1].
        mask: (H, W) bool, True where the photo counts, or None.
        model, params: COLMAP's name of the camera model and its parameters, pixels of `image`.
        K_out: (3, 3) pixels, as of `undistorted_K`.

    Returns:
        The picture (3, H, W), and its mask (H, W): False where the mask was, or where the photo does not reach; None
        when there was no mask and the photo reaches everywhere. Without distortion and with the model's own K, the
        arguments themselves.

    Raises:
        ValueError: wrong shapes, or parameters that do not fit the model.
    """
    sizes = check_shapes(image=(image, "3 H W"), K_out=(K_out, "3 3"))
    if mask is not None:
        check_shapes(image=(image, "3 H W"), mask=(mask, "H W"))
    height, width = sizes["H"], sizes["W"]
    lens = Lens(model, tuple(params), height, width)
    if not lens.is_distorted and torch.equal(lens.K, K_out.float().cpu()):
        return image, mask
    rays = pixel_rays(K_out.double().cpu(), height, width).reshape(-1, 3)
    pixels = torch.from_numpy(lens.camera().img_from_cam(rays.numpy())).reshape(height, width, 2)
    size = torch.tensor([width, height], dtype=torch.float64)
    inside = ((pixels >= 0) & (pixels <= size)).all(dim=-1)  # nan, for rays the lens cannot see, is not inside
    grid = (2 * pixels / size - 1).nan_to_num(2.0, 2.0, -2.0).to(image)[None]
    picture = F.grid_sample(image[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    picture = picture.clamp(0, 1)  # bicubic interpolation rings
    inside = inside.to(image.device)
    if mask is not None:
        share = F.grid_sample(mask.to(image)[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
        return picture, (share > 0.5) & inside
    return picture, None if inside.all() else inside
