"""A finished scene in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse3d.errors import UserError
from sparse3d.io.images import read_depth
from sparse3d.io.ply import read_gaussians
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import file_names, load_refined, load_views
from sparse3d.lift.path import rings
from sparse3d.render import Look
from sparse3d.types import Gaussians, PosedViews


@dataclass(frozen=True)
class Scene:
    """What a scene folder holds."""

    folder: SceneFolder
    gaussians: Gaussians
    posed: PosedViews
    depths: dict[str, Tensor]  # by view name, (H, W) world units, 0 where unknown
    look: Look  # how it is drawn
    refined: bool  # its cameras were refined with the Gaussians

    def viewpoints(self) -> Tensor:
        """From where the scene is meant to be seen: the photographed cameras; of a single photo those around it, as far as it may be left. (V, 4, 4)"""
        lift = self.folder.facts("02_init").get("lift")
        if lift is not None:
            return rings(self.posed.views[0], lift["distance"], lift["radius"], 4, used=1)
        return torch.stack([view.c2w for view in self.posed.views if not view.generated])


def load_scene(path: Path) -> Scene:
    """Reads a scene folder.

    Raises:
        UserError: no scene there, or one that is not finished.
    """
    folder = SceneFolder.open(path)
    if not (path / "scene.ply").is_file() or folder.manifest().get("published") != folder.keys():
        raise UserError(
            f"{path} is not finished: an earlier run was stopped, or one is at work. Run the same `sparse3d recon` again; it goes on where it stopped"
        )
    shown = folder.manifest().get("shown", "04_optimize")
    posed = load_refined(folder.stage_path(shown), load_views(folder.stage_path("01_pose")))
    depths = {}
    for name, stem in file_names(posed.names).items():
        file = path / "depth" / f"{stem}.png"
        if file.is_file():
            depths[name] = read_depth(file)
    facts = folder.facts(shown)
    gaussians = read_gaussians(path / "scene.ply")
    return Scene(folder, gaussians, posed, depths, Look(**facts["look"]), facts.get("cameras") is not None)
