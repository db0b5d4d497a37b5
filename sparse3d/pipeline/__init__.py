"""From photos to a scene folder, whole or stage by stage."""

from sparse3d.pipeline.densify_stage import densify_scene
from sparse3d.pipeline.hallucinate import hallucinate
from sparse3d.pipeline.init_stage import find_gaussians
from sparse3d.pipeline.pose_stage import find_poses, pose_report
from sparse3d.pipeline.run import Result, held_out, recon

__all__ = ["Result", "densify_scene", "find_gaussians", "find_poses", "hallucinate", "held_out", "pose_report", "recon"]
