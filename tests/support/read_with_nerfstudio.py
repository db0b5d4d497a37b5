"""Prints what nerfstudio's own dataparser makes of a folder, as JSON. Run by a Python that has nerfstudio 1.1.5."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

# torchvision built for another torch lacks these operators, whose names alone are needed to import it
_library = torch.library.Library("torchvision", "DEF")
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

config = NerfstudioDataParserConfig(
    data=Path(sys.argv[1]),
    orientation_method="none",
    center_method="none",
    auto_scale_poses=False,
    eval_mode="all",
    load_3D_points=True,
)
outputs = config.setup().get_dataparser_outputs(split="train")
cameras = outputs.cameras
print(
    json.dumps(
        {
            "names": [Path(name).name for name in outputs.image_filenames],
            "poses": cameras.camera_to_worlds.tolist(),
            "fx": cameras.fx[:, 0].tolist(),
            "sizes": torch.cat([cameras.height, cameras.width], 1).tolist(),
            "points": outputs.metadata["points3D_xyz"].tolist(),
            "colors": outputs.metadata["points3D_rgb"].tolist(),
        }
    )
)
