"""How far two sets of the same Gaussians are apart."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from sparse3d.io.splats.packing import morton_order
from sparse3d.types import Gaussians


def in_file_order(name: str, gaussians: Gaussians) -> Gaussians:
    """As a format has them: compressed PLY and SOG put neighbours together."""
    if name not in ("compressed-ply", "sog"):
        return gaussians
    return gaussians[torch.from_numpy(morton_order(gaussians.means.double().numpy()))]


def worst(got: Gaussians, want: Gaussians) -> dict[str, float]:
    """Largest difference by field, in the same order of Gaussians: world units, degrees, log, opacity, coefficients."""
    a, b = (F.normalize(g.quats.double(), dim=1) for g in (got, want))
    w, x, y, z = b.unbind(1)
    # a half turn about an axis of its own leaves a Gaussian as it is: b, b i, b j, b k
    same = [b, torch.stack([-x, w, z, -y], 1), torch.stack([-y, -z, w, x], 1), torch.stack([-z, y, -x, w], 1)]
    chord = torch.stack([(a - sign * q).norm(dim=1) for q in same for sign in (1, -1)]).amin(dim=0)
    degrees = 4 * torch.asin((chord / 2).clamp(max=1)).rad2deg()
    rest = got.sh[:, 1:] - want.sh[:, 1 : got.sh.shape[1]]
    values = {
        "position": got.means - want.means,
        "angle": degrees,
        "log scale": got.log_scales - want.log_scales,
        "opacity": got.opacities - want.opacities,
        "color": got.sh[:, 0] - want.sh[:, 0],
        "sh": rest,
    }
    return {name: float(np.abs(value.numpy()).max(initial=0)) for name, value in values.items()}
