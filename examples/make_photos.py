"""Makes the example photos: a furnished room corner, ray-cast, photographed by a simulated camera in eight places.

    python examples/make_photos.py                 # writes photos/, ground_truth/ and heldout/ beside this file
    python examples/make_photos.py --out elsewhere

It needs numpy and Pillow only and takes one to two minutes on one core. The room is drawn by `raycast.py`, which
shares no code with sparse3d: cameras, depths and held-out photos are ground truth from an independent hand. The same
versions of numpy and Pillow write the same bytes; nothing is drawn from the clock or the system's randomness.

The camera has no lens distortion. Its 35 mm equivalent focal length is 28 mm by the diagonal, as the EXIF standard's
FocalLengthIn35mmFilm is commonly read: focal in pixels = 28 / 43.2666 * diagonal in pixels, 43.2666 mm being the
diagonal of 36 x 24 mm. The diagonal of 1008 x 756 is 1260, so the true focal length is 815.40 pixels.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from raycast import Camera, Scene
from raycast_shapes import Array
from room_scene import build_room

WIDTH, HEIGHT = 1008, 756
FOCAL_35MM = 28
FOCAL_MM = 7.0  # the sensor's diagonal is a quarter of film's: 8.65 x 6.49 mm
FOCAL_PX = FOCAL_35MM / float(np.hypot(36, 24)) * float(np.hypot(WIDTH, HEIGHT))
DEPTH_WIDTH = WIDTH // 4
DEPTH_UNIT_M = 0.001
ON_ITS_SIDE = "room_06"  # this photo is stored with EXIF orientation 6, as phones store upright pictures

# where along the camera's path, in steps between two photos, each picture was taken
PHOTOS = {f"room_{k + 1:02d}": float(k) for k in range(8)}
HELDOUT = {"room_heldout_1": 2.5, "room_heldout_2": 5.45}


def camera_at(step: float) -> Camera:
    """The camera on its path: an arc of 51 degrees about the coffee table's far side, walked with unsteady hands.

    Args:
        step: 0 is the first photo and 7 the last; between them the held-out photos.
    """
    azimuth = np.radians(19.5 + 51 / 7 * step + 0.8 * np.sin(2.3 * step))
    radius = 3.35 + 0.09 * np.sin(1.7 * step + 0.5)
    eye = np.array(
        [1.0 + radius * np.cos(azimuth), 1.0 + radius * np.sin(azimuth), 1.50 + 0.10 * np.sin(1.3 * step + 1)]
    )
    target = np.array(
        [0.98 + 0.08 * np.sin(1.1 * step), 1.0 + 0.07 * np.cos(1.9 * step), 0.86 + 0.05 * np.sin(2.7 * step)]
    )
    roll = np.radians(2.2 * np.sin(2.9 * step + 0.4))
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c2w = np.eye(4)
    c2w[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    c2w[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    c2w[:3, 2], c2w[:3, 3] = forward, eye
    return Camera(c2w, FOCAL_PX, WIDTH, HEIGHT)


@dataclass(frozen=True)
class Sensor:
    """What the simulated camera does to light: strengths for linear values in [0, 1]."""

    exposure: float = 1.18  # mean over the photos
    exposure_spread: float = 0.05  # relative, from photo to photo
    vignetting: float = 0.16  # light lost in the corners
    blur_px: float = 0.45  # standard deviation of the lens blur
    shot_noise: float = 0.00006  # variance per unit of light
    read_noise: float = 0.0012  # standard deviation in the dark

    def exposure_at(self, step: float) -> float:
        """Exposure of one photo; it drifts along the path, as automatic exposure does."""
        return self.exposure * (1 + self.exposure_spread * float(np.sin(1.9 * step + 0.7)))

    def expose(self, radiance: Array, step: float) -> Array:
        """Linear light on the sensor, before blur and noise. (height, width, 3)"""
        height, width = radiance.shape[:2]
        y, x = np.meshgrid(np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2, indexing="ij")
        corner = (x * x + y * y) / (0.25 * (height * height + width * width))
        return (radiance * (self.exposure_at(step) * (1 - self.vignetting * corner))[..., None]).astype(np.float32)

    def photograph(self, radiance: Array, step: float, seed: int) -> NDArray[np.uint8]:
        """The finished picture: exposed, blurred, with noise, in sRGB. (height, width, 3)"""
        rng = np.random.default_rng(seed)
        light = _blur(self.expose(radiance, step), self.blur_px)
        deviation = np.sqrt(np.maximum(light, 0) * self.shot_noise + self.read_noise**2)
        light = (light + deviation * rng.standard_normal(light.shape, dtype=np.float32)).astype(np.float32)
        return (to_srgb(light) * 255 + 0.5).astype(np.uint8)


def to_srgb(linear: Array) -> Array:
    """sRGB of linear colours, clipped to [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _blur(image: Array, sigma: float) -> Array:
    """Gaussian blur of 5 x 5 pixels, edges repeated."""
    weights = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
        size = image.shape[axis]
        blurred = np.sum([w * np.take(padded, range(k, k + size), axis) for k, w in enumerate(weights)], axis=0)
        image = blurred.astype(np.float32)
    return image


def jpeg(picture: NDArray[np.uint8], on_its_side: bool) -> bytes:
    """A JPEG file with the EXIF fields that a phone writes; on its side, it is turned and orientation says 6."""
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "sparse3d", "ray caster"  # Make, Model
    exif[0x0112] = 6 if on_its_side else 1  # Orientation; 6: turn clockwise by 90 degrees to view
    details = exif.get_ifd(0x8769)
    details[0x920A] = IFDRational(int(FOCAL_MM * 100), 100)  # FocalLength
    details[0xA405] = FOCAL_35MM  # FocalLengthIn35mmFilm
    if on_its_side:
        image = image.transpose(Image.Transpose.ROTATE_90)  # counterclockwise
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True, exif=exif)
    return buffer.getvalue()


def frame_of(camera: Camera, file_path: str) -> dict[str, object]:
    """One frame of transforms.json; its axes are OpenGL's: x right, y up, z backwards."""
    opengl = camera.c2w @ np.diag([1.0, -1, -1, 1])
    return {"file_path": file_path, "transform_matrix": np.round(opengl, 9).tolist()}


def write_transforms(path: Path, frames: list[dict[str, object]]) -> None:
    """Writes transforms.json in the layout of nerfstudio."""
    layout = {
        "camera_model": "OPENCV",
        "fl_x": FOCAL_PX,
        "fl_y": FOCAL_PX,
        "cx": WIDTH / 2,
        "cy": HEIGHT / 2,
        "w": WIDTH,
        "h": HEIGHT,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "frames": frames,
    }
    path.write_text(json.dumps(layout, indent=1) + "\n")


def write_depth(path: Path, depth: Array) -> None:
    """Writes depth as a 16-bit PNG in steps of DEPTH_UNIT_M; 0 where there is none."""
    steps = np.round(depth / DEPTH_UNIT_M).astype(np.uint16)
    Image.fromarray(steps).save(path, optimize=True)


def photograph(scene: Scene, name: str, step: float) -> bytes:
    """The JPEG file of one photo."""
    seed = 1 + list({**PHOTOS, **HELDOUT}).index(name)
    return jpeg(Sensor().photograph(scene.render(camera_at(step)), step, seed), name == ON_ITS_SIDE)


def main() -> None:
    """Writes photos, ground truth and held-out photos."""
    parser = argparse.ArgumentParser(description="Makes the example photos, their cameras and their depths.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write into (default: this file's)"
    )
    out: Path = parser.parse_args().out
    photos, truth, heldout = out / "photos", out / "ground_truth", out / "heldout"
    for folder in (photos, truth, heldout):
        folder.mkdir(parents=True, exist_ok=True)
    scene = build_room()
    frames: list[dict[str, object]] = []
    for name, step in PHOTOS.items():
        (photos / f"{name}.jpg").write_bytes(photograph(scene, name, step))
        write_depth(truth / f"{name}_depth.png", scene.depth(camera_at(step).scaled_to(DEPTH_WIDTH)))
        depth = {"depth_file_path": f"{name}_depth.png", "depth_unit_scale_factor": DEPTH_UNIT_M}
        frames.append(frame_of(camera_at(step), f"../photos/{name}.jpg") | depth)
        print(f"{name}.jpg", flush=True)
    write_transforms(truth / "transforms.json", frames)
    for name, step in HELDOUT.items():
        (heldout / f"{name}.jpg").write_bytes(photograph(scene, name, step))
        print(f"{name}.jpg (held out)", flush=True)
    write_transforms(
        heldout / "transforms.json", [frame_of(camera_at(step), f"{name}.jpg") for name, step in HELDOUT.items()]
    )


if __name__ == "__main__":
    main()
