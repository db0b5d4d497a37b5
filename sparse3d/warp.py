"""Views with depth, drawn from another camera: what densification starts from and pseudo-view losses compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparse3d.kernels import cpu, cpu_warp, warp
from sparse3d.kernels.warp import Warp
from sparse3d.shapes import check_shapes
from sparse3d.types import Cameras, View


def warp_views(
    views: Sequence[View],
    depths: Sequence[Tensor],
    camera: Cameras,
    *,
    near_plane: float = 0.01,
    steepest_deg: float = 85.0,
    tolerance: float = 0.02,
) -> Warp:
    """What views with depth show of the picture that another camera would take.

    Surfaces are drawn without holes where they are stretched and without rubber sheets where new background would come
    into sight; views that agree are blended. `sparse3d.kernels.warp.forward_warp` says how. It runs compiled where the
    tensors are float32 on the CPU, and in PyTorch on their device otherwise; without gradients in both.

    Args:
        views: V views; pixels that a mask leaves out are not drawn.
        depths: V of (Hs, Ws), each as large as its view, world units; what is not above 0 and finite is unknown.
        camera: One camera.
        near_plane: What is nearer to the camera is left out. World units, above 0.
        steepest_deg: Surfaces steeper than this against their view may be torn, in (0, 90).
        tolerance: Relative difference of depth up to which views show the same surface, above 0.

    Returns:
        Colour (3, H, W); depth (H, W), world units; validity (H, W) in [0, 1]: 0 where nothing is known, below 1 at
        edges and where a pixel of a view is stretched over more than one of the picture. All are 0 where validity is.

    Raises:
        ValueError: not one camera, no view, or an argument of another shape, type or device than the others.
    """
    if len(camera) != 1:
        raise ValueError(f"camera holds {len(camera)} cameras, needed 1; call once for each")
    if len(depths) != len(views):
        raise ValueError(f"depths holds {len(depths)} maps for {len(views)} views; give one for each")
    known = []
    for index, (view, depth) in enumerate(zip(views, depths, strict=True)):
        name = f"depths[{index}]"
        check_shapes(**{f"the image of view {view.name!r}": (view.image, "3 H W"), name: (depth, "H W")})
        known.append(depth if view.mask is None else torch.where(view.mask, depth, torch.zeros_like(depth)))
    if not views:
        raise ValueError("views is empty, needed at least one view to warp")
    K = camera.K[0]
    return _kernel(K)(
        [view.image for view in views],
        known,
        torch.stack([view.K for view in views]),
        torch.stack([camera.w2c[0] @ view.c2w for view in views]),
        K,
        camera.height,
        camera.width,
        near_plane=near_plane,
        steepest_deg=steepest_deg,
        tolerance=tolerance,
    )


def _kernel(K: Tensor) -> Callable[..., Warp]:
    """The compiled warp where it runs, or its PyTorch form: same arguments, same meaning."""
    compiled = K.dtype == torch.float32 and K.device.type == "cpu" and cpu.available()
    return cpu_warp.forward_warp if compiled else warp.forward_warp
