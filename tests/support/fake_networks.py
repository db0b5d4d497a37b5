"""Stand-ins for the packages of pose networks: their modules, calls and output layouts, as their repositories document them.

Each "predicts" the cameras that it was made with. It resizes, crops and pads the photos it is given by its own code, step by
step, and carries the intrinsics along in each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import Tensor, nn

PLANE = torch.tensor(
    [0.1, -0.2, 1.0], dtype=torch.float64
)  # what every camera sees: PLANE . x = DISTANCE in its own axes
DISTANCE = 3.0

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Rig:
    """Photos and their true cameras."""

    photos: list[Tensor]  # V of (3, H, W)
    w2c: Tensor  # (V, 4, 4) float64
    K: Tensor  # (V, 3, 3) float64, pixels of the photos


def random_cameras(sizes: Sequence[tuple[int, int]], seed: int = 0, centred: bool = True) -> Rig:
    """Noise photos of these (height, width), cameras turned any way."""
    generator = torch.Generator().manual_seed(seed)
    w2c = torch.eye(4, dtype=torch.float64).repeat(len(sizes), 1, 1)
    K = torch.zeros(len(sizes), 3, 3, dtype=torch.float64)
    for view, (height, width) in enumerate(sizes):
        q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
        rotation = q * r.diagonal().sign()
        w2c[view, :3, :3] = rotation * torch.linalg.det(rotation)
        w2c[view, :3, 3] = torch.randn(3, dtype=torch.float64, generator=generator)
        focal = max(height, width) * (0.7 + 0.6 * torch.rand(2, dtype=torch.float64, generator=generator))
        shift = torch.zeros(2) if centred else 20 * torch.rand(2, generator=generator) - 10
        K[view] = torch.tensor(
            [[focal[0], 0, width / 2 + shift[0]], [0, focal[1], height / 2 + shift[1]], [0, 0, 1]], dtype=torch.float64
        )
    return Rig([torch.rand(3, *size, generator=generator) for size in sizes], w2c, K)


class Picture:
    """An image and its intrinsics, corners at whole numbers, changed together."""

    def __init__(self, image: Image.Image, K: np.ndarray) -> None:
        self.image, self.K = image, K.copy()

    def resize(self, width: int, height: int) -> None:
        self.K[0] *= width / self.image.width
        self.K[1] *= height / self.image.height
        self.image = self.image.resize((width, height))

    def crop(self, left: int, top: int, width: int, height: int) -> None:
        """A part of the image; what lies outside is white."""
        canvas = Image.new("RGB", (width, height), (255, 255, 255))
        canvas.paste(self.image, (-left, -top))
        self.image = canvas
        self.K[0, 2] -= left
        self.K[1, 2] -= top

    @property
    def depth(self) -> np.ndarray:
        """(h, w) z of the plane at the pixel centres."""
        v, u = np.mgrid[: self.image.height, : self.image.width] + 0.5
        x, y = (u - self.K[0, 2]) / self.K[0, 0], (v - self.K[1, 2]) / self.K[1, 1]
        return DISTANCE / (PLANE[0].item() * x + PLANE[1].item() * y + PLANE[2].item())


class _Model(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)


def _modules(monkeypatch: pytest.MonkeyPatch, **contents: dict[str, Any]) -> None:
    """Puts modules in place: `vggt__models__vggt={...}` is vggt.models.vggt."""
    for name, members in contents.items():
        parts = name.split("__")
        for end in range(1, len(parts) + 1):
            full = ".".join(parts[:end])
            if full not in sys.modules or not isinstance(sys.modules[full], _Fake):
                monkeypatch.setitem(sys.modules, full, _Fake(full))
        vars(sys.modules[name.replace("__", ".")]).update(members)


class _Fake(ModuleType):
    pass


def fake_da3(monkeypatch: pytest.MonkeyPatch, rig: Rig, change: Change = lambda output: output) -> type[_Model]:
    """depth_anything_3.api, as docs/API.md and InputProcessor of ByteDance-Seed/Depth-Anything-3 describe it."""

    class DepthAnything3(_Model):
        device: Any = None

        def inference(self, image: list[np.ndarray], *, process_res: int, process_res_method: str) -> Any:
            print("a line on stdout")
            assert process_res_method == "upper_bound_resize" and all(i.dtype == np.uint8 for i in image)
            pictures = [Picture(Image.fromarray(i), k.numpy()) for i, k in zip(image, rig.K, strict=True)]
            for p in pictures:
                scale = process_res / max(p.image.size)
                p.resize(*(max(1, round(side * scale)) for side in p.image.size))
                p.resize(*(min(range(14, 1400, 14), key=lambda m: (abs(m - s), -m)) for s in p.image.size))
            width, height = (min(p.image.size[axis] for p in pictures) for axis in (0, 1))
            for p in pictures:
                p.crop((p.image.width - width) // 2, (p.image.height - height) // 2, width, height)
            output = SimpleNamespace(
                extrinsics=rig.w2c[:, :3].numpy().astype(np.float32),
                intrinsics=np.stack([p.K for p in pictures]).astype(np.float32),
                depth=np.stack([p.depth for p in pictures]).astype(np.float32),
                conf=np.stack([np.full((height, width), 2.0 + i) for i in range(len(pictures))]).astype(np.float32),
            )
            return change(output)

    _modules(monkeypatch, depth_anything_3__api={"DepthAnything3": DepthAnything3})
    return DepthAnything3


def fake_vggt(monkeypatch: pytest.MonkeyPatch, rig: Rig, change: Change = lambda output: output) -> type[_Model]:
    """vggt, as README, load_fn.py and pose_enc.py of facebookresearch/vggt describe it."""
    pictures: list[Picture] = []
    modes: list[str] = []

    def load_and_preprocess_images(image_path_list: list[str], mode: str = "crop") -> Tensor:
        pictures[:] = [
            Picture(Image.open(path).convert("RGB"), k.numpy()) for path, k in zip(image_path_list, rig.K, strict=True)
        ]
        modes.append(mode)
        for p in pictures:
            width, height = p.image.size
            if mode == "pad" and height > width:
                p.resize(round(width * 518 / height / 14) * 14, 518)
            else:
                p.resize(518, round(height * 518 / width / 14) * 14)
            if mode == "crop" and p.image.height > 518:
                p.crop(0, (p.image.height - 518) // 2, 518, 518)
            if mode == "pad":
                p.crop(-((518 - p.image.width) // 2), -((518 - p.image.height) // 2), 518, 518)
        height = max(p.image.height for p in pictures)
        for p in pictures:
            p.crop(0, -((height - p.image.height) // 2), 518, height)
        return torch.stack([torch.from_numpy(np.array(p.image)).permute(2, 0, 1) / 255.0 for p in pictures])

    def pose_encoding_to_extri_intri(encoding: Tensor, image_size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        x, y, z, w = encoding[..., 3:7].unbind(-1)  # scalar last
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)
        height, width = image_size_hw
        K = torch.zeros(*encoding.shape[:2], 3, 3)
        K[..., 0, 0] = width / 2 / torch.tan(encoding[..., 8] / 2)
        K[..., 1, 1] = height / 2 / torch.tan(encoding[..., 7] / 2)
        K[..., 0, 2], K[..., 1, 2], K[..., 2, 2] = width / 2, height / 2, 1.0
        return torch.cat([rotation, encoding[..., :3, None]], -1), K

    class VGGT(_Model):
        modes_seen = modes

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            print("a line on stdout")
            height, width = images.shape[-2:]
            codes = []
            for view, p in enumerate(pictures):
                q = quat_xyzw(rig.w2c[view, :3, :3])
                fov = [2 * np.arctan(height / 2 / p.K[1, 1]), 2 * np.arctan(width / 2 / p.K[0, 0])]
                codes.append(torch.cat([rig.w2c[view, :3, 3], q, torch.tensor(fov)]))
            depth = torch.stack([torch.from_numpy(p.depth) for p in pictures]).float()
            confidence = torch.stack([torch.full_like(d, 2.0 + i) for i, d in enumerate(depth)])
            return change(
                {
                    "pose_enc": torch.stack(codes)[None].float(),
                    "depth": depth[None, ..., None],
                    "depth_conf": confidence[None],
                }
            )

    _modules(
        monkeypatch,
        vggt__models__vggt={"VGGT": VGGT},
        vggt__utils__load_fn={"load_and_preprocess_images": load_and_preprocess_images},
        vggt__utils__pose_enc={"pose_encoding_to_extri_intri": pose_encoding_to_extri_intri},
    )
    return VGGT


def fake_mapanything(monkeypatch: pytest.MonkeyPatch, rig: Rig, change: Change = lambda output: output) -> type[_Model]:
    """mapanything, as README, utils/image.py and models/mapanything/model.py of facebookresearch/map-anything describe it."""
    pictures: list[Picture] = []
    seen: list[list[dict[str, Any]]] = []
    table = {
        1.0: (518, 518),
        1.321: (518, 392),
        1.542: (518, 336),
        1.762: (518, 294),
        0.757: (392, 518),
        0.649: (336, 518),
    }

    def preprocess_inputs(input_views: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pictures[:] = [
            Picture(Image.fromarray(view["img"]), k.numpy()) for view, k in zip(input_views, rig.K, strict=True)
        ]
        ratio = np.mean([p.image.width / p.image.height for p in pictures])
        width, height = table[min(table, key=lambda key: abs(key - ratio))]
        for p in pictures:
            scale = max(width / p.image.width, height / p.image.height) + 1e-8
            p.resize(int(p.image.width * scale), int(p.image.height * scale))
            p.crop((p.image.width - width) // 2, (p.image.height - height) // 2, width, height)
        images = [torch.from_numpy(np.array(p.image)).permute(2, 0, 1)[None] / 255.0 for p in pictures]
        return [{"img": image, "data_norm_type": ["dinov2"]} for image in images]

    class MapAnything(_Model):
        views_seen = seen
        pictures_seen = pictures

        def infer(self, views: list[dict[str, Any]], *, use_amp: bool, amp_dtype: str) -> list[dict[str, Tensor]]:
            print("a line on stdout")
            seen.append(views)
            whole = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # pixel centres at whole numbers
            output = []
            for view, p in enumerate(pictures):
                depth = torch.from_numpy(p.depth).float()
                output.append(
                    {
                        "camera_poses": torch.linalg.inv(rig.w2c[view])[None].float(),
                        "intrinsics": torch.from_numpy(p.K - whole)[None].float(),
                        "depth_z": depth[None, ..., None],
                        "conf": torch.full_like(depth, 2.0 + view)[None],
                    }
                )
            return change(output)

    _modules(
        monkeypatch,
        mapanything__models={"MapAnything": MapAnything},
        mapanything__utils__image={"preprocess_inputs": preprocess_inputs},
    )
    return MapAnything


def quat_xyzw(rotation: Tensor) -> Tensor:
    """The quaternion, scalar last, as the eigenvector of Bar-Itzhack's matrix."""
    m = rotation.numpy()
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    return torch.from_numpy(np.linalg.eigh(k)[1][:, -1].copy())


FAKES = {"da3-base": fake_da3, "vggt": fake_vggt, "mapanything": fake_mapanything}
