"""Every parser of files that strangers may have made, with seeds; what they raise must be a `UserError`."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import resource
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from support.synthetic import textured_plane

from sparse3d.batch.find import Defaults, find_jobs, jobs_of_lines
from sparse3d.batch.record import Record
from sparse3d.config import Config, load_config, update, with_assignments
from sparse3d.errors import UserError
from sparse3d.io.arkit import read_scanner_app
from sparse3d.io.colmap import read_model, write_model
from sparse3d.io.images import image_size, read_depth, read_image, write_depth, write_image
from sparse3d.io.intrinsics import parse_intrinsics
from sparse3d.io.metashape import read_metashape
from sparse3d.io.nerfstudio import read_camera_path, read_transforms, write_transforms
from sparse3d.io.ply import read_gaussians, write_gaussians
from sparse3d.io.realitycapture import read_csv, read_xmp
from sparse3d.io.scene import SceneFolder
from sparse3d.lift.depth_file import depth_of_file
from sparse3d.pipeline.budget import parse_size
from sparse3d.types import Gaussians

CORPUS = Path(__file__).parents[1] / "corpus"  # NAME/*: what once went wrong
SIZES = {"a": (12, 16), "a.jpg": (12, 16)}
_WORDS = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"99999999999",
    b"\xff\xfe",
    b"\0",
    b"\n",
    b"../",
    b'"',
]


def _silent(message: str) -> None:
    """Takes warnings and does nothing."""


@dataclass(frozen=True)
class Target:
    """A parser."""

    file: str  # name of the file that it is given
    run: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]  # good files, made in an empty folder
    apart: bool = False  # a library in C++ that might take the process along


def check(name: str, data: bytes, folder: Path) -> None:
    """Gives bytes to a parser.

    Raises:
        AssertionError: a process of its own died, took more than 30 s, or raised something else than a UserError.
        Exception: whatever it raised that is not a UserError.
    """
    target = TARGETS[name]
    file = folder / target.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    if target.apart:
        _APART.run(name, file)
        return
    try:
        target.run(file)
    except UserError:
        pass


class _Apart:
    """A process that runs parsers which might take it along; a new one after each death. Not a fork: COLMAP's threads do not survive it."""

    def __init__(self) -> None:
        self.process: multiprocessing.process.BaseProcess | None = None

    def run(self, name: str, file: Path) -> None:
        """As `check`."""
        if self.process is None or not self.process.is_alive():
            context = multiprocessing.get_context("spawn")
            self.pipe, far = context.Pipe()
            self.process = context.Process(target=_serve, args=(far,), daemon=True)
            self.process.start()
            far.close()
            assert self.pipe.poll(120) and self.pipe.recv() == "ready"
        self.pipe.send((name, str(file)))
        try:
            answer = self.pipe.recv() if self.pipe.poll(30) else "took more than 30 s"
        except EOFError:
            self.process.join()
            answer = f"its process ended by {self.process.exitcode}"
        if answer:
            self.process.kill()
            self.process.join()
        assert not answer, answer


def _serve(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        name, file = pipe.recv()
        try:
            TARGETS[name].run(Path(file))
            pipe.send("")
        except UserError:
            pipe.send("")
        except Exception:  # noqa: BLE001  told to the other side, which raises it
            pipe.send(traceback.format_exc())


_APART = _Apart()


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A good file with some bytes changed, cut out, repeated, or words of JSON and CSV put in; or bytes out of nowhere."""
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 24)))
        kind = draw(st.sampled_from(["set", "cut", "end", "twice", "word", "number", "bytes"]))
        if kind == "set" and start < len(data):
            data[start] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[start:end]
        elif kind == "end":
            del data[start:]
        elif kind == "twice":
            data[start:start] = data[start:end]
        elif kind == "word":
            data[start:end] = draw(st.sampled_from(_WORDS))
        elif kind == "number":
            data[start : start + 8] = draw(st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1])).to_bytes(
                8, "little"
            )
        elif kind == "bytes":
            data[start:start] = draw(st.binary(max_size=12))
    return bytes(data)


def _ply(folder: Path) -> list[bytes]:
    write_gaussians(folder / "a.ply", _gaussians())
    names = [
        "x",
        "y",
        "z",
        "f_dc_0",
        "f_dc_1",
        "f_dc_2",
        "opacity",
        "scale_0",
        "scale_1",
        "scale_2",
        "rot_0",
        "rot_1",
        "rot_2",
        "rot_3",
    ]
    header = "ply\nformat ascii 1.0\nelement vertex 1\n" + "".join(f"property float {name}\n" for name in names)
    text = header + "end_header\n" + " ".join("1" for _ in names) + "\n"
    return [
        (folder / "a.ply").read_bytes(),
        text.encode(),
        text.replace("float rot_3", "list uchar int rot_3").encode(),
    ]


def _gaussians() -> Gaussians:
    return Gaussians(torch.rand(5, 3), torch.rand(5, 4), torch.rand(5, 3), torch.rand(5), torch.rand(5, 4, 3))


def _transforms(folder: Path) -> list[bytes]:
    posed, _ = textured_plane(12, 16)
    write_transforms(folder / "t.json", posed.views)
    fisheye = json.loads((folder / "t.json").read_text())
    fisheye |= {"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "w": 16, "h": 12}
    angle = {
        "camera_angle_x": 0.8,
        "aabb_scale": 4,
        "frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}],
    }
    return [(folder / "t.json").read_bytes(), json.dumps(fisheye).encode(), json.dumps(angle).encode()]


def _path(folder: Path) -> list[bytes]:
    entry = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 50, "aspect": 1}
    path = {
        "camera_type": "perspective",
        "render_height": 12,
        "render_width": 16,
        "fps": 24,
        "seconds": 1,
        "camera_path": [entry],
    }
    return [json.dumps(path).encode()]


def _model(name: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        write_model(folder, textured_plane(12, 16)[0], binary=name.endswith(".bin"))
        return [(folder / name).read_bytes()]

    return seeds


def _read_model(file: Path) -> object:
    if len(list(file.parent.glob("*.*"))) < 3:
        whole = file.read_bytes()
        write_model(file.parent, textured_plane(12, 16)[0], binary=file.suffix == ".bin")
        file.write_bytes(whole)
    return read_model(file.parent)


def _scene(folder: Path) -> list[bytes]:
    manifest = {"format": 2, "sparse3d": "0.1", "stages": {"01_pose": {"key": "k", "seconds": 1.0, "warnings": []}}}
    manifest |= {"published": {"01_pose": "k"}, "settings": {"init": {"planes": 64}}, "held_out": ["a"]}
    return [json.dumps(manifest).encode(), json.dumps(manifest | {"format": 1}).encode()]


def _read_scene(file: Path) -> object:
    scene = SceneFolder.open(file.parent)
    return (
        scene.keys(),
        scene.is_done("01_pose", "k"),
        update(Config(), scene.manifest().get("settings", {}), "scene.json"),
    )


def _image(folder: Path) -> list[bytes]:
    from PIL import Image

    write_image(folder / "a.png", torch.rand(3, 8, 9), torch.rand(8, 9) > 0.5)
    write_image(folder / "a.jpg", torch.rand(3, 8, 9))
    picture = Image.open(folder / "a.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found = [(folder / name).read_bytes() for name in ("a.png", "a.jpg")]
    for suffix in ("webp", "tif", "bmp", "gif", "ppm"):
        picture.convert("RGB").save(folder / f"b.{suffix}", **({"exif": exif} if suffix in ("webp", "tif") else {}))
        found.append((folder / f"b.{suffix}").read_bytes())
    return [*found, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"]


def _depth(folder: Path) -> list[bytes]:
    write_depth(folder / "a.png", torch.rand(8, 9))
    return [(folder / "a.png").read_bytes()]


def _npy(folder: Path) -> list[bytes]:
    np.save(folder / "a.npy", np.random.default_rng(0).random((8, 9), np.float32) + 1)
    return [(folder / "a.npy").read_bytes()]


_METASHAPE = b"""<?xml version="1.0"?><document version="1.2.0"><chunk><sensors><sensor id="0" type="frame">
<resolution width="16" height="12"/><calibration type="frame" class="adjusted"><resolution width="16" height="12"/><f>20</f><cx>0</cx><cy>0</cy>
<k1>0.01</k1></calibration></sensor></sensors><components><component id="0"><transform><rotation>1 0 0 0 1 0 0 0 1</rotation>
<translation>0 0 0</translation><scale>1</scale></transform></component></components><cameras>
<camera id="0" sensor_id="0" component_id="0" label="a"><transform>1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1</transform></camera>
</cameras></chunk></document>"""
_CAPTURE = b"#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\na.jpg,1,2,3,10,20,30,35,0,0,0,0,0,0,0,0\n"
_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#" xcr:Version="3" xcr:DistortionModel="brown3" xcr:FocalLength35mm="35" xcr:Skew="0"
xcr:AspectRatio="1" xcr:PrincipalPointU="0" xcr:PrincipalPointV="0"><xcr:Rotation>1 0 0 0 1 0 0 0 1</xcr:Rotation>
<xcr:Position>0 0 0</xcr:Position><xcr:DistortionCoeficients>0 0 0 0 0 0</xcr:DistortionCoeficients></rdf:Description></rdf:RDF></x:xmpmeta>"""
_SCANNER = json.dumps(
    {"intrinsics": [20, 0, 8, 0, 20, 6, 0, 0, 1], "cameraPoseARFrame": np.eye(4).flatten().tolist(), "time": 0.5}
).encode()
_YAML = b"photos:\n  max_size: 200\noptimize:\n  steps: 3\n  background: white\nseed: 3\n"
_ROWS = b'{"photos": "a", "name": "b", "seed": 3, "set": {"optimize.steps": 3}}\n{"photos": ["a", "b"], "holdout": 2, "init.planes": 9}\n'
_COLUMNS = b"photos,name,seed,set,optimize.steps\na,b,3,init.planes=9; seed=4,30\n"
_OUT = Defaults("out")


def _of(*seeds: bytes) -> Callable[[Path], list[bytes]]:
    return lambda folder: list(seeds)


TARGETS: dict[str, Target] = {
    "ply": Target("a.ply", read_gaussians, _ply),
    "transforms": Target("transforms.json", lambda file: read_transforms(file, SIZES), _transforms),
    "camera-path": Target("path.json", read_camera_path, _path),
    "metashape": Target("cameras.xml", lambda file: read_metashape(file, _silent), _of(_METASHAPE)),
    "capture-csv": Target("a.csv", lambda file: read_csv(file, SIZES), _of(_CAPTURE)),
    "capture-xmp": Target("a.xmp", lambda file: read_xmp([file], SIZES), _of(_XMP)),
    "scanner-app": Target("frame_00000.json", lambda file: read_scanner_app([file], SIZES), _of(_SCANNER)),
    "config": Target("a.yaml", lambda file: load_config(str(file)), _of(_YAML)),
    "assignment": Target(
        "a.txt", lambda file: with_assignments(Config(), [file.read_text("latin-1")]), _of(b"optimize.steps=3", b"photos.intrinsics='1,2,3,4'")
    ),
    "intrinsics": Target("a.txt", lambda file: parse_intrinsics(file.read_text("latin-1")), _of(b"500,500,320,240", b"500")),
    "size": Target("a.txt", lambda file: parse_size(file.read_text("latin-1"), "x"), _of(b"4GB", b"1.5 MiB")),
    "scene": Target("scene.json", _read_scene, _scene),
    "batch-record": Target("batch.json", Record, _of(b'{"format": 1, "scenes": [{"name": "a", "state": "done", "key": "k"}]}')),
    "batch-jsonl": Target("a.jsonl", lambda file: find_jobs([file], _OUT), _of(_ROWS)),
    "batch-csv": Target("a.csv", lambda file: find_jobs([file], _OUT), _of(_COLUMNS)),
    "batch-lines": Target("a.txt", lambda file: jobs_of_lines(file.read_text("latin-1"), _OUT), _of(_ROWS, b"/tmp\n/etc\n")),
    "image": Target("a.jpg", lambda file: (image_size(file), read_image(file)), _image),
    "depth": Target("a.png", read_depth, _depth),
    "depth-npy": Target("a.npy", lambda file: depth_of_file(file, 8, 9, _silent), _npy),
    "colmap-cameras": Target("m/cameras.txt", _read_model, _model("cameras.txt"), apart=True),
    "colmap-images": Target("m/images.txt", _read_model, _model("images.txt"), apart=True),
    "colmap-points": Target("m/points3D.txt", _read_model, _model("points3D.txt"), apart=True),
    "colmap-binary": Target("m/images.bin", _read_model, _model("images.bin"), apart=True),
}  # fmt: skip
