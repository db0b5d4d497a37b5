"""OpenUSD files with UsdVol's ParticleField3DGaussianSplat, by usd-core."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparse3d.errors import UserError, require
from sparse3d.io._atomic import replacing
from sparse3d.io.splats.packing import arrays
from sparse3d.types import Gaussians


def write_usd(path: Path, gaussians: Gaussians, up: str) -> None:
    """Writes one splat prim as float32: positions, standard deviations, orientations, opacities and spherical harmonics.

    Args:
        path: Ends in .usd, .usdc or .usda.
        up: The axis that points up in the Gaussians' axes; USD knows y and z.

    Raises:
        UserError: usd-core is missing or too old, another axis, or another suffix.
    """
    if up not in ("y", "z"):
        raise UserError(f"USD scenes have y or z up, not {up}; pass --up y or --up z")
    if path.suffix.lower() not in (".usd", ".usdc", ".usda"):
        raise UserError(f"{path.name}: USD files end in .usd, .usdc or .usda")
    require("pxr", extra="usd", purpose="writing USD files")
    from pxr import Gf, Usd, UsdGeom, UsdVol, Vt

    if not hasattr(UsdVol, "ParticleField3DGaussianSplat"):
        raise UserError("writing Gaussians needs USD of 2026 or newer. Update it with: pip install -U usd-core")
    means, quats, log_scales, _, sh = (value.astype(np.float32) for value in arrays(gaussians))
    quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
    with replacing(path) as temporary:
        stage = Usd.Stage.CreateNew(str(temporary))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y if up == "y" else UsdGeom.Tokens.z)
        splats = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/gaussians")
        stage.SetDefaultPrim(splats.GetPrim())
        splats.CreatePositionsAttr(Vt.Vec3fArray.FromNumpy(means))
        splats.CreateScalesAttr(Vt.Vec3fArray.FromNumpy(np.exp(log_scales)))
        splats.CreateOrientationsAttr(Vt.QuatfArray([Gf.Quatf(*map(float, q)) for q in quats]))  # real part first
        splats.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(gaussians.opacities.detach().cpu().float().numpy()))
        splats.CreateRadianceSphericalHarmonicsDegreeAttr(gaussians.sh_degree)
        splats.CreateRadianceSphericalHarmonicsCoefficientsAttr(Vt.Vec3fArray.FromNumpy(sh.reshape(-1, 3)))
        reach = 3 * np.exp(log_scales).max(axis=1, keepdims=True)
        splats.CreateExtentAttr([Gf.Vec3f(*map(float, v)) for v in ((means - reach).min(0), (means + reach).max(0))])
        stage.GetRootLayer().Save()
