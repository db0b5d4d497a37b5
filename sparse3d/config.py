"""Settings: nested frozen dataclasses, strict YAML presets, and `--set a.b=c`.

`--set` beats the preset, which beats the defaults here. A preset in configs/ holds only what differs.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from sparse3d.errors import UserError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class PhotosConfig:
    """Reading photos."""

    max_size: int = 1008  # longer side of the working images, pixels
    frames: int = 12  # frames taken from a video
    intrinsics: str = ""  # fx,fy,cx,cy or fx,cx,cy or fx, pixels of the files; empty: by EXIF, or a guess


@dataclass(frozen=True)
class PoseConfig:
    """Structure from motion."""

    matchers: str = "auto"  # as sift+aliked: in this order until all photos are held; auto: SIFT, then a learned one
    time_limit_s: float = 300.0  # after this long no further rung of the ladder is begun
    max_size: int = 1600  # longer side of the images that features are found in, pixels
    max_features: int = 8192  # SIFT features per photo
    learned_features: int = 1024  # learned features per photo
    peak_threshold: float = 0.004  # SIFT detection threshold; lower finds more, weaker features
    shared_camera: bool = True  # photos of one size, camera and EXIF focal length share their intrinsics
    min_inliers: int = 20  # verified matches a pair of photos needs to count
    min_ratio: float = 0.25  # share of its matches that a pair needs to agree on one geometry
    min_sure: float = 30.0  # sum of the scores (0 to 1 each) of the matches that hold two groups of photos together
    min_held: float = 0.2  # their share of all matches between the two groups
    max_error: float = 0.002  # distance to the epipolar line up to which a match agrees, times the longer side
    init_angle_deg: float = 2.0  # triangulation angle the first pair needs
    resection_inliers: int = 20  # 2D-3D matches a photo needs to be placed
    refine_given: bool = False  # adjust poses given with --poses to the photos' matches; intrinsics stay
    network: str = (
        "none"  # that predicts cameras to start from, see docs/pose-networks.md; what it gives has to hold too
    )
    network_weights: str = ""  # hub id, folder or checkpoint instead of the published weights
    accept_license: bool = False  # of network weights that ask for it
    max_focal_ratio: float = 3.0  # focal length is kept within [1/this, this] times the longer side


@dataclass(frozen=True)
class InitConfig:
    """First Gaussians."""

    method: Literal["auto", "sfm", "planesweep", "mvsplat", "pixelsplat", "depthsplat"] = (
        "auto"  # auto: plane sweep, and SfM points in its holes
    )
    weights: str = ""  # of a network: a name of `sparse3d models list`, a file, or owner/name/file on the hub
    network_size: int | None = (
        None  # shorter side of what a network is fed, the photos' shape kept; None: as it was trained
    )
    accept_license: bool = False  # of weights on the hub that are not in `sparse3d models list`
    max_size: int = 504  # longer side of the images that are swept, pixels
    planes: int = 128  # depth planes at most, even in inverse depth
    plane_step: float = (
        1.0  # pixels that a point moves in another view from one plane to the next, where planes suffice
    )
    sources: int = 4  # views each view is compared with
    window: int = 7  # side of the ZNCC window, odd, pixels
    feature_weight: float = 0.0  # of XFeat's features against grey values; needs `sparse3d models fetch xfeat`
    min_confidence: float = 0.5  # depths less likely than this to be right within 3 % are left out
    consistency: float = 0.03  # relative depth difference at which two views still agree
    stride: int = 2  # one Gaussian per stride x stride swept pixels
    max_gaussians: int = 250_000  # dense Gaussians at most; with more, the stride is raised
    near: float | None = None  # nearest plane, world units; from the sparse points when left out
    far: float | None = None  # farthest plane, world units; from the sparse points when left out


@dataclass(frozen=True)
class DensifyConfig:
    """Views that a prior draws where no photo was taken."""

    prior: str = "auto"  # none, a name of `sparse3d densify --help`, or auto: the best that has a GPU and its weights here, else none
    weights: str = ""  # of the prior: hub id or local folder; empty: the published ones
    views: int = 48  # how many are drawn
    path: str = "auto"  # auto, spline, ellipse, spiral, lemniscate, dolly, or a nerfstudio camera path (.json)
    prompt: str = ""  # what priors that read are told of the scene
    strength: float = 1.0  # where sampling starts: 1 from noise, less from what the photos show of the view
    steps: int | None = None  # of the prior's sampler; its own number when left out
    share: float = 0.3  # of the optimization's steps that look at a drawn view
    accept_license: bool = False  # of weights that forbid commercial use


@dataclass(frozen=True)
class RegularizeConfig:
    """A prior that takes part in the optimization: the one that densify.prior names, else classical."""

    kind: Literal["none", "refresh", "sample", "sds", "sdi", "vsd"] = (
        "none"  # refresh: it redraws views now and then; others: by its score, every few steps
    )
    views: int = 24  # cameras that it is asked for
    max_size: int = 504  # longer side of these views, pixels; of scores what the prior was trained at
    start: float = 0.1  # share of the steps after which it takes part
    every: int = 200  # refresh: steps between two of them, at least a twentieth of all
    share: float = 0.3  # refresh: of all steps that look at a drawn view; those with photos stay as many
    weight: float = 0.3  # refresh: of a drawn pixel, against one of a photo
    strength: float = 0.9  # refresh: where the prior's sampling starts at first: 1 from noise, less from the renders
    strength_final: float = 0.2  # and at the last step
    interval: int = 4  # of scores: steps between two steps by them
    score_weight: float = 1.0  # of scores: of their loss
    guidance: float | None = None  # of scores: away from no conditions; the prior's own when left out
    space: Literal["latent", "pixel"] = "latent"  # sds, sdi, vsd: where renders are moved; pixel needs less memory
    lora_lr: float = 1e-4  # vsd: of the low-rank addition


@dataclass(frozen=True)
class LiftConfig:
    """A scene of one photo."""

    depth_model: str = "auto"  # auto, geometric, or a hub id or folder of a depth network of transformers
    depth: str = ""  # a depth map of the photo instead: .npy, .exr or .png
    travel: float | None = None  # how far cameras will move, in median depths; by the kind of depth when left out


@dataclass(frozen=True)
class OptimizeConfig:
    """Fitting the Gaussians to the views."""

    steps: int = 1500  # one view each
    coarse: float = 0.5  # share of the steps, the first ones, that are drawn at half the size
    ssim_weight: float = 0.4  # share of D-SSIM in the loss, the rest is L1 (3DGS eq. 7, which has 0.2)
    means_lr: float = 5e-4  # in `means_lr_unit`
    means_lr_final: float = 5e-6  # in `means_lr_unit`, reached exponentially at the last step
    means_lr_unit: Literal["depth", "rig"] = (
        "depth"  # the median depth of what views see at first, or 3DGS' size of the camera rig
    )
    scales_lr: float = 0.01  # twice 3DGS': what fades has to be covered by what stays
    quats_lr: float = 1e-3
    opacities_lr: float = (
        0.01  # a fifth of 3DGS': what few views cannot agree on has to fade faster than each can learn it by heart
    )
    sh_lr: float = 2.5e-3  # degree 0; higher degrees take a twentieth
    sh_degree: int = 1  # highest degree, 0 to 3
    sh_interval: int = 1000  # steps after which the degree in use is raised by one
    dropout: float = 0.2  # Gaussians left out of a step (DropGaussian, arXiv:2504.09491); 0 turns it off
    dropout_from: float = 0.1  # share of the steps after which dropout begins
    opacity_decay: float = (
        0.996  # opacities are multiplied by this each step (Binocular3DGS, arXiv:2410.18822); 1 turns it off
    )
    guess_decay: float = 0.997  # and those of Gaussians whose depth is a guess by this as well; 1 turns it off
    background: Literal["black", "white", "mean"] = "mean"  # what lies behind the scene; mean: the views' mean colour
    antialiased: bool = False  # Mip-Splatting's opacity compensation
    strategy: Literal["none", "mcmc"] = "none"  # adding and removing Gaussians; off by default: few views memorize
    max_gaussians: int = 500_000  # mcmc: upper limit of the count
    refine_interval: int = 100  # mcmc: steps between relocations
    refine_stop: float = 0.8  # mcmc: share of the steps after which the count is fixed
    noise: float = 1.6e5  # mcmc: strength of the exploration noise on the means
    prune_opacity: float = 0.005  # Gaussians below this opacity are removed at the end
    refine_cameras: Literal["auto", "on", "off"] = "auto"  # move the cameras too; auto: when they were estimated
    cameras_lr_deg: float = 0.02  # root mean square shift that a step makes of what a view sees, degrees of view
    cameras_lr_final_deg: float = 2e-4  # reached exponentially at the last step, degrees of view
    cameras_from: float = 0.05  # share of the steps after which cameras move
    cameras_max_deg: float = (
        1.0  # a camera turns at most so far, degrees, and moves at most by that angle of its distance
    )
    cameras_max_focal: float = (
        0.0  # relative change of a focal length at most; 0: kept (few views hardly tell it from depth)
    )
    exposure: Literal["auto", "on", "off"] = (
        "auto"  # a gain per photo and channel; auto: when a photo is half a stop off the mean
    )
    checkpoint_interval: int = 250  # steps between checkpoints
    time_limit_s: float | None = None  # stop early after this long; None: never


@dataclass(frozen=True)
class _Range:
    """Numbers that a setting may be, ends included unless said otherwise. Infinity and nan are in none."""

    low: float
    high: float = math.inf
    low_is_in: bool = True
    high_is_in: bool = True
    odd: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low <= value if self.low_is_in else self.low < value
        below = value <= self.high if self.high_is_in else value < self.high
        return above and below and value < math.inf and not (self.odd and value % 2 == 0)

    def __str__(self) -> str:
        low = f"{'at least' if self.low_is_in else 'more than'} {self.low:,}"
        high = "" if self.high == math.inf else f" and {'at most' if self.high_is_in else 'less than'} {self.high:,}"
        return f"{'an odd number, ' if self.odd else ''}{low}{high}"


_SHARE = _Range(0, 1)
_COUNT = _Range(1)
_POSITIVE = _Range(0, low_is_in=False)
_NOT_NEGATIVE = _Range(0)

_RANGES: dict[str, _Range] = {
    "photos.max_size": _Range(64),
    "photos.frames": _Range(2),
    "pose.time_limit_s": _POSITIVE,
    "pose.max_size": _Range(64),
    "pose.max_features": _Range(64),
    "pose.learned_features": _Range(64),
    "pose.peak_threshold": _POSITIVE,
    "pose.min_inliers": _COUNT,
    "pose.min_ratio": _SHARE,
    "pose.min_sure": _NOT_NEGATIVE,
    "pose.min_held": _SHARE,
    "pose.max_error": _POSITIVE,
    "pose.init_angle_deg": _Range(0, 180, high_is_in=False),
    "pose.resection_inliers": _COUNT,
    "pose.max_focal_ratio": _Range(1),
    "init.max_size": _Range(32),
    "init.planes": _Range(3),  # the least that a parabola between planes needs
    "init.sources": _COUNT,
    "init.window": _Range(3, 11, odd=True),  # the compiled sweep's largest is 11
    "init.min_confidence": _SHARE,
    "init.feature_weight": _SHARE,
    "init.plane_step": _POSITIVE,
    "init.network_size": _Range(32),
    "init.consistency": _POSITIVE,
    "init.stride": _COUNT,
    "init.max_gaussians": _COUNT,
    "init.near": _POSITIVE,
    "init.far": _POSITIVE,
    "densify.views": _COUNT,
    "densify.strength": _Range(0, 1, low_is_in=False),
    "densify.steps": _COUNT,
    "densify.share": _Range(0, 1, high_is_in=False),
    "regularize.views": _COUNT,
    "regularize.max_size": _Range(32),
    "regularize.start": _SHARE,
    "regularize.every": _COUNT,
    "regularize.share": _Range(0, 0.5),  # at most one such step after each with a photo
    "regularize.weight": _SHARE,
    "regularize.strength": _Range(0, 1, low_is_in=False),
    "regularize.strength_final": _Range(0, 1, low_is_in=False),
    "regularize.interval": _COUNT,
    "regularize.score_weight": _NOT_NEGATIVE,
    "regularize.lora_lr": _NOT_NEGATIVE,
    "lift.travel": _Range(0, 2, low_is_in=False),
    "optimize.steps": _COUNT,
    "optimize.coarse": _SHARE,
    "optimize.ssim_weight": _SHARE,
    "optimize.means_lr": _POSITIVE,  # not 0, for the rate goes from one to the other by equal factors
    "optimize.means_lr_final": _POSITIVE,
    "optimize.scales_lr": _NOT_NEGATIVE,
    "optimize.quats_lr": _NOT_NEGATIVE,
    "optimize.opacities_lr": _NOT_NEGATIVE,
    "optimize.sh_lr": _NOT_NEGATIVE,
    "optimize.sh_degree": _Range(0, 3),
    "optimize.sh_interval": _COUNT,
    "optimize.dropout": _Range(0, 1, high_is_in=False),
    "optimize.dropout_from": _SHARE,
    "optimize.opacity_decay": _Range(0, 1, low_is_in=False),
    "optimize.guess_decay": _Range(0, 1, low_is_in=False),
    "optimize.max_gaussians": _COUNT,
    "optimize.refine_interval": _COUNT,
    "optimize.refine_stop": _SHARE,
    "optimize.noise": _NOT_NEGATIVE,
    "optimize.prune_opacity": _SHARE,
    "optimize.cameras_lr_deg": _POSITIVE,
    "optimize.cameras_lr_final_deg": _POSITIVE,
    "optimize.cameras_from": _SHARE,
    "optimize.cameras_max_deg": _Range(0, 90, low_is_in=False, high_is_in=False),
    "optimize.cameras_max_focal": _Range(0, 1, high_is_in=False),
    "optimize.checkpoint_interval": _COUNT,
    "optimize.time_limit_s": _POSITIVE,
    "seed": _Range(0, 2**31 - 1),  # COLMAP's is a 32-bit integer
}


@dataclass(frozen=True)
class Config:
    """Everything a run can be told."""

    photos: PhotosConfig = field(default_factory=PhotosConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    init: InitConfig = field(default_factory=InitConfig)
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    regularize: RegularizeConfig = field(default_factory=RegularizeConfig)
    lift: LiftConfig = field(default_factory=LiftConfig)
    optimize: OptimizeConfig = field(default_factory=OptimizeConfig)
    renderer: Literal["auto", "gsplat", "cpu", "reference"] = "auto"
    seed: int = 0


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(entry.name[:-5] for entry in files("sparse3d.configs").iterdir() if entry.name.endswith(".yaml"))


def load_config(preset: str = "balanced", assignments: Sequence[str] = ()) -> Config:
    """Defaults, then a preset, then single assignments.

    Args:
        preset: Name of a preset in configs/, or the path of a YAML file.
        assignments: Each `section.name=value`, value read as YAML, as in `optimize.steps=500`.

    Raises:
        UserError: unknown preset or key, or a value of the wrong type or out of its range; names the file, and the
            nearest valid key or the allowed range.
    """
    names = preset_names()
    if preset in names:
        source, text = f"{preset}.yaml", (files("sparse3d.configs") / f"{preset}.yaml").read_text(encoding="utf-8")
    elif Path(preset).suffix in (".yaml", ".yml"):
        if not Path(preset).is_file():
            raise UserError(f"no preset file {preset}. Give an existing YAML file, or one of: {', '.join(names)}")
        source, text = preset, Path(preset).read_text(encoding="utf-8")
    else:
        raise UserError(
            f"unknown preset {preset!r}{did_you_mean(preset, names)}; choose one of: {', '.join(names)}, or a .yaml file"
        )
    return with_assignments(update(Config(), _parse(text, source), source), assignments)


def with_assignments(config: Config, assignments: Sequence[str]) -> Config:
    """Settings with some of them replaced, each as `section.name=value`; errors as of `load_config`."""
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UserError(f"--set {assignment}: needed section.name=value, as in --set optimize.steps=500")
        nested: Any = _parse(value, f"--set {assignment}", mapping=False)
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        config = update(config, nested, "--set")
    near, far = config.init.near, config.init.far
    if near is not None and far is not None and near >= far:
        raise UserError(f"init.near is {near:g} and init.far is {far:g}, needed init.near < init.far")
    return config


def update(config: T, values: Mapping[str, Any], source: str, path: str = "") -> T:
    """A copy of a settings dataclass with some values replaced, checked strictly.

    Args:
        config: A settings dataclass.
        values: Nested mapping of names to values.
        source: Where the values come from, for messages.
        path: Dotted path of `config` in the whole, for messages.

    Raises:
        UserError: unknown name, wrong type, or a number out of its range.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: {path or 'the settings'} needed a mapping of names to values, found {values!r}")
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            where = path or "the top level"
            raise UserError(f"{source}: {where} has no setting {name!r}{did_you_mean(str(name), hints)}")
        full = f"{path}.{name}" if path else name
        current = getattr(config, name)
        changes[name] = (
            update(current, value, source, full)
            if dataclasses.is_dataclass(current)
            else _in_range(_checked(value, hints[name], f"{source}: {full}"), full, source)
        )
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def as_dict(config: Any) -> dict[str, Any]:
    """A settings dataclass as nested plain values, ready for JSON or YAML."""
    return dataclasses.asdict(config)


def _parse(text: str, source: str, mapping: bool = True) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {error}") from error
    return {} if value is None and mapping else value


def _checked(value: Any, hint: Any, where: str) -> Any:
    """The value when it has the hinted type, an int turned into the float that was asked for; else an error."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is Literal:
            if isinstance(value, bool) and {"on", "off"} <= set(typing.get_args(option)):
                return "on" if value else "off"  # what YAML makes of these two words
            if value in typing.get_args(option):
                return value
        elif option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        elif option is float and isinstance(value, str):  # YAML reads 1e-3 as a string
            try:
                return float(value)
            except ValueError:
                continue
        elif isinstance(value, option) and not (option is int and isinstance(value, bool)):
            return value
    raise UserError(f"{where} is {value!r}, needed {_describe(options)}")


def _in_range(value: Any, key: str, source: str) -> Any:
    """The value when the setting of this dotted name may be it; else an error."""
    allowed = _RANGES.get(key)
    if allowed is not None and value is not None and value not in allowed:
        raise UserError(f"{source}: {key} is {value!r}, needed {allowed}")
    return value


def _describe(options: Sequence[Any]) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing (null)"}
    return " or ".join(
        f"one of {', '.join(map(str, typing.get_args(o)))}" if typing.get_origin(o) is Literal else words.get(o, str(o))
        for o in options
    )
